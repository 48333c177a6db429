// One table, from a grid and from an application: what each sees of the other, who is said to have done it, and what becomes
// of edits that meet.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, describe, test } from 'node:test'
import { generateNKeysBetween } from 'fractional-indexing'
import * as jittered from 'fractional-indexing-jittered'
import * as Y from 'yjs'
import { v310, v400 } from './lib/clients.mjs'
import { updateFrame } from './lib/raw.mjs'
import { Server } from './lib/server.mjs'
import {
  addRow, bearer, byPlace, hear, join, metaOf, plain, readTable, row, rowsOf, settled, shows, Table, tableWith,
  withId
} from './lib/tables.mjs'
import { until } from './lib/until.mjs'

const server = await Server.start({ after }, { dev: false })
const FIELDS = [{ id: 'text', name: 'Text', type: 'text' }, { id: 'num', name: 'Number', type: 'number' }]

let tables = 0
const newTable = (fields = FIELDS, cells = { text: 'v0' }, at = server) => tableWith(at, `t${++tables}`, fields, cells)

describe('tables: both sides', { concurrency: 4 }, () => {
  for (const client of [v310, v400]) {
    test(`${client.name}: a cell that a grid edits is told with its user and what was there, and REST shows it`, async (t) => {
      const { table, id } = await newTable()
      const alice = await join(t, table, 'alice', client)
      const listener = await hear(t, table, 'watcher')
      row(alice.doc, id).set('text', 'by alice')
      const edited = await listener.heard('grid:cell-edited')
      assert.deepEqual({ ...edited, eventId: 0, timestamp: 0, revision: 0 }, {
        type: 'grid:cell-edited',
        eventId: 0,
        timestamp: 0,
        revision: 0,
        room: table.doc,
        userId: 'alice',
        source: 'user_action',
        tableId: table.name,
        recordId: id,
        fieldId: 'text',
        value: 'by alice',
        version: 2,
        data: { value: 'by alice', previous: 'v0', version: 2 }
      })
      const updated = await listener.heard('record:updated')
      assert.deepEqual(updated.data, { changed: { text: 'by alice' }, previous: { text: 'v0' }, version: 2 })
      const { cells, version, createdBy, updatedBy, updatedAt } = await table.record(id)
      assert.deepEqual({ cells, version, createdBy, updatedBy, updatedAt }, {
        cells: { text: 'by alice' }, version: 2, createdBy: 'maker', updatedBy: 'alice', updatedAt: edited.timestamp
      })
    })

    test(`${client.name}: what an application writes arrives in a grid`, async (t) => {
      const { table, id } = await newTable()
      const alice = await join(t, table, 'alice', client)
      await table.as('app').patch(id, { text: 'by app', num: 4.5 })
      await shows(alice, id, 'text', 'by app')
      const [next] = await table.insert([{ cells: { text: 'next' }, after: id }])
      await shows(alice, next.id, 'text', 'next')
      await table.remove(id)
      const shown = await settled([alice], table)
      assert.deepEqual(shown.map(({ id, cells, deleted }) => ({ id, cells, deleted })), [
        { id, cells: { text: 'by app', num: 4.5 }, deleted: true }, { id: next.id, cells: { text: 'next' }, deleted: false }
      ])
    })

    test(`${client.name}: a record is deleted while somebody offline edits it: restored, it has the edit`, async (t) => {
      const { table, id } = await newTable()
      const listener = await hear(t, table, 'watcher')
      const [alice, bob] = [await join(t, table, 'alice', client), await join(t, table, 'bob')]
      await alice.offline()
      row(alice.doc, id).set('num', 7)
      row(bob.doc, id).set('$d', { t: 1, by: 'bob' })
      await listener.heard('record:deleted')
      alice.connect()
      const [gone] = await settled([await alice.synced(), bob], table)
      assert.deepEqual(plain(gone), { ...gone, cells: { text: 'v0', num: 7 }, deleted: true })
      assert.equal((await table.record(id)).deleted.by, 'bob')
      assert.deepEqual(await table.records({ includeDeleted: false }), [])
      const { status, body } = await table.ask('PATCH', `/records/${id}`, { cells: { num: 8 } })
      assert.deepEqual([status, body.code], [409, 'RECORD_DELETED'])
      await table.restore(id)
      const [back] = await settled([alice, bob], table)
      assert.deepEqual(back, { ...gone, deleted: false, cells: { text: 'v0', num: 7 } })
      // Created, deleted, edited, restored.
      assert.equal((await table.record(id)).version, 4)
    })
  }

  test('an edit that another user passes on is that of the one who wrote it', async (t) => {
    const { table, id } = await newTable()
    const listener = await hear(t, table, 'watcher')
    const [alice, bob] = [await join(t, table, 'alice'), await join(t, table, 'bob')]
    row(alice.doc, id).set('text', 'first')
    await listener.heard('record:updated')
    await alice.offline()
    await shows(bob, id, 'text', 'first')
    row(alice.doc, id).set('text', 'passed on')
    Y.applyUpdate(bob.doc, Y.encodeStateAsUpdate(alice.doc))
    const edited = await listener.heard('grid:cell-edited', ({ value }) => value === 'passed on')
    assert.deepEqual([edited.userId, edited.data.previous], ['alice', 'first'])
    assert.equal((await table.record(id)).updatedBy, 'alice')
  })

  test('undo takes back what is still there, and leaves what an application wrote over it', async (t) => {
    const { table, id } = await newTable()
    const listener = await hear(t, table, 'watcher')
    const alice = await join(t, table, 'alice')
    const undo = new Y.UndoManager(alice.doc.getMap('rows'), { captureTimeout: 0 })
    t.after(() => undo.destroy())
    row(alice.doc, id).set('text', 'x')
    row(alice.doc, id).set('num', 1)
    await listener.heard('record:updated', ({ data }) => data.changed.num === 1)
    await table.as('app').patch(id, { num: 2 })
    await shows(alice, id, 'num', 2)
    undo.undo()
    undo.undo()
    const [shown] = await settled([alice], table)
    assert.deepEqual(shown.cells, { text: 'v0', num: 2 })
    const edited = await listener.heard('grid:cell-edited', ({ value }) => value === 'v0')
    assert.deepEqual([edited.userId, edited.data.previous], ['alice', 'x'])
    undo.redo()
    await listener.heard('grid:cell-edited', ({ value, data }) => value === 'x' && data.previous === 'v0')
    const [again] = await settled([alice], table)
    assert.deepEqual(again.cells, { text: 'x', num: 2 })
  })

  test('two who fill a table from the same template at once get one copy', async (t) => {
    const template = () => {
      const doc = new Y.Doc()
      doc.getMap('meta').set('schema', 'grid')
      doc.getMap('cols').set('text', new Y.Map([['name', 'Text'], ['type', 'text'], ['$o', 'a0']]))
      for (const n of [0, 1, 2]) addRow(doc, `row${n}row${n}row`, { $o: `a${n}`, text: `line ${n}` })
      return Y.encodeStateAsUpdate(doc)
    }
    const table = new Table(server, 'seeded', bearer('maker'))
    const put = async (sub) => fetch(`${server.url}/v1/docs/${encodeURIComponent(table.doc)}?ifAbsent`, {
      method: 'PUT', body: template(), headers: bearer(sub)
    })
    const answers = await Promise.all([put('alice'), put('bob')])
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 201])
    const alice = await join(t, table, 'alice')
    const shown = await settled([alice], table)
    assert.deepEqual(shown.map(({ cells }) => cells.text), ['line 0', 'line 1', 'line 2'])
    assert.equal(alice.doc.store.clients.size, 1, 'one template, of one client')
    assert.deepEqual((await table.records()).map(({ version }) => version), [1, 1, 1])
  })
})

describe('tables: the same gap', { concurrency: 1 }, () => {
  const kinds = [
    ['jittered keys', jittered.generateNJitteredKeysBetween],
    ['plain keys, which are the same for all', generateNKeysBetween]
  ]
  for (const [kind, keysBetween] of kinds) {
    test(`ten grids insert into one gap with ${kind}: one order for all`, async (t) => {
      const { table, id } = await newTable()
      const [last] = await table.insert([{ cells: { text: 'last' } }])
      const first = await table.record(id)
      const peers = []
      for (let n = 0; n < 10; n++) peers.push(await join(t, table, `user${n}`, n % 5 === 4 ? v400 : v310))
      for (const peer of peers) await peer.offline()
      for (const [n, { doc }] of peers.entries()) {
        if (doc.getMap === undefined) continue // What @y/y 14 nests is no map for yjs 13.
        keysBetween(first.order, last.order, 4).forEach((order, at) =>
          addRow(doc, `${'zyxwvutsrq'[n]}${randomBytes(5).toString('hex')}${at}`, { $o: order, text: `${n}.${at}` }))
      }
      const inserted = await Promise.all([0, 1, 2, 3].map(async (n) => {
        const [record] = await table.as(`app${n}`).insert([{ cells: { text: `app ${n}` }, after: id }])
        return record.id
      }))
      peers.forEach((peer) => peer.connect())
      for (const peer of peers) await peer.synced()
      const shown = await settled(peers, table)
      assert.equal(shown.length, 2 + 8 * 4 + 4)
      assert.deepEqual([shown[0].id, shown.at(-1).id], [id, last.id], 'all of it is in the gap')
      const paged = (await table.records({ limit: 7 })).map(plain)
      assert.deepEqual(paged, shown)
      assert.deepEqual(paged.toSorted(byPlace), paged)
      assert.ok(inserted.every((id) => shown.some((record) => record.id === id)))

      // Also between neighbours of one key there is a place behind.
      const middle = shown[12]
      const [behind] = await table.insert([{ cells: { text: 'behind' }, after: middle.id }])
      const ids = (await settled(peers, table)).map(({ id }) => id)
      assert.ok(ids.indexOf(behind.id) > ids.indexOf(middle.id))
    })
  }
})

describe('tables: wrong edits', { concurrency: 4 }, () => {
  const DECLARED = [
    ...FIELDS,
    { id: 'once', name: 'Once', type: 'text', unique: true },
    { id: 'sum', name: 'Sum', type: 'formula' }
  ]
  const wrong = [
    ['a wrong type', 'num', 'seven', 'wrong_type', 1],
    ['an unknown field', 'nope', 'x', 'unknown_field'],
    ['33 KB in a cell', 'text', 'x'.repeat(33 * 1024), 'too_long', 'v0'],
    ['what another record has in a unique field', 'once', 'taken', 'not_unique', 'mine'],
    ['a cell of a formula', 'sum', 3, 'read_only']
  ]
  for (const client of [v310, v400]) {
    for (const [what, field, value, rule, before] of wrong) {
      test(`${client.name}: ${what} is put back everywhere, and its writer is told`, async (t) => {
        const { table, id } = await newTable(DECLARED, { text: 'v0', num: 1, once: 'mine' })
        await table.insert([{ cells: { once: 'taken' } }])
        const [alice, bob] = [await join(t, table, 'alice', client), await join(t, table, 'bob')]
        const [told, untold] = [await hear(t, table, 'alice'), await hear(t, table, 'bob')]
        row(alice.doc, id).set(field, value)
        const { recordId, fieldId, data } = await told.heard('error:validation')
        assert.deepEqual({ recordId, fieldId, data }, { recordId: id, fieldId: field, data: { value, rule, reverted: true } })
        await shows(alice, id, field, before)
        await shows(bob, id, field, before)
        await settled([alice, bob], table)
        // The next edit of the same client works, and comes after everything above.
        row(alice.doc, id).set('text', 'goes on')
        await untold.heard('record:updated', ({ data }) => data.changed.text === 'goes on')
        assert.deepEqual(untold.of('error:validation'), [])
        assert.deepEqual(alice.closes, [])
        const [shown] = await settled([alice, bob], table)
        assert.equal(shown.cells[field], field === 'text' ? 'goes on' : before)
      })
    }
  }

  test('bytes that are no update close with 4422, and nothing changes', async (t) => {
    const { table, id } = await newTable()
    const [alice, bob] = [await join(t, table, 'alice'), await join(t, table, 'bob')]
    const listener = await hear(t, table, 'alice')
    const before = [await table.describe(), await table.records()]
    alice.provider.ws.send(updateFrame(Buffer.concat([Buffer.from([1, 1]), randomBytes(64).fill(0xff)])))
    await until(() => alice.closes.length > 0, 'the close')
    assert.deepEqual(alice.closes, [4422])
    assert.deepEqual([await table.describe(), await table.records()], before)
    row(bob.doc, id).set('text', 'goes on')
    await listener.heard('record:updated')
    assert.equal(listener.changes.length, 2, 'the edit of bob alone')
    assert.deepEqual(bob.closes, [])
  })
})

describe('tables: edits that did not know of each other', { concurrency: 4 }, () => {
  const [LOW, HIGH] = [10, 2 ** 32 - 10]
  /** Which of two wins follows from their ids, so they are not left to chance. */
  const meet = async (t, { offlineId, onlineId, staleOffline }, client = v310) => {
    const { table, id } = await newTable()
    const alice = await join(t, table, 'alice', withId(client, offlineId))
    const bob = await join(t, table, 'bob', withId(v310, onlineId))
    if (staleOffline !== undefined) {
      metaOf(bob.doc).set('settings', { staleOffline })
      await until(() => metaOf(alice.doc).get('settings')?.staleOffline === staleOffline, 'the settings')
    }
    const ears = { alice: await hear(t, table, 'alice'), bob: await hear(t, table, 'bob'), carol: await hear(t, table, 'carol') }
    await alice.offline()
    row(alice.doc, id).set('text', 'offline')
    row(bob.doc, id).set('text', 'online')
    await ears.bob.heard('record:updated', ({ data }) => data.changed.text === 'online')
    alice.connect()
    const [shown] = await settled([await alice.synced(), bob], table)
    return { table, id, shown: shown.cells.text, ears, peers: [alice, bob] }
  }
  const stories = [
    ['nothing said, the offline edit wins', { offlineId: HIGH, onlineId: LOW }, 'offline', 'crdt'],
    ['nothing said, the offline edit loses', { offlineId: LOW, onlineId: HIGH }, 'online', 'crdt'],
    ['latest-arrival, against the CRDT', { offlineId: LOW, onlineId: HIGH, staleOffline: 'latest-arrival' }, 'offline'],
    ['latest-arrival, as the CRDT says', { offlineId: HIGH, onlineId: LOW, staleOffline: 'latest-arrival' }, 'offline'],
    ['online-wins, against the CRDT', { offlineId: HIGH, onlineId: LOW, staleOffline: 'online-wins' }, 'online'],
    ['online-wins, as the CRDT says', { offlineId: LOW, onlineId: HIGH, staleOffline: 'online-wins' }, 'online']
  ]
  for (const client of [v310, v400]) {
    for (const [story, how, winner, resolution = how.staleOffline] of stories) {
      test(`${client.name}: two users write one cell, one of them offline: ${story}`, async (t) => {
        const { table, id, ears, peers } = await meet(t, how, client)
        await until(async () => {
          const [shown] = await settled(peers, table)
          return shown.cells.text === winner
        }, `${winner} everywhere`)
        const users = { offline: 'alice', online: 'bob' }
        const loser = winner === 'offline' ? 'online' : 'offline'
        for (const ear of [ears.alice, ears.bob]) {
          const { recordId, fieldId, data } = await ear.heard('grid:conflict')
          assert.deepEqual({ recordId, fieldId, data }, {
            recordId: id,
            fieldId: 'text',
            data: {
              winner: { value: winner, userId: users[winner] },
              loser: { value: loser, userId: users[loser], writtenOffline: loser === 'offline' },
              resolution
            }
          })
        }
        await table.patch(id, { num: 1 })
        await ears.carol.heard('record:updated', ({ data }) => data.changed.num === 1)
        assert.deepEqual(ears.carol.of('grid:conflict'), [])
        for (const ear of [ears.alice, ears.bob]) {
          await ear.heard('record:updated', ({ data }) => data.changed.num === 1)
          assert.equal(ear.of('grid:conflict').length, 1)
        }
      })
    }
  }

  for (const sub of ['alice', 'app']) {
    for (const between of [[], [LOW], [HIGH]]) {
      const name = between.length === 0 ? 'nobody' : `a client of ${between[0] === LOW ? 'lower' : 'higher'} id`
      test(`what ${sub} wrote over REST stands against an older offline edit of alice, after ${name} wrote`, async (t) => {
        const { table, id } = await newTable()
        const alice = await join(t, table, 'alice', withId(v310, between[0] === HIGH ? HIGH - 1 : HIGH + 1))
        const bob = await join(t, table, 'bob', withId(v310, between[0] ?? LOW))
        const listener = await hear(t, table, 'watcher')
        await alice.offline()
        const ears = await hear(t, table, 'alice')
        // Both come in one message, and only the first of them says on what it was built.
        row(alice.doc, id).set('text', 'offline at first')
        row(alice.doc, id).set('text', 'offline')
        if (between.length > 0) {
          row(bob.doc, id).set('text', 'between')
          await listener.heard('record:updated', ({ data }) => data.changed.text === 'between')
        }
        await table.as(sub).patch(id, { text: 'by app' })
        alice.connect()
        await alice.synced()
        row(alice.doc, id).set('num', 1)
        await listener.heard('record:updated', ({ data }) => data.changed.num === 1)
        const [shown] = await settled([alice, bob], table)
        assert.equal(shown.cells.text, 'by app')
        if (between[0] === LOW && sub !== 'alice') {
          const { data } = await ears.heard('grid:conflict')
          assert.deepEqual(data, {
            winner: { value: 'by app', userId: sub },
            loser: { value: 'offline', userId: 'alice', writtenOffline: true },
            resolution: 'acknowledged'
          })
        }
        row(alice.doc, id).set('text', 'knowingly')
        await listener.heard('record:updated', ({ data }) => data.changed.text === 'knowingly')
        const [last] = await settled([alice, bob], table)
        assert.equal(last.cells.text, 'knowingly')
      })
    }
  }

  test('what was put back for bob gives way to an older offline edit of alice: nobody was promised it', async (t) => {
    const { table, id } = await newTable()
    const alice = await join(t, table, 'alice', withId(v310, HIGH))
    const bob = await join(t, table, 'bob', withId(v310, LOW))
    const listener = await hear(t, table, 'watcher')
    row(alice.doc, id).set('num', 1)
    await listener.heard('record:updated', ({ data }) => data.changed.num === 1)
    await settled([alice, bob], table)
    await alice.offline()
    row(alice.doc, id).set('num', 7)
    const ears = await hear(t, table, 'bob')
    row(bob.doc, id).set('num', 'many')
    await ears.heard('error:validation')
    alice.connect()
    await alice.synced()
    await listener.heard('record:updated', ({ data }) => data.changed.num === 7)
    row(alice.doc, id).set('text', 'done')
    await listener.heard('record:updated', ({ data }) => data.changed.text === 'done')
    const [shown] = await settled([alice, bob], table)
    assert.equal(shown.cells.num, 7)
  })
})

describe('tables: a server that dies', { concurrency: 2 }, () => {
  test('SIGKILL: versions, stamps, authors and remembered requests are the same afterwards', async (t) => {
    const mortal = await Server.start(t, { dev: false })
    const { table, id } = await newTable(FIELDS, { text: 'v0' }, mortal)
    const app = table.as('app')
    const [alice, bob] = [await join(t, table, 'alice'), await join(t, table, 'bob')]
    const listener = await hear(t, table, 'watcher')
    row(alice.doc, id).set('text', 'by alice')
    await listener.heard('record:updated', ({ data }) => data.changed.text === 'by alice')
    await app.patch(id, { num: 1 })
    const [second, third] = await app.insert([{ cells: { text: 'second' } }, { cells: { text: 'third' } }])
    await app.remove(second.id)
    await shows(bob, third.id, 'text', 'third')
    row(bob.doc, third.id).set('$h', 44)
    await listener.heard('grid:row-resized')
    // A wrong cell and its repair are counted as well.
    row(bob.doc, third.id).set('num', 'wrong')
    await until(() => row(bob.doc, third.id).get('num') === undefined, 'the repair')
    const key = { 'idempotency-key': 'once-1' }
    const asked = { records: [{ cells: { text: 'once' } }] }
    const first = await app.ask('POST', '/records', asked, key)
    assert.equal(first.status, 201)
    const patch = { cells: { num: 2 }, expectedVersion: 3 }
    const patched = await app.ask('PATCH', `/records/${id}`, patch, { 'idempotency-key': 'once-2' })
    assert.equal(patched.status, 200, JSON.stringify(patched.body))
    await settled([alice, bob], table)
    const before = [await table.describe(), await table.records()]

    await mortal.stop('SIGKILL')
    await mortal.resume()
    assert.deepEqual([await table.describe(), await table.records()], before)
    const again = await app.ask('POST', '/records', asked, key)
    assert.deepEqual([again.status, again.body], [201, first.body])
    assert.equal(again.headers.get('idempotency-replayed'), 'true')
    const same = await app.ask('PATCH', `/records/${id}`, patch, { 'idempotency-key': 'once-2' })
    assert.deepEqual([same.status, same.body.version], [200, patched.body.version], 'and not a conflict with itself')
    const other = await app.ask('POST', '/records', { records: [{ cells: { text: 'another' } }] }, key)
    assert.equal(other.status, 422, JSON.stringify(other.body))
    assert.deepEqual([await table.describe(), await table.records()], before)

    // Whose client ids are whose is known too: what is passed on is alice's.
    await alice.synced()
    await bob.synced()
    await alice.offline()
    row(alice.doc, id).set('text', 'passed on')
    Y.applyUpdate(bob.doc, Y.encodeStateAsUpdate(alice.doc))
    await until(async () => (await table.record(id)).cells.text === 'passed on', 'what was passed on')
    const { version, updatedBy } = await table.record(id)
    assert.deepEqual([version, updatedBy], [5, 'alice'])
  })

  test('SIGKILL while everybody writes: what the events told is what is there, with its version', async (t) => {
    const mortal = await Server.start(t, { dev: false })
    const { table, id } = await newTable(FIELDS, { text: 'v0' }, mortal)
    const alice = await join(t, table, 'alice')
    const listener = await hear(t, table, 'watcher')
    let writes = true
    const acknowledged = []
    const app = (async () => {
      for (let n = 0; writes; n++) {
        const answer = await table.ask('PATCH', `/records/${id}`, { cells: { num: n } }).catch(() => null)
        if (answer?.status === 200) acknowledged.push(answer.body.version)
        else break
      }
    })()
    const grid = (async () => {
      for (let n = 0; writes; n++) {
        row(alice.doc, id).set('text', `edit ${n}`)
        await until(() => !writes || alice.echoedClock >= alice.ownClock, 'the echo').catch(() => {})
      }
    })()
    await until(() => acknowledged.length >= 40, 'forty acknowledged writes')
    await mortal.stop('SIGKILL')
    writes = false
    await Promise.all([app, grid])
    await alice.offline()
    await mortal.resume()
    const { version, cells } = await table.record(id)
    // The n-th request wrote n; one more may have been written whose answer was lost.
    assert.ok([acknowledged.length - 1, acknowledged.length].includes(cells.num), `${cells.num} of ${acknowledged.length}`)
    assert.ok(version >= acknowledged.at(-1), `${version}, acknowledged ${acknowledged.at(-1)}`)
    const told = listener.of('record:updated').at(-1)
    assert.ok(version >= told.version, `${version}, told ${told.version}`)
    alice.connect()
    await alice.synced()
    const [shown] = await settled([alice], table)
    assert.deepEqual(rowsOf(alice.doc).keys(), [id])
    assert.deepEqual(shown, readTable(alice.doc)[0])
  })
})
