// Specification 000, the grid gateway: as its frontend would speak, over each transport.

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { WebSocket } from 'ws'
import { Server } from '../lib/server.mjs'
import {
  connect, dial, done, fence, listen, membersOf, metric, MODES, operator, person, publish, refusal, refused,
  rest, shaped
} from '../lib/socketio.mjs'
import { Table } from '../lib/tables.mjs'
import { token } from '../lib/token.mjs'
import { until } from '../lib/until.mjs'

const server = await Server.start({ after }, { dev: false, env: { SYNCLINE_LIMITS__FAILED_CONNECTS_PER_MINUTE: '0' } })

const FIELDS = [{ id: 'text', name: 'Text', type: 'text' }, { id: 'num', name: 'Number', type: 'number' }]

let tables = 0
/** A table with one record, and its REST side. */
const newTable = async (at = server) => {
  const table = new Table(at, `grid${++tables}`, { authorization: `Bearer ${operator.token}` })
  await table.create(FIELDS)
  const [{ id }] = await table.insert([{ cells: { text: 'v0', num: 1 } }])
  return { table, tableId: table.name, room: table.doc, id }
}

const joined = async (t, tableId, name, mode, access) => {
  const ear = await listen(t, server, person(name, access), { mode })
  ear.answer = await done(ear.socket, 'grid:join-table', { tableId })
  return ear
}

/** What a specification's frontend keeps of a table: it shows a value at once, and takes it back when it is refused. */
class Grid {
  cells = new Map()
  errors = []
  #pending = new Map()

  constructor (socket) {
    this.socket = socket
    socket.on('grid:cell-edited:error', (error) => this.#rollBack(error))
    socket.on('error:conflict', (error) => this.#rollBack(error, error.currentValue))
    socket.on('grid:cell-edited', ({ recordId, fieldId, value }) => {
      this.#pending.delete(`${recordId}/${fieldId}`)
      this.cells.set(`${recordId}/${fieldId}`, value)
    })
  }

  /** Without a callback, as specified: what becomes of it is heard. */
  update (recordId, fieldId, value, more = {}) {
    const key = `${recordId}/${fieldId}`
    this.#pending.set(key, this.cells.get(key))
    this.cells.set(key, value)
    this.socket.emit('grid:cell-edit', { recordId, fieldId, value, ...more })
  }

  #rollBack (error, current) {
    this.errors.push(error)
    for (const [key, before] of this.#pending) this.cells.set(key, current ?? before)
    this.#pending.clear()
  }
}

for (const mode of MODES) {
  describe(`specification 000 over ${mode.name}`, { concurrency: 4 }, () => {
    test('a good token connects, over the transport asked for', async (t) => {
      const socket = await connect(t, server, person('alice'), { mode })
      await until(() => socket.io.engine.transport.name === mode.arrives, mode.arrives)
      await done(socket, 'subscribe', { room: 'base:b1' })
    })

    test('a bad token is refused with its reason, and a good one is let in by the same socket', async (t) => {
      const { claims } = person('mallory')
      const none = Buffer.from(JSON.stringify({ alg: 'none', typ: 'JWT' })).toString('base64url')
      const [, payload] = token({ '*': 'write' }, claims).split('.')
      for (const [what, bad, code] of [
        ['no token', undefined, 'AUTH_FAILED'],
        ['something else', 'no-token-at-all', 'AUTH_FAILED'],
        ['a number', 7, 'INVALID_PAYLOAD'],
        ['a foreign key', token({ '*': 'write' }, { ...claims, secret: 'another-secret-another-secret-another' }), 'AUTH_FAILED'],
        ['no signature', `${none}.${payload}.`, 'AUTH_FAILED'],
        ['one that ran out', token({ '*': 'write' }, { ...claims, ttlSeconds: -600 }), 'AUTH_EXPIRED']
      ]) {
        const socket = dial(t, server, undefined, { mode, auth: { token: bad } })
        assert.equal((await refusal(socket)).code, code, what)
        assert.equal(socket.connected, false)
        socket.auth = { token: token({ '*': 'write' }, claims) }
        socket.connect()
        await until(() => socket.connected, `${what}, then a good one`)
        socket.disconnect()
      }
    })

    test('who joins a table is told of its members, and the others hear of the newcomer', async (t) => {
      const { tableId, room } = await newTable()
      const alice = await joined(t, tableId, 'alice', mode)
      const bob = await joined(t, tableId, 'bob', mode)
      assert.ok(alice.answer.revision > 0)
      assert.deepEqual(bob.answer.members.map(({ userId }) => userId).sort(), [alice.who.sub, bob.who.sub].sort())
      const told = await alice.heard.heard('user:joined', ({ userId }) => userId === bob.who.sub)
      assert.deepEqual([told.userName, told.tableId, told.room], [bob.who.name, tableId, room])
      await fence(server, operator, room, bob)
      assert.deepEqual(bob.heard.of('user:joined').filter(({ userId }) => userId === bob.who.sub), [])
    })

    test('a record is created: everybody hears it, its maker is told by its own event', async (t) => {
      const { table, tableId } = await newTable()
      const [alice, bob] = [await joined(t, tableId, 'alice', mode), await joined(t, tableId, 'bob', mode)]
      const { recordId, version } = await done(alice.socket, 'record:create', { tableId, cells: { text: 'new', num: 7 } })
      assert.equal(version, 1)
      for (const ear of [alice, bob]) {
        const created = await ear.heard.heard('record:created')
        assert.deepEqual([created.recordId, created.tableId, created.userId], [recordId, tableId, alice.who.sub])
        assert.deepEqual(created.record.cells, { text: 'new', num: 7 })
      }
      assert.equal((await alice.heard.heard('record:created:ack')).recordId, recordId)
      assert.deepEqual(bob.heard.of('record:created:ack'), [])
      assert.equal((await table.record(recordId)).createdBy, alice.who.sub)
    })

    test('a record is updated, deleted and restored', async (t) => {
      const { table, tableId, id } = await newTable()
      const [alice, bob] = [await joined(t, tableId, 'alice', mode), await joined(t, tableId, 'bob', mode)]
      const recordId = id
      assert.equal((await done(alice.socket, 'record:update', { tableId, recordId, cells: { text: 'v1' } })).version, 2)
      assert.equal((await done(alice.socket, 'record:delete', { tableId, recordId })).version, 3)
      await refused(alice.socket, 'record:update', { tableId, recordId, cells: { text: 'late' } }, 'RECORD_DELETED')
      assert.equal((await done(bob.socket, 'record:restore', { tableId, recordId })).version, 4)
      for (const ear of [alice, bob]) {
        await ear.heard.heard('record:restored')
        const told = ear.heard.of('record:updated', 'record:deleted', 'record:restored')
        assert.deepEqual(told.map(({ event, recordId, userId, version }) => [event, recordId, userId, version]), [
          ['record:updated', id, alice.who.sub, 2], ['record:deleted', id, alice.who.sub, 3], ['record:restored', id, bob.who.sub, 4]
        ])
        assert.deepEqual(told[0].data.changed, { text: 'v1' })
      }
      assert.deepEqual((await table.record(id)).cells, { text: 'v1', num: 1 })
    })

    test('a batch is one transaction: all of it with one event, or none', async (t) => {
      const { table, tableId, room, id } = await newTable()
      const [{ id: other }] = await table.insert([{ cells: { text: 'other' } }])
      const [alice, bob] = [await joined(t, tableId, 'alice', mode), await joined(t, tableId, 'bob', mode)]
      const updates = [{ recordId: id, cells: { num: 2 } }, { recordId: other, cells: { num: 3 } }]
      const { results } = await done(alice.socket, 'records:batch-update', { tableId, updates })
      assert.deepEqual(results.map(({ recordId, version }) => [recordId, version]), [[id, 2], [other, 2]])
      const told = await bob.heard.heard('records:updated')
      assert.deepEqual(told.data.updated.map(({ recordId, changed }) => [recordId, changed]).sort(),
        [[id, { num: 2 }], [other, { num: 3 }]].sort())
      assert.deepEqual([told.userId, told.tableId], [alice.who.sub, tableId])

      const stale = [{ recordId: id, cells: { num: 9 } }, { recordId: other, cells: { num: 9 }, expectedVersion: 1 }]
      await refused(alice.socket, 'records:batch-update', { tableId, updates: stale }, 'CONCURRENT_EDIT')
      assert.deepEqual([(await table.record(id)).cells.num, (await table.record(other)).cells.num], [2, 3])
      await fence(server, operator, room, bob)
      assert.equal(bob.heard.of('records:updated').length, 1)
      assert.deepEqual(bob.heard.of('record:updated', 'grid:cell-edited'), [])
    })

    test('a cell edit is heard by everybody, with the value as it is stored', async (t) => {
      const { table, tableId, id } = await newTable()
      const [alice, bob] = [await joined(t, tableId, 'alice', mode), await joined(t, tableId, 'bob', mode)]
      const answer = await done(alice.socket, 'grid:cell-edit', { tableId, recordId: id, fieldId: 'num', value: 42.5 })
      assert.deepEqual([answer.value, answer.version], [42.5, 2])
      for (const ear of [alice, bob]) {
        const edited = await ear.heard.heard('grid:cell-edited')
        const { recordId, fieldId, value, userId, version, data } = edited
        assert.deepEqual({ recordId, fieldId, value, userId, version, previous: data.previous },
          { recordId: id, fieldId: 'num', value: 42.5, userId: alice.who.sub, version: 2, previous: 1 })
      }
      assert.equal((await table.record(id)).cells.num, 42.5)
    })

    test('a cell edit without a table is in the one table joined, and in none of two', async (t) => {
      const [one, two] = [await newTable(), await newTable()]
      const alice = await joined(t, one.tableId, 'alice', mode)
      await done(alice.socket, 'grid:cell-edit', { recordId: one.id, fieldId: 'text', value: 'here' })
      assert.equal((await one.table.record(one.id)).cells.text, 'here')
      await done(alice.socket, 'grid:join-table', { tableId: two.tableId })
      await refused(alice.socket, 'grid:cell-edit', { recordId: one.id, fieldId: 'text', value: 'where' }, 'INVALID_PAYLOAD')
      await done(alice.socket, 'table:leave', { tableId: two.tableId })
      await done(alice.socket, 'grid:cell-edit', { recordId: one.id, fieldId: 'text', value: 'here again' })
    })

    test('columns and rows are resized for everybody', async (t) => {
      const { table, tableId, id } = await newTable()
      const [alice, bob] = [await joined(t, tableId, 'alice', mode), await joined(t, tableId, 'bob', mode)]
      await done(alice.socket, 'grid:column-resize', { tableId, fieldId: 'text', width: 321 })
      await done(alice.socket, 'grid:row-resize', { tableId, recordId: id, height: 64 })
      for (const ear of [alice, bob]) {
        const column = await ear.heard.heard('grid:column-resized')
        assert.deepEqual([column.fieldId, column.width, column.userId], ['text', 321, alice.who.sub])
        const line = await ear.heard.heard('grid:row-resized')
        assert.deepEqual([line.recordId, line.height, line.userId], [id, 64, alice.who.sub])
      }
      assert.equal((await table.describe()).fields.find(({ id }) => id === 'text').width, 321)
      assert.equal((await table.record(id)).height, 64)
    })

    test('selection and cursor reach the others alone, and nothing is stored', async (t) => {
      const { table, tableId, room, id } = await newTable()
      const [alice, bob] = [await joined(t, tableId, 'alice', mode), await joined(t, tableId, 'bob', mode)]
      const { revision } = await table.describe()
      const selection = { from: [id, 'text'], to: [id, 'num'] }
      await done(alice.socket, 'grid:selection-change', { tableId, selection })
      await done(alice.socket, 'user:cursor-move', { tableId, position: { recordId: id, x: 3 } })
      const selected = await bob.heard.heard('grid:selection-changed')
      assert.deepEqual([selected.userId, selected.selection, selected.room], [alice.who.sub, selection, room])
      const moved = await bob.heard.heard('user:cursor-moved')
      assert.deepEqual([moved.userId, moved.position], [alice.who.sub, { recordId: id, x: 3 }])
      await fence(server, operator, room, alice)
      assert.deepEqual(alice.heard.of('grid:selection-changed', 'user:cursor-moved'), [])
      assert.equal((await table.describe()).revision, revision)
    })

    test('an optimistic edit that is refused is rolled back by grid:cell-edited:error', async (t) => {
      const { table, tableId, id } = await newTable()
      const [alice, bob] = [await joined(t, tableId, 'alice', mode), await joined(t, tableId, 'bob', mode)]
      const grid = new Grid(alice.socket)
      grid.cells.set(`${id}/num`, 1)
      grid.update(id, 'num', 'seven')
      assert.equal(grid.cells.get(`${id}/num`), 'seven')
      await until(() => grid.errors.length > 0, 'the error')
      assert.equal(shaped(grid.errors[0]).code, 'INVALID_VALUE')
      assert.equal(grid.cells.get(`${id}/num`), 1)
      grid.update(id, 'num', 7)
      await bob.heard.heard('grid:cell-edited', ({ value }) => value === 7)
      assert.deepEqual([grid.cells.get(`${id}/num`), grid.errors.length], [7, 1])
      assert.deepEqual(bob.heard.of('grid:cell-edited:error', 'error', 'error:conflict'), [])
      assert.equal((await table.record(id)).cells.num, 7)
    })

    test('an optimistic edit of stale data is a conflict with the current value', async (t) => {
      const { table, tableId, id } = await newTable()
      const [alice, bob] = [await joined(t, tableId, 'alice', mode), await joined(t, tableId, 'bob', mode)]
      const grid = new Grid(bob.socket)
      grid.cells.set(`${id}/text`, 'v0')
      await done(alice.socket, 'grid:cell-edit', { tableId, recordId: id, fieldId: 'text', value: 'by alice', expectedVersion: 1 })
      grid.update(id, 'text', 'by bob', { tableId, expectedVersion: 1 })
      const conflict = await bob.heard.heard('error:conflict')
      assert.equal(shaped(conflict).code, 'CONCURRENT_EDIT')
      assert.deepEqual([conflict.currentValue, conflict.currentVersion], ['by alice', 2])
      await until(() => grid.cells.get(`${id}/text`) === 'by alice', 'the roll-back')
      const answer = await refused(bob.socket, 'grid:cell-edit',
        { tableId, recordId: id, fieldId: 'text', value: 'by bob', expectedVersion: 1 }, 'CONCURRENT_EDIT')
      assert.deepEqual([answer.data.currentValue, answer.data.currentVersion], ['by alice', 2])
      assert.deepEqual(alice.heard.of('error:conflict'), [])
      const { version, value } = await done(bob.socket, 'grid:cell-edit',
        { tableId, recordId: id, fieldId: 'text', value: 'after alice', expectedVersion: 2 })
      assert.deepEqual([version, value, (await table.record(id)).cells.text], [3, 'after alice', 'after alice'])
    })

    test('who may only read hears, and is told error:permission for what he writes', async (t) => {
      const { table, tableId, id } = await newTable()
      const reader = await joined(t, tableId, 'reader', mode, { 'table:*': 'read' })
      await refused(reader.socket, 'grid:cell-edit', { tableId, recordId: id, fieldId: 'text', value: 'x' }, 'FORBIDDEN')
      await refused(reader.socket, 'record:create', { tableId, cells: { text: 'x' } }, 'FORBIDDEN')
      await until(() => reader.heard.of('error:permission').length === 2, 'error:permission, twice')
      for (const error of reader.heard.of('error:permission')) assert.equal(shaped(error).code, 'FORBIDDEN')
      await done(reader.socket, 'user:cursor-move', { tableId, position: 1 })
      await table.patch(id, { text: 'by app' })
      await reader.heard.heard('grid:cell-edited', ({ value }) => value === 'by app')
      assert.equal((await table.records()).length, 1)
    })

    test('a table without access cannot be joined, and nothing of it is heard', async (t) => {
      const { table, tableId, room, id } = await newTable()
      const stranger = await listen(t, server, person('stranger', { 'table:other': 'write' }), { mode })
      await refused(stranger.socket, 'grid:join-table', { tableId }, 'FORBIDDEN')
      stranger.socket.emit('grid:join-table', { tableId })
      await stranger.heard.until(({ event, code }) => event.startsWith('error') && code === 'FORBIDDEN', 'an error')
      await table.patch(id, { text: 'secret' })
      await refused(stranger.socket, 'subscribe', { room }, 'FORBIDDEN')
      assert.deepEqual(stranger.heard.events.filter(({ event }) => !event.startsWith('error')), [])
      assert.ok((await membersOf(server, operator, room)).every(({ userId }) => userId !== stranger.who.sub))
    })

    test('every failure without a callback is told by an event, to its sender alone', async (t) => {
      const { tableId, room, id } = await newTable()
      const [alice, bob] = [await joined(t, tableId, 'alice', mode), await joined(t, tableId, 'bob', mode)]
      for (const [event, payload, code] of [
        ['record:create', { tableId, cells: { num: 'x' } }, 'INVALID_VALUE'],
        ['record:update', { tableId, recordId: 'nobody', cells: { num: 1 } }, 'NOT_FOUND'],
        ['record:update', { tableId, recordId: id, cells: { num: 2 }, expectedVersion: 99 }, 'VERSION_AHEAD'],
        ['record:delete', { tableId }, 'INVALID_PAYLOAD'],
        ['records:batch-update', { tableId, updates: 'all' }, 'INVALID_PAYLOAD'],
        ['grid:join-table', {}, 'INVALID_PAYLOAD'],
        ['grid:join-table', 'table', 'INVALID_PAYLOAD'],
        ['no:such-command', {}, 'INVALID_PAYLOAD']
      ]) {
        const before = alice.heard.events.length
        alice.socket.emit(event, payload)
        const told = await until(() => alice.heard.events.slice(before).find((told) => told.code === code),
          () => `${code} of ${event}; heard ${JSON.stringify(alice.heard.events.slice(before))}`)
        assert.match(shaped(told).event, /^(.*:)?error(:.*)?$/)
      }
      await fence(server, operator, room, bob)
      assert.deepEqual(bob.heard.events.filter(({ status }) => status === 'error'), [])
    })

    test('every event is named {resource}:{action} and has its ids, user, time, source and data', async (t) => {
      const { tableId, room, id } = await newTable()
      const [alice, bob] = [await joined(t, tableId, 'alice', mode), await joined(t, tableId, 'bob', mode)]
      await done(alice.socket, 'record:create', { tableId, cells: { text: 'new' } })
      await done(alice.socket, 'grid:cell-edit', { tableId, recordId: id, fieldId: 'text', value: 'x' })
      await done(alice.socket, 'grid:column-resize', { tableId, fieldId: 'num', width: 99 })
      await done(alice.socket, 'grid:row-resize', { tableId, recordId: id, height: 50 })
      await done(alice.socket, 'user:cursor-move', { tableId, position: 1 })
      await bob.heard.heard('user:cursor-moved')
      await done(alice.socket, 'record:delete', { tableId, recordId: id })
      await done(alice.socket, 'record:restore', { tableId, recordId: id })
      alice.socket.disconnect()
      await bob.heard.heard('user:left')
      const names = new Set(bob.heard.events.map(({ event }) => event))
      for (const name of ['record:created', 'record:updated', 'record:deleted', 'record:restored', 'grid:cell-edited',
        'grid:column-resized', 'grid:row-resized', 'user:cursor-moved', 'user:left']) assert.ok(names.has(name), name)
      for (const told of bob.heard.events) {
        assert.match(told.event, /^[a-z]+(:[a-z-]+)+$/)
        assert.equal(told.type, told.event)
        assert.deepEqual([told.tableId, told.room], [tableId, room], JSON.stringify(told))
        assert.equal(told.userId, alice.who.sub, JSON.stringify(told))
        assert.match(told.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
        assert.match(told.source, /^(user_action|api|system|import|offline)$/)
        assert.equal(typeof told.data, 'object', JSON.stringify(told))
        if (told.event.startsWith('record:')) assert.ok(told.recordId.length > 0, JSON.stringify(told))
      }
      const ids = bob.heard.events.map(({ eventId }) => eventId)
      assert.equal(new Set(ids).size, ids.length)
    })

    test('an event reaches those in its table, and nobody else', async (t) => {
      const [one, two] = [await newTable(), await newTable()]
      const [alice, bob] = [await joined(t, one.tableId, 'alice', mode), await joined(t, two.tableId, 'bob', mode)]
      const apart = await listen(t, server, person('apart'), { mode })
      await done(apart.socket, 'grid:cell-edit', { tableId: one.tableId, recordId: one.id, fieldId: 'text', value: 'x' })
      await alice.heard.heard('grid:cell-edited')
      await done(bob.socket, 'user:cursor-move', { tableId: two.tableId, position: 1 })
      await fence(server, operator, two.room, bob)
      assert.ok(bob.heard.events.every(({ room }) => room === two.room), JSON.stringify(bob.heard.events))
      assert.deepEqual(bob.heard.of('grid:cell-edited', 'record:updated', 'user:cursor-moved'), [])
      await fence(server, operator, one.room, alice)
      assert.ok(alice.heard.events.every(({ room }) => room === one.room), JSON.stringify(alice.heard.events))
      assert.deepEqual(apart.heard.events, [])
    })

    test("a user's own room and a base's room reach those who are in them", async (t) => {
      const alice = person('alice')
      const [first, second] = [await listen(t, server, alice, { mode }), await listen(t, server, alice, { mode })]
      const bob = await listen(t, server, person('bob'), { mode })
      await publish(server, alice, `user:${alice.sub}`, 'notification:sent', { text: 'to alice' })
      for (const { heard } of [first, second]) assert.equal((await heard.heard('notification:sent')).data.text, 'to alice')
      const foreign = await rest(server, bob.who, 'POST', `/v1/rooms/user:${alice.sub}/events`, { event: 'notification:sent', data: {} })
      assert.deepEqual([foreign.status, foreign.body.code], [403, 'FORBIDDEN'])
      await refused(bob.socket, 'subscribe', { room: `user:${alice.sub}` }, 'FORBIDDEN')

      await refused(first.socket, 'unsubscribe', { room: `user:${alice.sub}` }, 'CHANNEL_ERROR')

      const room = `base:${alice.sub}`
      await done(bob.socket, 'subscribe', { room })
      await publish(server, operator, room, 'base:renamed', { baseId: 'b1', title: 'new' })
      const renamed = await bob.heard.heard('base:renamed')
      assert.deepEqual([renamed.baseId, renamed.room], ['b1', room])
      assert.deepEqual(first.heard.of('base:renamed'), [])
      assert.deepEqual(bob.heard.of('notification:sent'), [])
    })

    test('who leaves a table is announced to the others, and hears nothing more', async (t) => {
      const { table, tableId, room, id } = await newTable()
      const [alice, bob] = [await joined(t, tableId, 'alice', mode), await joined(t, tableId, 'bob', mode)]
      await done(bob.socket, 'table:leave', { tableId })
      assert.equal((await alice.heard.heard('user:left')).userId, bob.who.sub)
      const before = bob.heard.events.length
      await table.patch(id, { text: 'after bob' })
      await alice.heard.heard('record:updated')
      await done(bob.socket, 'subscribe', { room: `base:of-${bob.who.sub}` })
      await fence(server, operator, `base:of-${bob.who.sub}`, bob)
      assert.deepEqual(bob.heard.events.slice(before).map(({ event }) => event), ['test:fence'])
      assert.deepEqual((await membersOf(server, operator, room)).map(({ userId }) => userId), [alice.who.sub])
    })

    test('a socket that disconnects, or dies without a word, has left all its rooms', async (t) => {
      const [one, two] = [await newTable(), await newTable()]
      const watchers = [await joined(t, one.tableId, 'watcher', mode), await joined(t, two.tableId, 'watcher', mode)]
      for (const leave of [(socket) => socket.disconnect(), (socket) => socket.io.engine.close()]) {
        const alice = await listen(t, server, person('alice'), { mode, reconnection: false })
        for (const { tableId } of [one, two]) await done(alice.socket, 'grid:join-table', { tableId })
        leave(alice.socket)
        for (const [n, { room }] of [one, two].entries()) {
          await watchers[n].heard.heard('user:left', ({ userId }) => userId === alice.who.sub)
          assert.deepEqual((await membersOf(server, operator, room)).map(({ userId }) => userId), [watchers[n].who.sub])
        }
      }
    })
  })
}

describe('specification 000: without a token', () => {
  test('nothing that a socket sends before it has shown a token is processed', async (t) => {
    // Whoever shows none is let go after a second.
    const own = await Server.start(t, { dev: false, env: { SYNCLINE_AUTH__WITHIN_SECONDS: '1', SYNCLINE_AUTH__HOLD_REFUSED_SECONDS: '1' } })
    const { table, tableId, id } = await newTable(own)
    const command = (event, payload) => `42${JSON.stringify([event, payload])}`
    const hostile = (...frames) => new Promise((resolve, reject) => {
      const heard = []
      const socket = new WebSocket(`${own.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`)
      t.after(() => socket.terminate())
      socket.on('message', (data) => {
        const frame = data.toString()
        if (frame === '2') socket.send('3')
        else heard.push(frame)
        if (frame.startsWith('0')) for (const frame of frames) socket.send(frame)
      })
      socket.on('close', () => resolve(heard))
      socket.on('error', reject)
    })
    const edit = command('grid:cell-edit', { tableId, recordId: id, fieldId: 'text', value: 'hacked' })
    const create = command('record:create', { tableId, cells: { text: 'hacked' } })
    const attempts = [[edit, create], ['40{"token":"bad"}', edit, create], ['40', edit], ['40/admin,{}', edit]]
    for (const heard of await Promise.all(attempts.map((frames) => hostile(...frames)))) {
      assert.ok(heard.every((frame) => !frame.startsWith('42') && !frame.startsWith('40{"sid"')), JSON.stringify(heard))
    }
    assert.deepEqual((await table.records()).map(({ cells }) => cells.text), ['v0'])
  })

  test('garbage of one who has shown a token ends that connection at most, and nobody else hears of it', async (t) => {
    const { tableId, room, id } = await newTable()
    const alice = await joined(t, tableId, 'alice')
    const garbage = ['4', '42', '42{', '42[]', '42[7]', '42["record:create"', '42["grid:cell-edit",{"a":', '9', '45', '451-["x",{"_placeholder":true,"num":0}]',
      '4299999999999999999999["subscribe",{}]', `42["${'x'.repeat(10_000)}"]`, `42["subscribe",${'['.repeat(20_000)}`, '43[]', '44{}', '40', '41', '\u0000']
    for (const frame of garbage) {
      const socket = new WebSocket(`${server.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`)
      t.after(() => socket.terminate())
      let answered = false
      socket.on('message', (data) => {
        const text = data.toString()
        if (text.startsWith('0')) socket.send(`40${JSON.stringify({ token: operator.token })}`)
        if (text.startsWith('40')) for (const said of [frame, `421${JSON.stringify(['subscribe', { room }])}`]) socket.send(said)
        if (text.startsWith('431')) answered = true
      })
      await until(() => answered || socket.readyState === WebSocket.CLOSED, () => `an answer or the end after ${frame.slice(0, 40)}`)
      socket.terminate()
    }
    await done(alice.socket, 'grid:cell-edit', { tableId, recordId: id, fieldId: 'text', value: 'goes on' })
    await alice.heard.heard('record:updated')
    assert.equal(alice.socket.connected, true)
  })

  test('under --dev nobody needs a token, and each connection is somebody', async (t) => {
    const own = await Server.start(t)
    const ears = []
    for (const mode of MODES) {
      const ear = await listen(t, own, undefined, { mode })
      await done(ear.socket, 'subscribe', { room: 'project:dev' })
      ears.push(ear)
    }
    const [first, second] = ears
    await until(() => first.heard.of('user:joined').length === 2, 'two who came')
    for (const told of first.heard.of('user:joined')) {
      assert.equal(told.userId, null)
      assert.ok(Number.isInteger(told.clientId), JSON.stringify(told))
    }
    await done(second.socket, 'user:cursor-move', { room: 'project:dev', position: 5 })
    assert.equal((await first.heard.heard('user:cursor-moved')).position, 5)
    second.socket.disconnect()
    await first.heard.heard('user:left')
  })

  test('the connections of all transports are counted, and none is left when they are gone', async (t) => {
    const connections = () => metric(server, 'syncline_connections', 'socket_io')
    await until(async () => (await connections() ?? 0) === 0, 'the end of all others')
    const sockets = []
    for (const mode of MODES) sockets.push(await connect(t, server, person('counted'), { mode }))
    await until(async () => await connections() === MODES.length, 'three connections')
    sockets.forEach((socket) => socket.disconnect())
    await until(async () => await connections() === 0, 'none')
  })
})
