// Tables on several nodes: what one writes the others show, tell as events, and count as the same version.

import assert from 'node:assert/strict'
import { after } from 'node:test'
import { Peer, v310 } from '../lib/clients.mjs'
import { done, listen, person } from '../lib/socketio.mjs'
import { bearer, plain, row, Table } from '../lib/tables.mjs'
import { until } from '../lib/until.mjs'
import { params, story } from './lib/cluster.mjs'
import { Postgres } from './lib/postgres.mjs'

const postgres = await Postgres.start({ after })

const FIELDS = Array.from({ length: 3 }, (_, n) => ({ id: `f${n}`, name: `Field ${n}`, type: 'text' }))

/** A new table, as each node shows it. */
const made = async (nodes, name, records) => {
  const tables = nodes.map((node) => new Table(node, name, bearer('maker')))
  await tables[0].create(FIELDS)
  const rows = await tables[0].insert(Array.from({ length: records }, () => ({ cells: { f0: 'v0' } })))
  return { tables, ids: rows.map(({ id }) => id) }
}

/** Somebody in the table's room. */
const page = async (t, node, table) => {
  const ear = await listen(t, node, person('page'))
  await done(ear.socket, 'grid:join-table', { tableId: table.name })
  return ear
}

story('a patch on one node is read on another, and heard on a third as grid:cell-edited', { nodes: 3, postgres }, async (t, { nodes }) => {
  const { tables: [here, there, third], ids: [id] } = await made(nodes, 'told', 1)
  const ears = await Promise.all(nodes.map((node) => page(t, node, third)))
  const grid = await new Peer(t, v310, nodes[1], here.doc, params('grid')).synced()
  const { version } = await here.patch(id, { f0: 'patched' })
  await until(async () => (await there.record(id)).cells.f0 === 'patched', 'the other node shows it')
  assert.equal((await there.record(id)).version, version)
  const events = await Promise.all(ears.map(({ heard }) => heard.heard('grid:cell-edited')))
  for (const event of events) {
    assert.deepEqual([event.recordId, event.fieldId, event.value, event.version, event.userId], [id, 'f0', 'patched', version, 'maker'])
    assert.equal(event.eventId, events[0].eventId)
  }
  await until(() => row(grid.doc, id)?.get('f0') === 'patched', 'the grid shows it')
  row(grid.doc, id).set('f1', 'by the grid')
  for (const { heard } of ears) await heard.heard('grid:cell-edited', ({ value, userId }) => value === 'by the grid' && userId === 'grid')
  // Whoever knows the version from one node may write on another.
  const { version: latest } = await third.record(id)
  const again = await here.ask('PATCH', `/records/${id}`, { cells: { f2: 'third' }, expectedVersion: latest })
  assert.equal(again.status, 200, JSON.stringify(again.body))
  assert.equal(again.body.version, latest + 1)
})

story('versions and content are equal on all nodes after everybody wrote everywhere', { nodes: 3, postgres }, async (t, { nodes }) => {
  const { tables, ids } = await made(nodes, 'busy', 5)
  const grids = await Promise.all(nodes.map((node, n) => new Peer(t, v310, node, tables[n].doc, params(`grid${n}`)).synced()))
  await Promise.all(nodes.map(async (_, n) => {
    for (let edit = 0; edit < 15; edit++) {
      const id = ids[(edit + n) % ids.length]
      await tables[n].patch(id, { [`f${edit % 3}`]: `rest ${n}.${edit}` })
      row(grids[n].doc, ids[edit % ids.length]).set('f1', `grid ${n}.${edit}`)
    }
  }))
  const shown = async (table) => (await table.records()).map((record) => ({ ...plain(record), version: record.version }))
  let all = []
  await until(async () => {
    all = await Promise.all(tables.map(shown))
    return all.every((some) => JSON.stringify(some) === JSON.stringify(all[0]))
  }, () => `equal tables:\n${all.map((some) => JSON.stringify(some)).join('\n')}`, 60_000)
  for (const grid of grids) {
    await until(() => all[0].every(({ id, cells }) => FIELDS.every((field) => row(grid.doc, id).get(field.id) === cells[field.id])), 'the grids show it')
  }
})

story('two nodes patch from the same version: one wins, the other is told of it', { postgres }, async (t, { nodes }) => {
  const { tables: [here, there], ids: [id] } = await made(nodes, 'disputed', 1)
  const watcher = await new Peer(t, v310, nodes[1], there.doc, params('watcher')).synced()
  const { version } = await here.patch(id, { f0: 'first' })
  await until(() => row(watcher.doc, id)?.get('f0') === 'first', 'the other node has it')
  const late = await there.ask('PATCH', `/records/${id}`, { cells: { f0: 'second' }, expectedVersion: version - 1 })
  assert.deepEqual([late.status, late.body.code, late.body.data.currentVersion], [409, 'CONCURRENT_EDIT', version])
  assert.equal((await here.record(id)).cells.f0, 'first')
})
