// Tokens that run out: who renews does not notice, who does not is told why, and nobody else is disturbed.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Editor, generations, Line, v2, v3, v4 } from './lib/collab.mjs'
import { Server } from './lib/server.mjs'
import { token } from './lib/token.mjs'
import { until, windowOf } from './lib/until.mjs'

const TTL_SECONDS = 5
const GRACE_SECONDS = 2
const WATCHED_MS = 30_000
const STEP_MS = 250

const start = (t) => Server.start(t, { dev: false, env: { SYNCLINE_AUTH__GRACE_SECONDS: String(GRACE_SECONDS) } })
const lasting = (sub) => token({ '*': 'write' }, { sub })
const short = (sub, access = 'write') => token({ '*': access }, { sub, ttlSeconds: TTL_SECONDS })

/** Somebody who types for a while, each edit saved and seen by `witness` before the next. Returns the longest wait. */
const typesWithoutGap = async (editor, witness) => {
  const since = Date.now()
  let longest = 0
  for (let n = 0; Date.now() - since < WATCHED_MS; n++) {
    const began = Date.now()
    editor.type(`${n};`)
    await editor.saved()
    await until(() => witness.text === editor.text, `edit ${n} at the witness`)
    longest = Math.max(longest, Date.now() - began)
    await windowOf(STEP_MS)
  }
  return longest
}

describe('tokens of five seconds', { concurrency: true }, () => {
  for (const generation of [v4, v3]) {
    test(`${generation.name}: renewed when asked, 30 s without a gap`, async (t) => {
      const server = await start(t)
      let asked = 0
      const alice = await new Editor(t, [generation, server], 'renewed', {
        token: async () => {
          asked++
          return short('alice')
        }
      }).synced()
      const bob = await new Editor(t, [v2, server], 'renewed', { token: lasting('bob') }).synced()
      const longest = await typesWithoutGap(alice, bob)
      assert.deepEqual([alice.line.dials, alice.refusals, alice.line.closes], [1, [], []])
      // Once per token's life, a little before its end; never again and again.
      assert.ok(asked >= WATCHED_MS / 1000 / TTL_SECONDS && asked <= 15, `${asked} tokens in 30 s`)
      t.diagnostic(`${asked} tokens, longest edit ${longest} ms`)
    })
  }

  // It does not understand the question. Its application can show a new token; or it is sent away and returns with one.
  test(`${v2.name}: renewed by its application, 30 s without a gap`, async (t) => {
    const server = await start(t)
    const alice = await new Editor(t, [v2, server], 'renewed', { token: () => short('alice') }).synced()
    const bob = await new Editor(t, [v4, server], 'renewed', { token: lasting('bob') }).synced()
    const timer = setInterval(() => alice.showToken(), (TTL_SECONDS - 2) * 1000)
    t.after(() => clearInterval(timer))
    const longest = await typesWithoutGap(alice, bob)
    assert.deepEqual([alice.line.dials, alice.refusals], [1, []])
    t.diagnostic(`longest edit ${longest} ms`)
  })

  test(`${v2.name}: not renewed, alone on its socket, it returns with a new token and nothing is lost`, async (t) => {
    const server = await start(t)
    const alice = await new Editor(t, [v2, server], 'returns', { token: () => short('alice') }).synced()
    const bob = await new Editor(t, [v4, server], 'returns', { token: lasting('bob') }).synced()
    const since = Date.now()
    let typed = 0
    while (Date.now() - since < WATCHED_MS) {
      alice.type(`${typed++};`)
      await windowOf(STEP_MS)
    }
    await alice.saved()
    await until(() => bob.text === alice.text, 'everything at bob')
    assert.ok(alice.line.dials > 1, 'it was never sent away')
    assert.ok(alice.line.closes.every(([code, reason]) => code === 4501 && reason === 'AUTH_EXPIRED'), String(alice.line.closes))
    t.diagnostic(`${typed} edits, ${alice.line.dials} dials`)
  })

  for (const generation of generations) {
    test(`${generation.name}: not renewed, refused at the end of its grace, its neighbour goes on`, async (t) => {
      const server = await start(t)
      const line = new Line(t, generation, server)
      const neighbour = await line.open(t, 'neighbour', { token: lasting('alice') }).synced()
      const stale = short('alice')
      const began = Date.now()
      const alice = await line.open(t, 'stale', { token: stale }).synced()
      const bob = await new Editor(t, [v4, server], 'stale', { token: lasting('bob') }).synced()
      alice.awareness.setLocalState({ name: 'alice' })
      await until(() => bob.others().includes('alice'), 'alice is seen')
      alice.type('in time;')
      await alice.saved()
      assert.equal(await alice.refused(), 'AUTH_EXPIRED')
      const tookMs = Date.now() - began
      // The claim has whole seconds, so a token of five lives four to five; the leeway is for clocks that disagree.
      assert.ok(tookMs > (TTL_SECONDS - 1 + GRACE_SECONDS) * 1000 - 200, `refused after ${tookMs} ms`)
      alice.type('too late;')
      await until(() => !bob.others().includes('alice'), 'alice is gone')
      for (let n = 0; n < 10; n++) {
        neighbour.type('.')
        await neighbour.saved()
        await windowOf(STEP_MS)
      }
      assert.equal(bob.text, 'in time;')
      assert.notEqual(alice.isSaved, true)
      assert.deepEqual([line.dials, neighbour.refusals], [1, []])
      t.diagnostic(`refused after ${tookMs} ms`)

      alice.detach()
      alice.token = lasting('alice')
      alice.attach()
      await alice.saved()
      await until(() => bob.text === 'in time;too late;', 'what was typed meanwhile')
      assert.equal(line.dials, 1)
    })
  }

  test(`${v4.name}: renewed with fewer rights, it becomes a reader`, async (t) => {
    const server = await start(t)
    let access = 'write'
    const alice = await new Editor(t, [v4, server], 'down', { token: () => short('alice', access) }).synced()
    const bob = await new Editor(t, [v3, server], 'down', { token: lasting('bob') }).synced()
    alice.type('may;')
    await alice.saved()
    access = 'read'
    await until(() => alice.scopes.at(-1) === 'readonly', 'the downgrade')
    alice.type('may not;')
    bob.type('bob;')
    await until(() => alice.text.includes('bob;'), 'what bob writes')
    assert.equal(bob.text, 'may;bob;')
    assert.equal(alice.provider.hasUnsyncedChanges, true)
    assert.deepEqual([alice.line.dials, alice.refusals], [1, []])
  })
})
