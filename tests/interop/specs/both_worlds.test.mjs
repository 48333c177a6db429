// One table in two languages at once: grids on Yjs, and pages on Socket.IO. One truth, whoever asks.

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { Peer, v310, v400 } from '../lib/clients.mjs'
import { Server } from '../lib/server.mjs'
import { ask, done, fence, listen, membersOf, MODES, operator, person, refused, rest, shaped } from '../lib/socketio.mjs'
import { Listener } from '../lib/sse.mjs'
import { row, settled, shows, Table } from '../lib/tables.mjs'
import { until } from '../lib/until.mjs'

const EDITORS = 10
const EDITS_EACH = 20
const server = await Server.start({ after }, { dev: false })

const FIELDS = Array.from({ length: EDITORS }, (_, n) => ({ id: `f${n}`, name: `Field ${n}`, type: 'text' }))

let tables = 0
const newTable = async (cells = { f0: 'v0' }) => {
  const table = new Table(server, `both${++tables}`, { authorization: `Bearer ${operator.token}` })
  await table.create(FIELDS)
  const [{ id }] = await table.insert([{ cells }])
  return { table, tableId: table.name, room: table.doc, id }
}

/** A grid on Yjs. */
const grid = (t, table, who, client = v310) =>
  new Peer(t, client, server, table.doc, { params: { token: who.token } }).synced()

/** A page on Socket.IO, in the table's room. */
const page = async (t, table, who, mode) => {
  const ear = await listen(t, server, who, { mode })
  ear.answer = await done(ear.socket, 'grid:join-table', { tableId: table.name })
  return ear
}

/** A table as the events tell it: the last value of each cell. */
const told = ({ heard }) => {
  const cells = {}
  for (const { recordId, fieldId, value } of heard.of('grid:cell-edited')) cells[`${recordId}/${fieldId}`] = value
  return cells
}

for (const mode of MODES) {
  describe(`both worlds over ${mode.name}`, { concurrency: 2 }, () => {
    for (const client of [v310, v400]) {
      test(`a cell that a grid edits is heard by a page, and a page's edit arrives in the grid (${client.name})`, async (t) => {
        const { table, tableId, id } = await newTable()
        const [alice, bob] = [person('alice'), person('bob')]
        const yjs = await grid(t, table, alice, client)
        const io = await page(t, table, bob, mode)
        row(yjs.doc, id).set('f0', 'by the grid')
        const edited = await io.heard.heard('grid:cell-edited')
        assert.deepEqual([edited.recordId, edited.fieldId, edited.value, edited.data.previous, edited.userId, edited.source],
          [id, 'f0', 'by the grid', 'v0', alice.sub, 'user_action'])
        const { version } = await done(io.socket, 'grid:cell-edit',
          { tableId, recordId: id, fieldId: 'f1', value: 'by the page', expectedVersion: edited.version })
        assert.equal(version, edited.version + 1)
        await shows(yjs, id, 'f1', 'by the page')
        const { recordId } = await done(io.socket, 'record:create', { tableId, cells: { f0: 'a new one' }, after: id })
        await shows(yjs, recordId, 'f0', 'a new one')
        await done(io.socket, 'record:delete', { tableId, recordId })
        await until(() => row(yjs.doc, recordId).get('$d') !== undefined, 'the deletion')
        const shown = await settled([yjs], table)
        assert.deepEqual(shown.map(({ cells, deleted }) => [cells, deleted]),
          [[{ f0: 'by the grid', f1: 'by the page' }, false], [{ f0: 'a new one' }, true]])
      })
    }

    test('ten grids edit at once: a page hears every edit in the order of the table, and ends equal', async (t) => {
      const { table, room, id } = await newTable()
      const ear = await page(t, table, person('watcher'), mode)
      const peers = []
      for (let n = 0; n < EDITORS; n++) peers.push(await grid(t, table, person(`grid${n}`)))
      // Every grid has a cell of its own, and all of them meet in one.
      for (let edit = 1; edit <= EDITS_EACH; edit++) {
        peers.forEach(({ doc }, n) => {
          row(doc, id).set(`f${n}`, `${n}.${edit}`)
          if (n > 0) row(doc, id).set('f0', `meet ${n}.${edit}`)
        })
        await Promise.all(peers.map((peer) => peer.acknowledged()))
      }
      const [shown] = await settled(peers, table)
      await fence(server, operator, room, ear)
      const cells = told(ear)
      for (const field of FIELDS) assert.equal(cells[`${id}/${field.id}`], shown.cells[field.id], field.id)
      for (let n = 1; n < EDITORS; n++) {
        const own = ear.heard.of('grid:cell-edited').filter(({ fieldId }) => fieldId === `f${n}`).map(({ value }) => value)
        assert.deepEqual(own, Array.from({ length: EDITS_EACH }, (_, edit) => `${n}.${edit + 1}`))
      }
      const ids = ear.heard.of('grid:cell-edited').map(({ eventId }) => eventId)
      assert.deepEqual(ids, [...new Set(ids)].sort())
    })

    test('ten pages edit at once: every acknowledged edit arrives in a grid, and all end equal', async (t) => {
      const { table, tableId, room, id } = await newTable()
      const yjs = [await grid(t, table, person('grid')), await grid(t, table, person('grid'), v400)]
      const seen = new Set()
      yjs[0].doc.on('update', () => {
        for (const { id: field } of FIELDS) seen.add(row(yjs[0].doc, id).get(field))
      })
      const pages = []
      for (let n = 0; n < EDITORS; n++) pages.push(await page(t, table, person(`page${n}`), mode))
      const versions = (await Promise.all(pages.map(async ({ socket }, n) => {
        const versions = []
        for (let edit = 1; edit <= EDITS_EACH; edit++) {
          const fieldId = edit % 4 === 0 ? 'f0' : `f${n}`
          versions.push((await done(socket, 'grid:cell-edit', { tableId, recordId: id, fieldId, value: `${n}.${edit}` })).version)
        }
        return versions
      }))).flat()
      const WRITTEN = EDITORS * EDITS_EACH
      assert.deepEqual(versions.sort((a, b) => a - b), Array.from({ length: WRITTEN }, (_, n) => n + 2), 'one version for each edit')
      const [shown] = await settled(yjs, table)
      for (let n = 1; n < EDITORS; n++) assert.equal(shown.cells[`f${n}`], `${n}.${EDITS_EACH - 1}`)
      for (const ear of pages) {
        await fence(server, operator, room, ear)
        assert.equal(ear.heard.of('grid:cell-edited').length, WRITTEN)
        const cells = told(ear)
        for (const field of FIELDS) assert.equal(cells[`${id}/${field.id}`], shown.cells[field.id])
      }
      assert.ok(seen.has(`1.${EDITS_EACH - 1}`))
    })

    test('grids and pages edit the same cells at once, and everybody ends with the same table', async (t) => {
      const { table, tableId, room, id } = await newTable()
      const [yjs, pages] = [[], []]
      for (let n = 0; n < EDITORS / 2; n++) {
        yjs.push(await grid(t, table, person(`grid${n}`), n % 2 === 0 ? v310 : v400))
        pages.push(await page(t, table, person(`page${n}`), mode))
      }
      await Promise.all([
        ...yjs.map(async (peer, n) => {
          for (let edit = 0; edit < EDITS_EACH; edit++) {
            row(peer.doc, id).set(`f${edit % 3}`, `grid ${n}.${edit}`)
            await peer.acknowledged()
          }
        }),
        ...pages.map(async ({ socket }, n) => {
          for (let edit = 0; edit < EDITS_EACH; edit++) {
            await done(socket, 'grid:cell-edit', { tableId, recordId: id, fieldId: `f${edit % 3}`, value: `page ${n}.${edit}` })
          }
        })
      ])
      const [shown] = await settled(yjs, table)
      for (const ear of pages) {
        await fence(server, operator, room, ear)
        const cells = told(ear)
        for (const field of ['f0', 'f1', 'f2']) assert.equal(cells[`${id}/${field}`], shown.cells[field])
      }
    })

    test('two optimistic editors of one version: one succeeds, the other is told the current value and rolls back', async (t) => {
      const ROUNDS = 10
      const { table, tableId, id } = await newTable()
      const editors = [await page(t, table, person('alice'), mode), await page(t, table, person('bob'), mode)]
      const yjs = await grid(t, table, person('grid'))
      for (let round = 1; round <= ROUNDS; round++) {
        const before = await table.record(id)
        const views = editors.map(() => before.cells.f0)
        const answers = await Promise.all(editors.map(({ socket }, n) => {
          views[n] = `${round} by ${n}`
          return ask(socket, 'grid:cell-edit',
            { tableId, recordId: id, fieldId: 'f0', value: views[n], expectedVersion: before.version })
        }))
        const winner = answers.findIndex(({ success }) => success)
        const loser = 1 - winner
        assert.deepEqual(answers.map(({ success }) => success).toSorted(), [false, true])
        assert.equal(answers[winner].version, before.version + 1)
        assert.equal(shaped(answers[loser]).code, 'CONCURRENT_EDIT')
        await until(() => editors[loser].heard.of('error:conflict').some(({ currentValue }) => currentValue === views[winner]), 'error:conflict')
        views[loser] = editors[loser].heard.of('error:conflict').at(-1).currentValue
        assert.equal(views[0], views[1])
        await shows(yjs, id, 'f0', views[winner])
      }
      const conflicts = editors.reduce((sum, { heard }) => sum + heard.of('error:conflict').length, 0)
      assert.equal(conflicts, ROUNDS)
      assert.equal((await table.record(id)).version, ROUNDS + 1)
    })

    test('a stale page is refused after a grid has edited, and may go on with what is there', async (t) => {
      const { table, tableId, id } = await newTable()
      const yjs = await grid(t, table, person('grid'))
      const { socket, heard } = await page(t, table, person('page'), mode)
      row(yjs.doc, id).set('f0', 'by the grid')
      await heard.heard('grid:cell-edited')
      const edit = { tableId, recordId: id, fieldId: 'f0', value: 'by the page', expectedVersion: 1 }
      const { data } = await refused(socket, 'grid:cell-edit', edit, 'CONCURRENT_EDIT')
      assert.deepEqual([data.currentValue, data.currentVersion], ['by the grid', 2])
      await done(socket, 'grid:cell-edit', { ...edit, expectedVersion: data.currentVersion })
      await shows(yjs, id, 'f0', 'by the page')
    })

    test('a page and an event stream hear the same of what grids and pages do', async (t) => {
      const { table, tableId, room, id } = await newTable()
      const ear = await page(t, table, person('page'), mode)
      const stream = await Listener.open(t, server, room, { headers: table.headers })
      const yjs = await grid(t, table, person('grid'))
      for (let n = 0; n < 10; n++) {
        row(yjs.doc, id).set('f1', `grid ${n}`)
        await done(ear.socket, 'grid:cell-edit', { tableId, recordId: id, fieldId: 'f2', value: `page ${n}` })
      }
      await yjs.acknowledged()
      await fence(server, operator, room, ear)
      await stream.heard('test:fence')
      const changes = (events) => events.filter(({ revision }) => revision !== undefined && revision !== null)
      assert.deepEqual(changes(ear.heard.events).map(({ event, ...told }) => told), changes(stream.events))
      assert.equal(ear.heard.of('record:updated').length, 20)
    })

    test('a wrong edit of a grid is put back, and the pages of its user alone are told', async (t) => {
      const { table, room, id } = await newTable()
      const [alice, bob] = [person('alice'), person('bob')]
      const yjs = await grid(t, table, alice)
      const [own, other] = [await page(t, table, alice, mode), await page(t, table, bob, mode)]
      row(yjs.doc, id).set('f0', 42)
      const told = await own.heard.heard('error:validation')
      assert.deepEqual([told.recordId, told.fieldId, told.data.value, told.data.reverted], [id, 'f0', 42, true])
      await shows(yjs, id, 'f0', 'v0')
      await fence(server, operator, room, other)
      assert.deepEqual(other.heard.of('error:validation'), [])
    })

    test('a page sees the grids that come, move and go', async (t) => {
      const { table, room } = await newTable()
      const ear = await page(t, table, person('page'), mode)
      const who = person('grid')
      const yjs = await grid(t, table, who)
      const mine = ({ userId }) => userId === who.sub
      yjs.awareness.setLocalState({ user: { name: 'Grid' }, cursor: { recordId: 'r', fieldId: 'f0' } })
      assert.equal((await ear.heard.heard('user:joined', mine)).userName, who.name)
      const moved = await ear.heard.heard('user:cursor-moved', mine)
      assert.deepEqual([moved.position, moved.clientId], [{ recordId: 'r', fieldId: 'f0' }, yjs.doc.clientID])
      yjs.awareness.setLocalStateField('selection', ['r', 'f0', 'f3'])
      assert.deepEqual((await ear.heard.heard('grid:selection-changed', mine)).selection, ['r', 'f0', 'f3'])
      for (let n = 1; n <= 50; n++) yjs.awareness.setLocalStateField('cursor', n)
      await ear.heard.heard('user:cursor-moved', ({ position }) => position === 50)
      const members = await membersOf(server, operator, room)
      assert.deepEqual(members.find(mine).clientIds, [yjs.doc.clientID])
      yjs.leave()
      await ear.heard.heard('user:left', mine)
      assert.ok(!(await membersOf(server, operator, room)).some(mine))
    })

    test('a grid sees the pages that come, move and go', async (t) => {
      const { table, tableId } = await newTable()
      const who = person('page')
      const yjs = await grid(t, table, person('grid'))
      const states = () => [...yjs.awareness.getStates()].filter(([id]) => id !== yjs.doc.clientID).map(([, state]) => state)
      const { socket } = await page(t, table, who, mode)
      const [{ user }] = await until(() => states().length === 1 && states(), 'one more')
      assert.deepEqual(user, { id: who.sub, name: who.name, email: who.email })
      await done(socket, 'user:cursor-move', { tableId, position: { recordId: 'r', x: 4 } })
      await until(() => states()[0]?.cursor?.x === 4, () => `the cursor, sees ${JSON.stringify(states())}`)
      await done(socket, 'grid:selection-change', { tableId, selection: ['a', 'b'] })
      await until(() => states()[0]?.selection?.length === 2, () => `the selection, sees ${JSON.stringify(states())}`)
      await done(socket, 'user:typing', { tableId })
      await until(() => states()[0]?.typing === true, () => `typing, sees ${JSON.stringify(states())}`)
      await done(socket, 'presence:update', { status: 'busy' })
      await until(() => states()[0]?.status === 'busy', () => `the status, sees ${JSON.stringify(states())}`)
      const { body } = await rest(server, operator, 'GET', `/v1/docs/${encodeURIComponent(table.doc)}/presence`)
      assert.ok(body.members.some(({ userId }) => userId === who.sub), JSON.stringify(body))
      socket.disconnect()
      await until(() => states().length === 0, () => `nobody, sees ${JSON.stringify(states())}`)
    })
  })
}
