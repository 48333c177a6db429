// Who may not enter, and how the clients of each age take it; tokens that run out and are renewed.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { converged, Peer, v210, v300, v310 } from './lib/clients.mjs'
import { readText } from './lib/content.mjs'
import { command, Server } from './lib/server.mjs'
import { token } from './lib/token.mjs'
import { until, windowOf } from './lib/until.mjs'

const write = { 'notes/*': 'write' }
// Tests that fail to enter on purpose are told apart from an attack: the limit has tests of its own.
const patient = { SYNCLINE_LIMITS__FAILED_CONNECTS_PER_MINUTE: '0', SYNCLINE_AUTH__GRACE_SECONDS: '1' }

describe('refusal', { concurrency: true }, () => {
  const refusals = [
    ['without a token', {}, 4401],
    ['with a foreign token', { token: token(write, { secret: 'somebody-elses-secret-somebody-elses' }) }, 4401],
    ['with garbage for a token', { token: 'not.a.token' }, 4401],
    ['with a token for another document', { token: token({ 'other/*': 'write' }) }, 4403],
    ['with a token that says none', { token: token({ 'notes/*': 'write', 'notes/secret': 'none' }) }, 4403]
  ]
  for (const [how, params, code] of refusals) {
    test(`${v310.name} ${how} is closed ${code} and stops dialling`, async (t) => {
      const server = await Server.start(t, { dev: false, env: patient })
      const mallory = new Peer(t, v310, server, 'notes/secret', { params })
      await until(() => mallory.closed, 'the closed event', 30_000)
      assert.equal(mallory.closed.code, code)
      // The longest pause between two dials of this client is 2.5 s.
      await windowOf(4000)
      assert.equal(mallory.dials, 1)
      assert.equal(readText(mallory.doc), '')
    })
  }

  for (const client of [v300, v210]) {
    test(`${client.name} cannot be stopped, so it is slowed`, async (t) => {
      const server = await Server.start(t, { dev: false })
      const mallory = new Peer(t, client, server, 'notes/one', { params: { token: 'not.a.token' } })
      await until(() => mallory.dials > 0, 'a first dial')
      await windowOf(8000)
      // Closed at once it would have dialled about 80 times.
      assert.ok(mallory.dials <= 6, `${mallory.dials} dials in 8 s`)
      assert.equal(mallory.isSynced, false)
    })
  }

  test('a token minted by the command line opens what it says', async (t) => {
    const server = await Server.start(t, { dev: false, env: patient })
    const minted = await command('token', '--sub', 'alice', '--access', 'notes/*=write', '--ttl', '1h')
    const alice = await new Peer(t, v310, server, 'notes/one', { params: { token: minted } }).synced()
    alice.doc.getText('text').insert(0, 'hello')
    await alice.acknowledged()
  })

  test('a reader reads and is seen, but what he writes reaches nobody and he is told', async (t) => {
    const server = await Server.start(t, { dev: false, env: patient })
    const alice = await new Peer(t, v310, server, 'notes/one', { params: { token: token(write) } }).synced()
    alice.doc.getText('text').insert(0, 'hello')
    const params = { token: token({ 'notes/*': 'read' }, { sub: 'rita' }) }
    const rita = await new Peer(t, v310, server, 'notes/one', { params }).synced()
    rita.awareness.setLocalState({ name: 'rita' })
    await until(() => alice.others().includes('rita'), 'the reader is seen')
    assert.equal(await converged([alice, rita], readText), 'hello')

    let told = false
    rita.provider.messageHandlers[2] = () => { told = true }
    rita.doc.getText('text').insert(0, 'never ')
    await until(() => told || rita.closes.includes(4403), 'an answer to the refused write')
    alice.doc.getText('text').insert(5, ' there')
    await alice.acknowledged()
    const late = await new Peer(t, v310, server, 'notes/one', { params: { token: token(write) } }).synced()
    assert.equal(readText(late.doc), 'hello there')
  })
})

describe('token rotation', { concurrency: true }, () => {
  for (const client of [v310, v300]) {
    test(`${client.name}: an expired token closes 4501 and the client returns with a fresh one`, async (t) => {
      const server = await Server.start(t, { dev: false, env: patient })
      const alice = await new Peer(t, client, server, 'notes/one', { params: { token: token(write, { ttlSeconds: 3 }) } }).synced()
      alice.doc.getText('text').insert(0, 'before ')
      await alice.acknowledged()
      alice.provider.on('connection-close', () => { alice.provider.params = { token: token(write) } })
      await until(() => alice.closes.length > 0, 'the close at expiry', 30_000)
      assert.equal(alice.closes[0], 4501)
      alice.doc.getText('text').insert(7, 'between ')
      await alice.synced()
      alice.doc.getText('text').insert(15, 'after')
      await alice.acknowledged()
      const bob = await new Peer(t, client, server, 'notes/one', { params: { token: token(write) } }).synced()
      assert.equal(await converged([alice, bob], readText), 'before between after')
    })
  }

  test(`${v310.name}: a token that is already old at the door is a reason to come back, not to stop`, async (t) => {
    const server = await Server.start(t, { dev: false, env: patient })
    const params = { token: token(write, { ttlSeconds: -600 }) }
    const alice = new Peer(t, v310, server, 'notes/one', { params })
    await until(() => alice.closes.length > 0, 'a close', 30_000)
    assert.equal(alice.closes[0], 4501)
    assert.equal(alice.closed, null)
    alice.provider.params = { token: token(write) }
    await alice.synced()
  })

  test('a refused client that is given a token and connects again gets in', async (t) => {
    const server = await Server.start(t, { dev: false, env: patient })
    const alice = new Peer(t, v310, server, 'notes/one')
    await until(() => alice.closed, 'refused', 30_000)
    alice.provider.params = { token: token(write) }
    alice.connect()
    await alice.synced()
  })
})
