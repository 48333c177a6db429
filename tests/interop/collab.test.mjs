// The Hocuspocus providers at `/collab`: what each generation does with several documents, several rights and one socket.

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import * as Y from 'yjs'
import { converged } from './lib/clients.mjs'
import { Editor, generations, Line, sees, v2, v3, v4 } from './lib/collab.mjs'
import { read, readText, writeEverything } from './lib/content.mjs'
import { Server } from './lib/server.mjs'
import { token } from './lib/token.mjs'
import { until, windowOf } from './lib/until.mjs'

const DOCUMENTS = 200

const open = await Server.start({ after })
// Tests that fail to enter on purpose are told apart from an attack: the limit has tests of its own.
const guarded = await Server.start({ after }, { dev: false, env: { SYNCLINE_LIMITS__FAILED_CONNECTS_PER_MINUTE: '0' } })

const writer = (sub = 'alice') => token({ '*': 'write' }, { sub })
const reader = (sub = 'rita') => token({ '*': 'read' }, { sub })

/** Everybody on `server` reads the same, the server included. */
const agreed = async (server, name, editors, headers) => {
  const content = await converged(editors, read)
  const doc = new Y.Doc()
  Y.applyUpdate(doc, await server.state(name, headers))
  assert.deepEqual(read(doc), content)
  return content
}

for (const generation of generations) {
  const other = { 4: v2, 3: v4, 2: v3 }[generation.major]

  describe(generation.name, { concurrency: true }, () => {
    const named = (story) => `${generation.major}/${story}`

    test('every shared type both ways, also to another generation', async (t) => {
      const name = named('types/a b/ü')
      const alice = await new Editor(t, [generation, open], name).synced()
      const bob = await new Editor(t, [generation, open], name).synced()
      const carol = await new Editor(t, [other, open], name).synced()
      for (const [who, editor] of Object.entries({ alice, bob, carol })) writeEverything(editor.doc, who)
      const content = await agreed(open, name, [alice, bob, carol])
      assert.equal(Object.keys(content.map).length, 9)
      for (const editor of [alice, bob, carol]) await editor.saved()
    })

    test('presence both ways: join, change, leave, return', async (t) => {
      const name = named('presence')
      const alice = await new Editor(t, [generation, open], name).synced()
      alice.awareness.setLocalState({ name: 'alice', cursor: null })
      const bob = await new Editor(t, [other, open], name).synced()
      bob.awareness.setLocalState({ name: 'bob' })
      await sees(alice, ['bob'])
      await sees(bob, ['alice'])
      alice.provider.setAwarenessField('cursor', { anchor: 3, ü: '😀' })
      await until(() => bob.others('cursor')[0]?.anchor === 3, 'the changed cursor')
      const carol = await new Editor(t, [generation, open], name).synced()
      await until(() => carol.others().length === 2, 'who was there before')
      alice.awareness.setLocalState(null)
      await until(() => !bob.others().includes('alice'), 'alice is gone')
      alice.awareness.setLocalState({ name: 'alice again' })
      await until(() => bob.others().includes('alice again'), 'alice is back')
      alice.leave()
      await until(() => !bob.others().includes('alice again'), 'alice left')
      carol.line.die()
      await sees(bob, [])
    })

    test('a stateless message reaches the other clients of the document, and only those', async (t) => {
      const name = named('stateless')
      const alice = await new Editor(t, [generation, open], name).synced()
      const bob = await new Editor(t, [generation, open], name).synced()
      const carol = await new Editor(t, [other, open], name).synced()
      const elsewhere = await bob.line.open(t, named('stateless elsewhere')).synced()
      const letters = ['hello', '', JSON.stringify({ ünïcödé: '👩‍👩‍👧', many: 'x'.repeat(50_000) })]
      for (const letter of letters) alice.provider.sendStateless(letter)
      await until(() => bob.letters.length >= 3 && carol.letters.length >= 3, 'the messages')
      assert.deepEqual(bob.letters, letters)
      assert.deepEqual(carol.letters, letters)
      carol.provider.sendStateless('answer')
      await until(() => alice.letters.length > 0 && bob.letters.length > 3, 'the answer')
      assert.deepEqual(alice.letters, ['answer'])
      assert.deepEqual(elsewhere.letters, [])
    })

    test(`${DOCUMENTS} documents on one socket`, async (t) => {
      const line = new Line(t, generation, open)
      const mirror = new Line(t, other, open)
      const names = Array.from({ length: DOCUMENTS }, (_, n) => named(`many/${n}`))
      const here = names.map((name) => line.open(t, name))
      const there = names.map((name) => mirror.open(t, name))
      for (const editor of [...here, ...there]) await editor.synced()
      here.forEach((editor, n) => editor.type(`from here ${n};`))
      there.forEach((editor, n) => editor.type(`from there ${n};`))
      for (const [n, editor] of here.entries()) {
        await converged([editor, there[n]], readText)
        assert.deepEqual(editor.text.split(';').sort(), ['', `from here ${n}`, `from there ${n}`])
        await editor.saved()
        await there[n].saved()
      }
      assert.deepEqual([line.dials, mirror.dials], [1, 1])
      // One that breaks leaves the others where they are.
      line.break()
      await until(() => line.dials > 1, 'a second dial')
      here.forEach((editor) => editor.type('offline'))
      for (const [n, editor] of here.entries()) {
        await editor.saved()
        await until(() => there[n].text.includes('offline'), `the offline edit in document ${n}`)
      }
      assert.equal(mirror.dials, 1)
    })

    test('a reader sees everything and is seen; what he writes is refused, reaches nobody, and stays unsaved', async (t) => {
      const name = named('reader')
      const alice = await new Editor(t, [generation, guarded], name, { token: writer() }).saved()
      alice.type('hello')
      await alice.saved()
      const rita = await new Editor(t, [generation, guarded], name, { token: reader() }).saved()
      assert.deepEqual([alice.scopes, rita.scopes], [['read-write'], ['readonly']])
      assert.equal(rita.text, 'hello')
      rita.awareness.setLocalState({ name: 'rita' })
      alice.awareness.setLocalState({ name: 'alice' })
      await sees(alice, ['rita'])
      await sees(rita, ['alice'])

      const before = rita.statuses.length
      const answers = () => rita.statuses.slice(before)
      rita.type('never ', 0)
      await until(() => answers().length > 0, 'an answer to the refused write')
      assert.deepEqual(answers(), [0])
      assert.equal(rita.provider.hasUnsyncedChanges, true)
      rita.awareness.setLocalState({ name: 'still rita' })
      await sees(alice, ['still rita'])
      alice.type(' there')
      await until(() => rita.text.endsWith('hello there'), 'what the others write')
      await alice.saved()

      // The refused edit is also what a later synchronisation brings: it is refused again.
      rita.provider.forceSync()
      await until(() => answers().length > 1, 'an answer to the synchronisation')
      assert.deepEqual(answers(), [0, 0])
      assert.equal(rita.provider.unsyncedChanges, 1)
      const late = await new Editor(t, [other, guarded], name, { token: writer() }).synced()
      assert.equal(late.text, 'hello there')
      assert.deepEqual([rita.refusals, rita.line.dials], [[], 1])
    })

    test('denied, then let in with a good token on the same socket; its neighbour does not notice', async (t) => {
      const line = new Line(t, generation, guarded)
      const neighbour = await line.open(t, named('neighbour'), { token: writer() }).synced()
      const name = named('denied')
      const bad = [
        ['not.a.token', 'AUTH_FAILED'],
        [token({ 'other/*': 'write' }), 'FORBIDDEN'],
        [token({ '*': 'write' }, { secret: 'somebody-elses-secret-somebody-elses' }), 'AUTH_FAILED']
      ]
      const alice = line.open(t, name, { token: bad[0][0] })
      for (const [n, [wrong, reason]] of bad.entries()) {
        await until(() => alice.refusals.length > n, 'a refusal')
        assert.equal(alice.refusals[n], reason)
        neighbour.type('x')
        await neighbour.saved()
        alice.detach()
        alice.token = n + 1 < bad.length ? bad[n + 1][0] : writer()
        alice.attach()
      }
      await alice.synced()
      alice.type('in')
      await alice.saved()
      assert.deepEqual(alice.scopes, ['read-write'])

      // And as an application would that throws the denied provider away.
      const denied = line.open(t, named('denied 2'), { token: 'not.a.token' })
      await denied.refused()
      denied.leave()
      const second = await line.open(t, named('denied 2'), { token: writer() }).synced()
      second.type('in as well')
      await second.saved()
      const bob = await new Editor(t, [other, guarded], name, { token: writer('bob') }).synced()
      assert.equal(bob.text, 'in')
      assert.equal(neighbour.text, 'xxx')
      assert.deepEqual([line.dials, line.closes], [1, []])
    })

    test('a token shown later changes the rights of the channel, up and down, and the neighbour keeps his', async (t) => {
      const line = new Line(t, generation, guarded)
      const name = named('renewed')
      const alice = await line.open(t, name, { token: reader('alice') }).synced()
      const neighbour = await line.open(t, named('renewed neighbour'), { token: writer() }).synced()
      const bob = await new Editor(t, [generation, guarded], name, { token: writer('bob') }).synced()
      alice.token = writer()
      alice.showToken()
      await until(() => alice.scopes.includes('read-write'), 'the right to write')
      alice.type('written')
      await until(() => bob.text === 'written', 'the edit at bob')
      await alice.saved()

      alice.token = reader('alice')
      alice.showToken()
      await until(() => alice.scopes.at(-1) === 'readonly', 'the loss of it')
      alice.type(' in vain')
      neighbour.type('untouched')
      await neighbour.saved()
      bob.type('!')
      await until(() => alice.text.includes('!'), 'what bob writes')
      assert.equal(bob.text, 'written!')
      assert.equal(alice.provider.hasUnsyncedChanges, true)
      assert.deepEqual([line.dials, alice.refusals], [1, []])
    })

    test('one document is left and opened again while another on the same socket goes on', async (t) => {
      const line = new Line(t, generation, open)
      const one = await line.open(t, named('left')).synced()
      const two = await line.open(t, named('stays')).synced()
      const bob = await new Editor(t, [other, open], named('left')).synced()
      const carol = await new Editor(t, [other, open], named('stays')).synced()
      one.awareness.setLocalState({ name: 'one' })
      await sees(bob, ['one'])
      for (let round = 1; round <= 5; round++) {
        one.detach()
        if (generation.major === 2) await sees(bob, [])
        else await until(() => !bob.others().includes('one'), 'gone from presence')
        one.type(`offline ${round};`)
        bob.type(`meanwhile ${round};`)
        two.type(`${round};`)
        await until(() => carol.text.endsWith(`${round};`), 'the other document goes on')
        await two.saved()
        await bob.saved()
        assert.ok(!bob.text.includes(`offline ${round};`))
        one.attach()
        await until(() => bob.text.includes(`offline ${round};`) && one.text.includes(`meanwhile ${round};`), 'both edits')
        await one.saved()
        one.awareness.setLocalState({ name: 'one' })
        await until(() => bob.others().includes('one'), 'back in presence')
      }
      await converged([one, bob], readText)
      assert.deepEqual([line.dials, line.closes], [1, []])
    })

    for (const signal of ['SIGTERM', 'SIGKILL']) {
      test(`${signal}, a restart: everybody returns to all documents and offline edits arrive`, async (t) => {
        const server = await Server.start(t)
        const line = new Line(t, generation, server)
        const [one, two] = [line.open(t, 'one'), line.open(t, 'two')]
        const bob = await new Editor(t, [other, server], 'one').synced()
        for (const editor of [one, two]) {
          await editor.synced()
          editor.type('before;')
          await editor.saved()
        }
        await server.stop(signal)
        await until(() => line.ends > 0 && bob.line.ends > 0, 'everybody noticed')
        one.type('offline;')
        two.type('offline;')
        bob.type('bob offline;')
        for (const editor of [one, two, bob]) assert.equal(editor.provider.hasUnsyncedChanges, true)
        await server.resume()
        for (const editor of [one, two, bob]) await editor.saved(60_000)
        await agreed(server, 'one', [one, bob])
        assert.deepEqual(one.text.split(';').sort(), ['', 'before', 'bob offline', 'offline'])
        const late = await new Editor(t, [other, server], 'two').synced()
        assert.equal(late.text, 'before;offline;')
        if (signal === 'SIGTERM') assert.equal(line.closes[0][0], 1012)
      })
    }
  })
}

describe('two providers of one document on one socket', { concurrency: true }, () => {
  test(`${v4.name}: with session awareness each has its own rights, presence, and account`, async (t) => {
    const line = new Line(t, v4, guarded)
    const sessions = { sessionAwareness: true }
    const one = await line.open(t, 'sessions', { ...sessions, token: writer() }).synced()
    const two = await line.open(t, 'sessions', { ...sessions, token: writer('bob') }).synced()
    const rita = await line.open(t, 'sessions', { ...sessions, token: reader() }).synced()
    const outside = await new Editor(t, [v2, guarded], 'sessions', { token: writer('carol') }).synced()
    one.awareness.setLocalState({ name: 'one' })
    two.awareness.setLocalState({ name: 'two' })
    rita.awareness.setLocalState({ name: 'rita' })
    await until(() => outside.others().join() === 'one,rita,two', () => `all three, sees ${outside.others()}`)
    await until(() => ['rita', 'two'].every((name) => one.others().includes(name)), 'each other')
    one.type('one;')
    await until(() => [two, rita, outside].every((editor) => editor.text === 'one;'), 'the edit everywhere')
    two.type('two;')
    await until(() => [one, rita, outside].every((editor) => editor.text === 'one;two;'), 'the edit everywhere')
    await one.saved()
    await two.saved()
    rita.type('never;')
    two.provider.sendStateless('hello')
    await until(() => [one, rita, outside].every((editor) => editor.letters.length > 0), 'the message everywhere')
    assert.deepEqual(two.letters, [])
    assert.equal(rita.provider.hasUnsyncedChanges, true)
    assert.equal(outside.text, 'one;two;')
    assert.deepEqual([one.scopes, two.scopes, rita.scopes], [['read-write'], ['read-write'], ['readonly']])

    // One leaves, and takes nobody along.
    one.leave()
    await until(() => outside.others().join() === 'rita,two', () => `two are left, sees ${outside.others()}`)
    two.type('after;')
    await two.saved()
    await until(() => outside.text === 'one;two;after;', 'the edit after it')
    // A plain address on the same socket is one more.
    const plain = await line.open(t, 'sessions', { token: writer('dora') }).synced()
    plain.type('plain;')
    await until(() => two.text.includes('plain;') && outside.text.includes('plain;'), 'the edit of the plain address')
    assert.deepEqual([line.dials, line.closes], [1, []])
  })

  test(`${v4.name}: after a break every session is back`, async (t) => {
    const line = new Line(t, v4, open)
    const editors = [1, 2, 3].map(() => line.open(t, 'sessions back', { sessionAwareness: true }))
    for (const editor of editors) await editor.synced()
    line.break()
    await until(() => line.ends > 0, 'the break')
    editors.forEach((editor, n) => editor.type(`${n};`))
    for (const editor of editors) await editor.saved()
    await converged(editors, readText)
    assert.deepEqual(editors[0].text.split(';').sort(), ['', '0', '1', '2'])
    assert.equal(line.dials, 2)
  })

  // These generations have one place per name, and the newest provider takes it.
  for (const generation of [v3, v2]) {
    test(`${generation.name}: the second takes the place of the first, and works`, async (t) => {
      const name = `${generation.major}/twice`
      const line = new Line(t, generation, guarded)
      const first = await line.open(t, name, { token: writer() }).synced()
      first.type('first;')
      await first.saved()
      const second = await line.open(t, name, { token: writer() }).synced()
      assert.equal(second.text, 'first;')
      const bob = await new Editor(t, [v4, guarded], name, { token: writer('bob') }).synced()
      second.type('second;')
      await second.saved()
      bob.type('bob;')
      await until(() => second.text === 'first;second;bob;', 'what bob writes')
      // The first is deaf and not dumb. For the server the two are one writer, which has what it wrote.
      first.type('again;')
      await until(() => bob.text.includes('again;'), 'what the first writes')
      second.provider.forceSync()
      await converged([second, bob], readText)
      await second.saved()
      assert.deepEqual([line.dials, line.closes], [1, []])
    })
  }
})

test('who never shows a token gets nothing', async (t) => {
  const line = new Line(t, v2, guarded)
  const alice = await new Editor(t, [v4, guarded], 'silent', { token: writer() }).synced()
  alice.type('secret')
  await alice.saved()
  const mallory = line.open(t, 'silent', { token: null })
  await windowOf(3000)
  assert.equal(mallory.text, '')
  assert.deepEqual([mallory.scopes, mallory.provider.synced], [[], false])
})
