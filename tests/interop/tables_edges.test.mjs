// What is rare in tables and must be right all the same: rows of @y/y 14, hard deletions, wrong edits in bad company, copies
// that are kept by events, snapshots.

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import * as Y from 'yjs'
import { v310, v400 } from './lib/clients.mjs'
import { updateFrame } from './lib/raw.mjs'
import { Server } from './lib/server.mjs'
import {
  addRow, Copy, difference, hear, join, metaOf, plain, readTable, row, settled, shows, tableWith, withId
} from './lib/tables.mjs'
import { until } from './lib/until.mjs'

const server = await Server.start({ after }, { dev: false })
const FIELDS = [
  { id: 'text', name: 'Text', type: 'text' },
  { id: 'num', name: 'Number', type: 'number' },
  { id: 'once', name: 'Once', type: 'text', unique: true }
]
const [LOW, HIGH] = [10, 2 ** 32 - 10]

let tables = 0
const newTable = (cells = { text: 'v0' }, at = server, fields = FIELDS) => tableWith(at, `e${++tables}`, fields, cells)

describe('tables: rows that come and go', { concurrency: 4 }, () => {
  test('a row that @y/y 14 makes is a record like any other', async (t) => {
    const { table } = await newTable()
    const listener = await hear(t, table, 'watcher')
    const [alice, bob] = [await join(t, table, 'alice', v400), await join(t, table, 'bob', v400)]
    alice.doc.transact(() => {
      const map = new v400.yjs.Type()
      alice.doc.get('rows').setAttr('fourteen1234', map)
      map.setAttr('$o', 'z')
      map.setAttr('text', 'new')
    })
    const { recordId, data, userId } = await listener.heard('record:created')
    assert.deepEqual([recordId, data.record.cells, data.record.order, userId], ['fourteen1234', { text: 'new' }, 'z', 'alice'])
    await shows(bob, 'fourteen1234', 'text', 'new')
    await table.patch('fourteen1234', { num: 5 }, { expectedVersion: 1 })
    await shows(alice, 'fourteen1234', 'num', 5)
    row(bob.doc, 'fourteen1234').set('text', 'changed')
    await listener.heard('grid:cell-edited', ({ value, data }) => value === 'changed' && data.previous === 'new')
    await settled([alice, bob], table)
  })

  test('a hard deletion is told, and an undo brings the record back with a later version', async (t) => {
    const { table, id } = await newTable()
    const listener = await hear(t, table, 'watcher')
    const alice = await join(t, table, 'alice')
    const undo = new Y.UndoManager(alice.doc.getMap('rows'), { captureTimeout: 0 })
    t.after(() => undo.destroy())
    alice.doc.getMap('rows').delete(id)
    const gone = await listener.heard('record:deleted')
    assert.deepEqual(gone.data, { soft: false, version: 2 })
    assert.equal((await table.ask('GET', `/records/${id}`)).status, 404)
    assert.equal((await table.ask('PATCH', `/records/${id}`, { cells: { num: 1 } })).status, 404)
    undo.undo()
    const back = await listener.heard('record:created')
    assert.deepEqual([back.data.record.cells, back.data.version], [{ text: 'v0' }, 3])
    const [shown] = await settled([alice], table)
    assert.deepEqual([shown.id, (await table.record(id)).version], [id, 3])
  })

  test('what the server knows already is told to nobody, and no version counts it', async (t) => {
    const { table, id } = await newTable()
    const alice = await join(t, table, 'alice')
    row(alice.doc, id).set('text', 'once')
    await alice.acknowledged()
    const listener = await hear(t, table, 'watcher')
    const before = [await table.describe(), await table.records()]
    alice.forgetEchoes()
    alice.provider.ws.send(updateFrame(Y.encodeStateAsUpdate(alice.doc)))
    await alice.acknowledged()
    assert.deepEqual([await table.describe(), await table.records()], before)
    // The same value again is written, and shows nothing new either.
    row(alice.doc, id).set('text', 'once')
    await alice.acknowledged()
    const { version } = await table.patch(id, { text: 'once' })
    assert.equal(version, 2)
    row(alice.doc, id).set('text', 'twice')
    const { data } = await listener.heard('record:updated')
    assert.deepEqual(data, { changed: { text: 'twice' }, previous: { text: 'once' }, version: 3 })
    assert.deepEqual(listener.changes.map(({ type }) => type), ['grid:cell-edited', 'record:updated'])
  })
})

describe('tables: wrong edits in bad company', { concurrency: 4 }, () => {
  test('a wrong edit made offline gives way to what was written meanwhile', async (t) => {
    const { table, id } = await newTable({ num: 1 })
    const alice = await join(t, table, 'alice', withId(v310, HIGH))
    const bob = await join(t, table, 'bob', withId(v310, LOW))
    const told = await hear(t, table, 'alice')
    await alice.offline()
    row(alice.doc, id).set('num', 'seven')
    row(alice.doc, id).set('text', 'fine')
    row(bob.doc, id).set('num', 5)
    await told.heard('record:updated', ({ data }) => data.changed.num === 5)
    alice.connect()
    await alice.synced()
    const { data } = await told.heard('error:validation')
    assert.deepEqual(data, { value: 'seven', rule: 'wrong_type', reverted: true })
    await shows(alice, id, 'num', 5)
    const [shown] = await settled([alice, bob], table)
    assert.deepEqual(shown.cells, { num: 5, text: 'fine' })
  })

  test('a wrong edit that loses is not brought back by latest-arrival', async (t) => {
    const { table, id } = await newTable({ num: 1 })
    const alice = await join(t, table, 'alice', withId(v310, LOW))
    const bob = await join(t, table, 'bob', withId(v310, HIGH))
    const told = await hear(t, table, 'alice')
    metaOf(bob.doc).set('settings', { staleOffline: 'latest-arrival' })
    await told.heard('table:changed')
    await alice.offline()
    row(alice.doc, id).set('num', 'seven')
    row(bob.doc, id).set('num', 5)
    await told.heard('record:updated', ({ data }) => data.changed.num === 5)
    alice.connect()
    await alice.synced()
    row(alice.doc, id).set('text', 'later')
    await told.heard('record:updated', ({ data }) => data.changed.text === 'later')
    const [shown] = await settled([alice, bob], table)
    assert.deepEqual(shown.cells, { num: 5, text: 'later' })
  })

  test('one who passes a wrong edit on is not told, its writer is', async (t) => {
    const { table, id } = await newTable({ num: 1 })
    const [alice, bob] = [await join(t, table, 'alice'), await join(t, table, 'bob')]
    const [told, untold] = [await hear(t, table, 'alice'), await hear(t, table, 'bob')]
    row(alice.doc, id).set('text', 'first')
    await shows(bob, id, 'text', 'first')
    await alice.offline()
    row(alice.doc, id).set('num', 'seven')
    Y.applyUpdate(bob.doc, Y.encodeStateAsUpdate(alice.doc))
    const { userId, data } = await told.heard('error:validation')
    assert.deepEqual(data, { value: 'seven', rule: 'wrong_type', reverted: true })
    t.diagnostic(`error:validation userId ${userId}`)
    await shows(bob, id, 'num', 1)
    await table.patch(id, { text: 'last' })
    await untold.heard('record:updated', ({ data }) => data.changed.text === 'last')
    assert.deepEqual(untold.of('error:validation'), [])
  })

  test('two offline take the same unique value: one keeps it', async (t) => {
    const { table } = await newTable()
    const [alice, bob] = [await join(t, table, 'alice'), await join(t, table, 'bob')]
    const ears = [await hear(t, table, 'alice'), await hear(t, table, 'bob')]
    await alice.offline()
    await bob.offline()
    addRow(alice.doc, 'aliceRow1234', { $o: 'b1', once: 'same', text: 'alice' })
    addRow(bob.doc, 'bobRow123456', { $o: 'b2', once: 'same', text: 'bob' })
    alice.connect()
    await ears[0].heard('record:created')
    bob.connect()
    const { recordId, data } = await ears[1].heard('error:validation')
    assert.deepEqual([recordId, data], ['bobRow123456', { value: 'same', rule: 'not_unique', reverted: true }])
    await until(() => row(bob.doc, 'bobRow123456').get('once') === undefined, 'the repair')
    const shown = await settled([alice, bob], table)
    assert.deepEqual(shown.slice(1).map(({ cells }) => cells), [{ once: 'same', text: 'alice' }, { text: 'bob' }])
    await table.patch('aliceRow1234', { num: 1 })
    await ears[0].heard('record:updated', ({ data }) => data.changed.num === 1)
    assert.deepEqual(ears[0].of('error:validation'), [])
  })

  test('many wrong cells of one transaction are all put back, and the events of it fit', async (t) => {
    const { table, id } = await newTable({ num: 1, text: 'v0' })
    const listener = await hear(t, table, 'alice')
    const alice = await join(t, table, 'alice')
    alice.doc.transact(() => {
      row(alice.doc, id).set('num', { an: 'object' })
      row(alice.doc, id).set('text', 'fine')
      for (let n = 0; n < 20; n++) addRow(alice.doc, `wrong${n}wrong${n}`, { $o: `b${n}`, num: `no ${n}`, text: `${n}`, nope: n })
    })
    await until(() => listener.of('error:validation').length === 41, () => `41, heard ${listener.of('error:validation').length}`)
    await until(() => row(alice.doc, id).get('num') === 1, 'the repair')
    const shown = await settled([alice], table)
    assert.deepEqual(shown.map(({ cells }) => cells), [
      { num: 1, text: 'fine' }, ...shown.slice(1).map(({ id }) => ({ text: /\d+$/.exec(id)[0] }))
    ])
    const { revision } = await table.describe()
    await listener.upTo(revision)
    const fresh = new Copy()
    fresh.records.set(id, { id, cells: { num: 1, text: 'v0' }, order: shown[0].order, height: null, deleted: false })
    fresh.revisions.set(id, [0])
    listener.events.forEach((event) => fresh.take(event))
    assert.equal(difference(fresh.table, (await table.records()).map(plain)), 'nothing')
  })
})

describe('tables: what is not a plain cell', { concurrency: 4 }, () => {
  const ROUND = [
    { id: 'body', name: 'Body', type: 'text', collab: true },
    { id: 'hits', name: 'Hits', type: 'counter' },
    { id: 'tags', name: 'Tags', type: 'multiselect', choices: [{ id: 'a', name: 'A' }, { id: 'b', name: 'B' }] }
  ]

  test('two type into one cell at once: both are there, told with its length, and a value in its place is put back', async (t) => {
    const { table, id } = await newTable({}, server, ROUND)
    const [alice, bob] = [await join(t, table, 'alice'), await join(t, table, 'bob')]
    const listener = await hear(t, table, 'alice')
    const text = ({ doc }) => doc.getText(`t/${id}/body`)
    await alice.offline()
    text(alice).insert(0, 'alice')
    text(bob).insert(0, 'bob')
    await listener.heard('grid:text-edited', ({ fieldId, userId, data }) =>
      fieldId === 'body' && userId === 'bob' && data.length === 3 && data.version === 2)
    alice.connect()
    await listener.heard('grid:text-edited', ({ userId, data }) =>
      userId === 'alice' && data.length === 8 && data.version === 3)
    await until(() => text(alice).length === 8 && text(alice).toString() === text(bob).toString(), 'both texts')
    row(alice.doc, id).set('body', 'plain')
    const { data } = await listener.heard('error:validation')
    assert.equal(data.rule, 'read_only')
    await settled([alice, bob], table)
    assert.equal(text(bob).length, 8)
  })

  test('what two add offline to a counter and to tags is added, and told as one value', async (t) => {
    const { table, id } = await newTable({}, server, ROUND)
    const [alice, bob] = [await join(t, table, 'alice'), await join(t, table, 'bob')]
    const listener = await hear(t, table, 'watcher')
    for (const peer of [alice, bob]) await peer.offline()
    for (const [peer, tag, count] of [[alice, 'a', 2], [bob, 'b', 3]]) {
      row(peer.doc, id).set(`hits#${peer.doc.clientID}`, count)
      row(peer.doc, id).set(`tags/${tag}`, true)
    }
    alice.connect()
    await listener.heard('record:updated', ({ data }) => data.changed.hits === 2 && data.changed.tags?.join() === 'a')
    bob.connect()
    const { data } = await listener.heard('record:updated', ({ userId }) => userId === 'bob')
    assert.deepEqual([data.changed, data.previous], [{ hits: 5, tags: ['a', 'b'] }, { hits: 2, tags: ['a'] }])
    assert.deepEqual((await table.record(id)).cells, { hits: 5, tags: ['a', 'b'] })
    await table.patch(id, { tags: ['b'] })
    await until(() => row(alice.doc, id)?.get('tags/a') !== true, 'the tag is taken away')
    assert.deepEqual((await table.record(id)).cells, { hits: 5, tags: ['b'] })
  })

  test('a request that is sent five times at once under one key is done once', async () => {
    const { table } = await newTable()
    const once = { 'idempotency-key': 'five' }
    const answers = await Promise.all(Array.from({ length: 5 }, () =>
      table.ask('POST', '/records', { records: [{ cells: { text: 'once' } }] }, once)))
    assert.deepEqual(answers.map(({ status }) => status), [201, 201, 201, 201, 201])
    assert.equal(new Set(answers.map(({ body }) => body.records[0].id)).size, 1)
    assert.equal((await table.records()).length, 2)
  })

  test('a row under a name that is no id is refused, and nothing of it shows', async (t) => {
    // Side by side: the server holds each refused socket for a while.
    await Promise.all(['__proto__', 'a/b', '$row', 'x'.repeat(1000)].map(async (id) => {
      const { table } = await newTable()
      const [alice, bob] = [await join(t, table, 'alice'), await join(t, table, 'bob')]
      const before = [await table.describe(), await table.records()]
      addRow(alice.doc, id, { $o: 'b', text: 'x' })
      await until(() => alice.closes.length > 0, `the close after ${id.slice(0, 20)}`)
      assert.equal(alice.closes[0], 4422)
      assert.deepEqual([await table.describe(), await table.records()], before)
      await settled([bob], table)
      assert.deepEqual(bob.closes, [])
    }))
  })
})

describe('tables: copies and snapshots', { concurrency: 2 }, () => {
  test('a copy that began in the middle is kept by the events behind its revision', async (t) => {
    const { table, id } = await newTable()
    const peers = [await join(t, table, 'alice'), await join(t, table, 'bob', v400)]
    let goesOn = true
    t.after(() => { goesOn = false })
    const writing = [
      ...peers.map(async (peer, at) => {
        for (let n = 0; goesOn; n++) {
          row(peer.doc, id).set('text', `${at} ${n}`)
          await peer.acknowledged()
        }
      }),
      (async () => { for (let n = 0; goesOn; n++) await table.patch(id, { num: n }) })()
    ]
    const copies = []
    for (let n = 0; n < 12; n++) {
      const listener = await hear(t, table, `watcher${n}`)
      const { body } = await table.ask('GET', '/records?limit=100&includeDeleted=true')
      const [{ version, ...record }] = body.records
      const copy = new Copy()
      copy.records.set(id, plain(record))
      copy.revisions.set(id, Array.from({ length: version }, () => 0))
      await until(() => listener.revision > body.revision + 10, 'events')
      copies.push({ listener, copy, from: body.revision })
    }
    goesOn = false
    await Promise.all(writing)
    await settled(peers, table)
    const { num } = (await table.record(id)).cells
    await table.patch(id, { num: num + 1 })
    for (const { listener, copy, from } of copies) {
      await listener.heard('record:updated', ({ data }) => data.changed.num === num + 1)
      listener.events.filter(({ revision }) => revision > from).forEach((event) => copy.take(event))
      assert.equal(difference(copy.table, (await table.records()).map(plain)), 'nothing')
    }
  })

  test('SIGKILL after snapshots: versions, stamps and authors are the same afterwards, and go on', async (t) => {
    const mortal = await Server.start(t, { dev: false, env: { SYNCLINE_STORE__COMPACT_BYTES: '4 KiB' } })
    const { table, id } = await newTable({ text: 'v0' }, mortal)
    const listener = await hear(t, table, 'watcher')
    const alice = await join(t, table, 'alice')
    const once = { 'idempotency-key': 'before' }
    const first = await table.ask('POST', '/records', { records: [{ cells: { text: 'first' } }] }, once)
    for (let round = 0; round < 3; round++) {
      for (let n = 0; n < 60; n++) {
        row(alice.doc, id).set('text', `${round}.${n} ${'x'.repeat(100)}`)
        await table.as(`app${n % 3}`).patch(id, { num: round * 100 + n })
      }
      await alice.acknowledged()
      await settled([alice], table)
      const before = [await table.describe(), await table.records()]
      assert.equal((await table.record(id)).version, 1 + (round + 1) * 120)
      await mortal.stop('SIGKILL')
      await mortal.resume()
      assert.deepEqual([await table.describe(), await table.records()], before, `round ${round}`)
      const again = await table.ask('POST', '/records', { records: [{ cells: { text: 'first' } }] }, once)
      assert.deepEqual([again.status, again.body], [201, first.body])
      await alice.synced()
    }
    assert.equal(listener.ready[0].recovered, true)
    await listener.resume()
    assert.deepEqual(listener.ready.map(({ recovered }) => recovered), [true, false], 'its history is gone, and it is told')
    await table.patch(id, { num: -1 })
    await listener.heard('record:updated', ({ data, version }) => data.changed.num === -1 && version === 362)
    assert.deepEqual(readTable(alice.doc).length, 2)
  })
})
