// "Saved" means on disk: what the providers count as unsaved reaches zero only when the server has made it durable, also
// when the disk fails for a while, and when the server is killed right after.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { after, describe, test } from 'node:test'
import * as Y from 'yjs'
import { converged } from './lib/clients.mjs'
import { Editor, generations, HASTY, Line } from './lib/collab.mjs'
import { readText } from './lib/content.mjs'
import { draws } from './lib/draws.mjs'
import { Server } from './lib/server.mjs'
import { until, windowOf } from './lib/until.mjs'

const ROUNDS = Number(process.env.INTEROP_KILL_ROUNDS ?? 100)
const SEED = Number(process.env.INTEROP_SEED ?? randomInt(2 ** 31))
const OUTAGE_MS = 3000

const server = await Server.start({ after })

const neverNegative = (editor) => assert.ok(Math.min(0, ...editor.counts) === 0, `counts ${editor.counts.slice(-20)}`)

/** Resolves when `editor` is saved, and checks what it was told on the way. */
const settled = async (editor) => {
  await editor.saved()
  neverNegative(editor)
  assert.equal(editor.provider.unsyncedChanges, 0)
}

/** The next edit is unsaved, then saved. A surplus answer from before would count it down early, so those come first. */
const nextIsHonest = async (editor, other) => {
  // What is on disk later than all that is owed: an answer that waits for the disk has left when this was saved.
  other.type('other;')
  await settled(other)
  const heard = editor.letters.length
  other.provider.sendStateless('done')
  await until(() => editor.letters.length > heard, 'what comes after the answers')
  const told = editor.counts.length
  editor.type('next;')
  await settled(editor)
  assert.deepEqual(editor.counts.slice(told), [1, 0])
}

/** What the server has of a document now, as text. */
const stored = async (where, name) => {
  const doc = new Y.Doc()
  const state = await where.state(name)
  if (state !== null) Y.applyUpdate(doc, state)
  return readText(doc)
}

for (const generation of generations) {
  const named = (story) => `${generation.major}/${story}`

  describe(`saved, ${generation.name}`, { concurrency: true }, () => {
    test('every edit is counted, and counted down to zero: one, a thousand quick ones, and a paste of 1 MB', async (t) => {
      const alice = await new Editor(t, [generation, server], named('counts')).synced()
      await settled(alice)
      alice.type('one')
      assert.equal(alice.provider.unsyncedChanges, 1)
      await settled(alice)
      for (let n = 0; n < 1000; n++) alice.type('x')
      assert.equal(alice.provider.unsyncedChanges, 1000)
      await settled(alice)
      alice.type('y'.repeat(1_000_000))
      assert.equal(alice.provider.hasUnsyncedChanges, true)
      await settled(alice)
      assert.equal((await stored(server, named('counts'))).length, 1_001_003)
      // Deletions say nothing new about state vectors, and count all the same.
      for (let n = 0; n < 100; n++) alice.doc.getText('text').delete(0, 1)
      assert.equal(alice.provider.unsyncedChanges, 100)
      await settled(alice)
      assert.equal((await stored(server, named('counts'))).length, 1_000_903)
      assert.equal(alice.line.dials, 1)
    })

    test('forced synchronisations, one by one, many at once, and in the middle of edits, end at zero', async (t) => {
      const name = named('forced')
      const alice = await new Editor(t, [generation, server], name).synced()
      const bob = await new Editor(t, [generation, server], name).synced()
      await settled(alice)
      for (let n = 0; n < 5; n++) {
        alice.provider.forceSync()
        assert.equal(alice.provider.unsyncedChanges, 1)
        await settled(alice)
      }
      for (let n = 0; n < 50; n++) alice.provider.forceSync()
      await settled(alice)
      await nextIsHonest(alice, bob)
      // 2.x forgets what is on its way when it is forced, counts that down too, and stays below zero; no server can help it.
      if (generation.major === 2) return
      for (let n = 0; n < 20; n++) {
        for (let k = 0; k < 10; k++) alice.type(`${n}.${k};`)
        alice.provider.forceSync()
        alice.type('after;')
      }
      await settled(alice)
      await nextIsHonest(alice, bob)
      assert.equal(await stored(server, name), alice.text)
    })

    test('edits while the socket is down or just coming up are counted right', async (t) => {
      const alice = await new Editor(t, [generation, server, HASTY], named('broken')).synced()
      const bob = await new Editor(t, [generation, server], named('broken')).synced()
      await settled(alice)
      let round = 0
      // The provider queues these until the socket is up, and has them in its first synchronisation as well.
      alice.line.socket.on('close', () => {
        for (let n = 0; n < 3; n++) alice.type(`offline ${round}.${n};`)
        alice.doc.getText('text').delete(0, 2)
        assert.equal(alice.isSaved, false)
      })
      for (; round < 5; round++) {
        const { ends } = alice.line
        alice.type(`before ${round};`)
        alice.line.break()
        await until(() => alice.line.ends > ends, 'the break')
        await settled(alice)
        assert.equal(await stored(server, named('broken')), alice.text)
        await nextIsHonest(alice, bob)
      }
    })

    test('while the disk fails nothing is saved, and everything is once it works again, without a reconnect', async (t) => {
      const faulty = await Server.start(t)
      const line = new Line(t, generation, faulty)
      const [alice, spare] = [line.open(t, 'faulty'), line.open(t, 'spare')]
      const bob = await new Editor(t, [generation, faulty], 'faulty').synced()
      alice.type('before;')
      await alice.saved()
      await spare.saved()
      await faulty.failWrites()
      const told = alice.counts.length
      const since = Date.now()
      let typed = 0
      while (Date.now() - since < OUTAGE_MS) {
        alice.type(`${typed++};`)
        await windowOf(100)
        assert.equal(alice.provider.unsyncedChanges, typed, 'something was called saved')
      }
      // The others see it at once: "saved" is what waits.
      await until(() => bob.text === alice.text, 'the edits at bob')
      spare.type('too')
      assert.equal(spare.provider.hasUnsyncedChanges, true)
      await faulty.allowWrites()
      await settled(alice)
      await settled(spare)
      assert.deepEqual([line.dials, bob.line.dials], [1, 1])
      t.diagnostic(`${typed} edits in ${OUTAGE_MS} ms of outage, ${alice.counts.length - told - typed} counted down after it`)
      await faulty.stop('SIGKILL')
      for (const editor of [alice, spare, bob]) editor.line.close()
      await faulty.resume()
      assert.equal(await stored(faulty, 'faulty'), alice.text)
      assert.equal(await stored(faulty, 'spare'), 'too')
    })
  })
}

test(`${ROUNDS} times killed at a random moment: whatever was called saved is there afterwards`, async (t) => {
  t.diagnostic(`INTEROP_SEED=${SEED}`)
  const draw = draws(SEED)
  const below = (n) => Math.floor(draw() * n)
  // Small enough for compactions to be among the moments.
  const victim = await Server.start(t, { env: { SYNCLINE_STORE__COMPACT_BYTES: '4096' } })
  const names = ['one', 'two']
  const lines = generations.map((generation) => new Line(t, generation, victim, HASTY))
  const editors = lines.flatMap((line) => names.map((name) => line.open(t, name)))
  // Per editor: how often it has written, and how many of those were called saved at some time.
  const accounts = editors.map((editor) => ({ editor, key: String(editor.doc.clientID), written: 0, promised: 0 }))
  const write = (account) => {
    account.written++
    account.editor.doc.getArray(account.key).push([account.written])
  }
  const note = (account) => { if (account.editor.isSaved) account.promised = account.written }
  for (const account of accounts) account.editor.provider.on('unsyncedChanges', () => note(account))
  let promises = 0
  for (let round = 0; round < ROUNDS; round++) {
    for (const { editor } of accounts) await editor.synced(60_000)
    const before = accounts.map(({ promised }) => promised)
    const rounds = 1 + below(8)
    for (let turn = 0; turn < rounds; turn++) {
      const account = accounts[below(accounts.length)]
      for (let n = below(20); n >= 0; n--) write(account)
      // Half of the turns wait for the promise, so that the kill comes right after it or in the middle of the next.
      if (below(2) === 0) await account.editor.saved()
    }
    await windowOf(below(15))
    const { signal } = await victim.stop('SIGKILL')
    assert.equal(signal, 'SIGKILL')
    promises += accounts.filter(({ promised }, n) => promised > before[n]).length
    for (const { editor } of accounts) await until(() => !editor.provider.synced, 'the end of the connection')
    // On another port: nobody who has it may be back before it is looked at.
    victim.port = 0
    await victim.resume()
    for (const name of names) {
      const kept = new Y.Doc()
      const state = await victim.state(name)
      if (state !== null) Y.applyUpdate(kept, state)
      const reader = await new Editor(t, [generations[round % 3], victim], name).synced()
      for (const { editor, key, promised } of accounts) {
        if (editor.provider.configuration.name !== name) continue
        for (const doc of [kept, reader.doc]) {
          assert.ok(doc.getArray(key).length >= promised,
            `round ${round}, ${name}: ${doc.getArray(key).length} of ${promised} edits called saved (INTEROP_SEED=${SEED})`)
        }
      }
      reader.leave()
      reader.line.close()
    }
    for (const line of lines) line.aim(victim)
  }
  for (const { editor } of accounts) await editor.saved(60_000)
  for (const name of names) {
    await converged(editors.filter((editor) => editor.provider.configuration.name === name), (doc) =>
      Object.fromEntries([...doc.share.keys()].sort().map((key) => [key, doc.getArray(key).length])))
  }
  const total = accounts.reduce((sum, { written }) => sum + written, 0)
  t.diagnostic(`${ROUNDS} rounds, ${total} edits, ${promises} promises put to the test, none broken`)
})
