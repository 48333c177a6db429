// Rights that are taken back reach live channels, and only those.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { once } from 'node:events'
import { describe, test } from 'node:test'
import { Editor, generations, Line, v3, v4 } from './lib/collab.mjs'
import { Server } from './lib/server.mjs'
import { token } from './lib/token.mjs'
import { until } from './lib/until.mjs'

const env = { SYNCLINE_LIMITS__FAILED_CONNECTS_PER_MINUTE: '0' }
const operator = token({ '*': 'admin' }, { sub: 'operator' })
const writes = (sub, claims) => token({ '*': 'write' }, { sub, ...claims })

/** Takes rights back; answers how many channels were told. */
const revoke = async (server, body) => {
  const response = await fetch(`${server.url}/v1/admin/revoke`, {
    method: 'POST',
    headers: { authorization: `Bearer ${operator}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(20_000)
  })
  assert.equal(response.status, 200, await response.clone().text())
  return (await response.json()).channels
}

/** Acts, and waits until all of `editors` were refused: how many channels were told, how long it took, and the reasons. */
const refusedBy = async (act, editors) => {
  const before = editors.map(({ refusals }) => refusals.length)
  const began = Date.now()
  const channels = await act()
  await until(() => editors.every(({ refusals }, n) => refusals.length > before[n]),
    () => `refusals: ${JSON.stringify(editors.map(({ refusals }) => refusals))}`)
  return { channels, tookMs: Date.now() - began, reasons: editors.map(({ refusals }) => refusals.at(-1)) }
}

describe('revoked', { concurrency: true }, () => {
  test('a user loses all channels of all generations; others, also on the same sockets, go on', async (t) => {
    const server = await Server.start(t, { dev: false, env })
    const alices = []
    const others = []
    for (const generation of generations) {
      // One socket that two people share: each document brings its own token.
      const line = new Line(t, generation, server)
      for (const name of ['one', 'two']) alices.push(await line.open(t, `${name} ${generation.major}`, { token: writes('alice') }).synced())
      others.push(await line.open(t, `three ${generation.major}`, { token: writes('bob') }).synced())
      alices.push(await new Editor(t, [generation, server], `one ${generation.major}`, { token: writes('alice') }).synced())
    }
    for (const alice of alices) {
      alice.awareness.setLocalState({ name: 'alice' })
      alice.type('before;')
      await alice.saved()
    }
    const witness = await new Editor(t, [v4, server], 'one 2', { token: writes('carol') }).synced()
    await until(() => witness.others().join() === 'alice,alice', 'alice is there twice')

    const { channels, tookMs, reasons } = await refusedBy(() => revoke(server, { sub: 'alice', mode: 'disconnect' }), alices)
    assert.equal(channels, alices.length)
    assert.deepEqual(new Set(reasons), new Set(['FORBIDDEN']))
    await until(() => witness.others().length === 0, 'alice is gone from presence')
    for (const alice of alices) alice.type('after;')
    for (const other of others) {
      other.type('goes on')
      await other.saved()
      assert.deepEqual([other.refusals, other.line.dials], [[], 1])
    }
    witness.type('!')
    await witness.saved()
    assert.ok(!witness.text.includes('after'))
    t.diagnostic(`${channels} channels in ${tookMs} ms`)

    // The same token does not open the door again, a later one does.
    const [alice] = alices
    alice.detach()
    alice.attach()
    await until(() => alice.refusals.length > 1, 'a second refusal')
    const later = Math.floor(Date.now() / 1000) + 2
    alice.detach()
    alice.token = writes('alice', { iat: later })
    await until(() => Date.now() / 1000 > later, 'a token made later')
    alice.attach()
    await alice.saved()
  })

  for (const [what, body, claims] of [
    ['a token', { jti: 'stolen' }, { jti: 'stolen' }],
    ['a room', { room: 'shut', mode: 'disconnect' }, {}]
  ]) {
    test(`${what}: its channels end, the others go on`, async (t) => {
      const server = await Server.start(t, { dev: false, env })
      const hit = []
      const spared = []
      for (const generation of generations) {
        const line = new Line(t, generation, server)
        hit.push(await line.open(t, 'shut', { token: writes('alice', claims) }).synced())
        spared.push(await line.open(t, 'open', { token: writes('alice') }).synced())
      }
      const { channels, tookMs, reasons } = await refusedBy(() => revoke(server, body), hit)
      assert.equal(channels, hit.length)
      assert.deepEqual(new Set(reasons), new Set([body.jti === undefined ? 'FORBIDDEN' : 'AUTH_FAILED']))
      for (const editor of spared) {
        editor.type('goes on')
        await editor.saved()
        assert.deepEqual([editor.refusals, editor.line.dials], [[], 1])
      }
      t.diagnostic(`${channels} channels in ${tookMs} ms`)
    })
  }

  test('rights that the application lowers or raises hold from the next look, without a new token', async (t) => {
    const rights = { one: 'write', two: 'write', three: 'write' }
    const application = createServer(async (request, response) => {
      const body = JSON.parse(Buffer.concat(await request.toArray()))
      const access = body.sub === 'alice' ? rights[body.room] : 'write'
      response.setHeader('content-type', 'application/json').end(JSON.stringify({ access }))
    })
    application.listen(0, '127.0.0.1')
    await once(application, 'listening')
    t.after(() => application.close())
    const callback = `http://127.0.0.1:${application.address().port}/rights`
    const server = await Server.start(t, { dev: false, env: { ...env, SYNCLINE_AUTH__CALLBACK_URL: callback } })
    const people = []
    for (const generation of generations) {
      const line = new Line(t, generation, server)
      const [one, two, three] = ['one', 'two', 'three'].map((name) => line.open(t, name, { token: writes('alice') }))
      for (const editor of [one, two, three]) await editor.saved()
      people.push({ one, two, three, line })
    }
    const bob = await new Editor(t, [v3, server], 'one', { token: writes('bob') }).saved()

    rights.one = 'read'
    rights.two = 'none'
    assert.equal(await revoke(server, { sub: 'alice' }), 9)
    for (const { one, two, three, line } of people) {
      await until(() => one.scopes.at(-1) === 'readonly', 'a reader')
      assert.equal(await two.refused(), 'FORBIDDEN')
      one.type('in vain;')
      three.type('goes on;')
      await three.saved()
      assert.equal(one.provider.hasUnsyncedChanges, true)
      assert.deepEqual([line.dials, one.refusals, three.refusals], [1, [], []])
    }
    bob.type('bob;')
    await bob.saved()
    for (const { one } of people) await until(() => one.text.includes('bob;'), 'what bob writes')
    assert.equal(bob.text, 'bob;')

    rights.one = 'write'
    assert.equal(await revoke(server, { room: 'one' }), 4)
    for (const { one } of people) {
      await until(() => one.scopes.at(-1) === 'read-write', 'a writer again')
      one.provider.forceSync()
      await one.saved()
    }
    await until(() => bob.text.split('in vain;').length === 4, 'what had been refused')
  })
})
