// Grids and applications at once: Yjs clients of both generations with breaking connections, and REST, edit the same 1 000
// records. Everybody ends with the same table; what was acknowledged over REST is there or was overwritten knowingly; and
// whoever only heard the events has the same table too.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { test } from 'node:test'
import { generateKeyBetween } from 'fractional-indexing'
import * as jittered from 'fractional-indexing-jittered'
import { Peer, v310, v400 } from './lib/clients.mjs'
import { Editor, HASTY, v4 } from './lib/collab.mjs'
import { draws } from './lib/draws.mjs'
import { Server } from './lib/server.mjs'
import { Listener } from './lib/sse.mjs'
import { addRow, bearer, Copy, difference, params, plain, readTable, row, settled, Table, tokenOf } from './lib/tables.mjs'
import { until, windowOf } from './lib/until.mjs'

const SEED = Number(process.env.INTEROP_SEED ?? randomInt(2 ** 31))
/** With it everybody writes for so long, without it as often as `EDITS` and `REQUESTS` say. */
const SECONDS = process.env.SYNCLINE_TABLE_SECONDS
const RECORDS = 1000
const EDITS = 160
const REQUESTS = 120
const PAUSE_MS = 100
const OFFLINE_EDITS = 12
/** Most edits meet here, so that there is something to lose. */
const HOT = 25
const FIELDS = [
  { id: 'text', name: 'Text', type: 'text' },
  { id: 'more', name: 'More', type: 'text' },
  { id: 'num', name: 'Number', type: 'number' },
  { id: 'free', name: 'Free', type: 'number' },
  { id: 'tags', name: 'Tags', type: 'multiselect', choices: ['a', 'b', 'c'].map((id) => ({ id, name: id })) }
]
/** Each value in these is written once, and they are never cleared: it shows whose it is. */
const UNIQUE = ['text', 'more', 'num']

/** Who wrote what over what: the value that each writer saw in the cell, and in which order the values showed. */
class Chains {
  #seen = new Map()
  #shown = new Map()
  #acknowledged = []
  #next = 1

  static #of (cells, id, field) {
    const cell = `${id} ${field}`
    if (!cells.has(cell)) cells.set(cell, new Map())
    return cells.get(cell)
  }

  /** A value that nobody wrote before. */
  fresh (field, who) { return field === 'num' ? this.#next++ : `${who} ${this.#next++}` }

  wrote (id, field, value, seen) {
    const known = Chains.#of(this.#seen, id, field)
    // A value that the server writes again was seen by those who had seen it before.
    if (!known.has(value)) known.set(value, seen ?? null)
  }

  /** The server showed a value in place of another: the last time counts. */
  showed (id, field, value, previous) {
    // Of a request nothing else is known but that it saw what the server had. What a person saw, they said before.
    this.wrote(id, field, value, previous)
    Chains.#of(this.#shown, id, field).set(previous ?? null, value)
  }

  acknowledged (id, field, value) { this.#acknowledged.push({ id, field, value }) }

  /** Whether whoever wrote `value` knew of `of`. */
  #knew (id, field, value, of) {
    const seen = Chains.#of(this.#seen, id, field)
    const chain = new Set()
    for (let at = value ?? null; at !== null && !chain.has(at); at = seen.get(at) ?? null) chain.add(at)
    return chain.has(of)
  }

  /** Acknowledged writes that are not there, and gave way to somebody who had not seen them. */
  lost (table) {
    const finals = new Map(table.map(({ id, cells }) => [id, cells]))
    return this.#acknowledged.filter(({ id, field, value }) => {
      if (finals.get(id)?.[field] === value) return false
      return !this.#knew(id, field, Chains.#of(this.#shown, id, field).get(value), value)
    })
  }

  get count () { return this.#acknowledged.length }
}

const pick = (draw, list) => list[Math.floor(draw() * list.length)]
const idOf = (draw, ids) => draw() < 0.7 ? ids[Math.floor(draw() * HOT)] : pick(draw, ids)

// ---- people with a grid ----

/** One edit of a grid, on its own copy. */
const editOnce = (person, draw, ids, chains) => {
  const { peer, name } = person
  const kind = draw()
  const id = idOf(draw, ids)
  const map = row(peer.doc, id)
  if (map === undefined) return
  if (kind < 0.62) {
    const field = pick(draw, UNIQUE)
    const value = chains.fresh(field, name)
    chains.wrote(id, field, value, map.get(field))
    map.set(field, value)
  } else if (kind < 0.7) {
    if (draw() < 0.4) map.clear('free')
    else map.set('free', Math.floor(draw() * 3))
  } else if (kind < 0.78) {
    const tag = `tags/${pick(draw, ['a', 'b', 'c'])}`
    if (map.get(tag) === true) map.clear(tag)
    else map.set(tag, true)
  } else if (kind < 0.84) {
    // Two cells, and the height of the row: one transaction is one version.
    peer.doc.transact(() => {
      for (const field of ['text', 'num']) {
        const value = chains.fresh(field, name)
        chains.wrote(id, field, value, map.get(field))
        map.set(field, value)
      }
      map.set('$h', 20 + Math.floor(draw() * 80))
    })
  } else if (kind < 0.9) {
    move(peer.doc, id, draw)
  } else if (kind < 0.95) {
    if (map.get('$d') !== undefined) map.clear('$d')
    else if (draw() < 0.5) map.set('$d', { t: 1, by: name })
  } else if (kind < 0.97) {
    // Half a table in one transaction.
    peer.doc.transact(() => ids.slice(HOT, HOT + 60).forEach((id) => row(peer.doc, id)?.set('free', Math.floor(draw() * 3))))
  } else if (peer.yjs !== v400.yjs) {
    // What @y/y 14 nests is no map for yjs 13, so it only edits rows that others made.
    const mine = `${name}x${Math.floor(draw() * 2 ** 31).toString(36)}`.replace(/[^0-9A-Za-z]/g, '')
    const text = chains.fresh('text', name)
    chains.wrote(mine, 'text', text, null)
    addRow(peer.doc, mine, { $o: jittered.generateJitteredKeyBetween(null, null), text })
    ids.push(mine)
  }
}

const move = (doc, id, draw) => {
  const orders = [...new Set(readTable(doc).map(({ order }) => order))]
  const at = Math.floor(draw() * (orders.length - 1))
  const between = draw() < 0.5 ? generateKeyBetween : jittered.generateJitteredKeyBetween
  row(doc, id).set('$o', between(orders[at], orders[at + 1]))
}

/** Edits, breaks off, goes away and edits on, comes back. */
const live = async (person, draw, ids, chains, goesOn) => {
  for (let n = 0; goesOn(n, EDITS); n++) {
    editOnce(person, draw, ids, chains)
    const fate = draw()
    if (fate < 0.02) person.breakOff()
    else if (fate < 0.05) {
      person.away()
      for (let burst = Math.ceil(draw() * OFFLINE_EDITS); burst > 0; burst--) {
        editOnce(person, draw, ids, chains)
        await windowOf(draw() * PAUSE_MS)
      }
      person.back()
    }
    await windowOf(draw() * PAUSE_MS)
  }
}

// ---- applications ----

/** One request; refusals are those that a stale or a deleted record explains. */
const requestOnce = async (app, draw, ids, chains) => {
  const { table, name, versions, refused } = app
  const id = idOf(draw, ids)
  const kind = draw()
  const cellsFor = (...fields) => Object.fromEntries(fields.map((field) => [field, chains.fresh(field, name)]))
  const patch = async (cells, more) => {
    const answer = await table.ask('PATCH', `/records/${id}`, { cells, ...more })
    if (answer.status === 200) {
      for (const [field, value] of Object.entries(cells)) chains.acknowledged(id, field, value)
      assert.deepEqual(Object.fromEntries(Object.keys(cells).map((field) => [field, answer.body.cells[field]])), cells)
      if (more.expectedVersion !== undefined && !answer.body.merged) {
        assert.equal(answer.body.version, more.expectedVersion + 1)
      }
      versions.set(id, answer.body.version)
      return
    }
    refused.push(...Object.values(cells))
    assert.ok([404, 409].includes(answer.status), `${answer.status} ${JSON.stringify(answer.body)}`)
    if (answer.body.code === 'CONCURRENT_EDIT') {
      assert.ok(answer.body.data.currentVersion > more.expectedVersion, JSON.stringify(answer.body))
      versions.set(id, answer.body.data.currentVersion)
    } else assert.ok(['RECORD_DELETED', 'NOT_FOUND'].includes(answer.body.code), JSON.stringify(answer.body))
  }
  if (kind < 0.45) await patch(cellsFor(pick(draw, UNIQUE)), {})
  else if (kind < 0.7 && versions.has(id)) {
    const onConflict = pick(draw, ['field', 'record'])
    await patch(cellsFor('text', 'num'), { expectedVersion: versions.get(id), onConflict })
  } else if (kind < 0.8) {
    const wanted = [...new Set([id, idOf(draw, ids), idOf(draw, ids)])].map((id) => ({ id, cells: cellsFor('more') }))
    const answer = await table.ask('PATCH', '/records', { records: wanted })
    for (const { id, cells } of wanted) {
      if (answer.status === 200) chains.acknowledged(id, 'more', cells.more)
      else refused.push(cells.more)
    }
    assert.ok([200, 404, 409].includes(answer.status), `${answer.status} ${JSON.stringify(answer.body)}`)
  } else if (kind < 0.86) {
    const answer = await table.ask('PATCH', `/records/${id}`, { after: idOf(draw, ids) })
    assert.ok([200, 404, 409, 422].includes(answer.status), `${answer.status} ${JSON.stringify(answer.body)}`)
  } else if (kind < 0.88) {
    const answer = await table.ask('DELETE', `/records/${id}`)
    assert.ok([200, 204, 404, 409].includes(answer.status), `${answer.status} ${JSON.stringify(answer.body)}`)
  } else if (kind < 0.97) {
    const answer = await table.ask('POST', `/records/${id}/restore`)
    assert.ok([200, 404, 409].includes(answer.status), `${answer.status} ${JSON.stringify(answer.body)}`)
  } else {
    const cells = cellsFor('text')
    const [record] = await table.insert([{ cells, after: idOf(draw, ids.slice(0, HOT)) }])
    chains.acknowledged(record.id, 'text', cells.text)
    ids.push(record.id)
  }
}

const serve = async (app, draw, ids, chains, goesOn) => {
  for (let n = 0; goesOn(n, REQUESTS); n++) {
    await requestOnce(app, draw, ids, chains)
    await windowOf(draw() * PAUSE_MS)
  }
}

/** Everybody: three people with yjs 13 over y-websocket, two with @y/y 14, one with Hocuspocus. */
const people = async (t, server, room) => {
  const all = []
  for (const [at, client] of [v310, v400, v310, v400, v310].entries()) {
    const name = `person${at}`
    const peer = await new Peer(t, client, server, room, params(name)).synced(60_000)
    all.push({
      name,
      peer,
      breakOff: () => peer.provider.ws?.terminate(),
      away: () => peer.disconnect(),
      back: () => peer.connect()
    })
  }
  const editor = await new Editor(t, [v4, server, HASTY], room, { token: tokenOf('person5') }).synced(60_000)
  all.push({
    name: 'person5',
    peer: editor,
    breakOff: () => editor.line.break(),
    away: () => editor.line.socket.disconnect(),
    back: () => editor.line.socket.connect()
  })
  return all
}

/** What the events say about who had seen what: a request saw what the server had. */
const tellChains = (events, chains) => {
  const tell = (id, changed, previous) => {
    for (const field of UNIQUE) if (field in changed) chains.showed(id, field, changed[field], previous?.[field])
  }
  for (const { type, recordId, data } of events) {
    if (type === 'record:updated') tell(recordId, data.changed, data.previous)
    if (type === 'record:created') tell(data.record.id, data.record.cells)
    if (type !== 'records:updated') continue
    data.created.forEach(({ id, cells }) => tell(id, cells))
    data.updated.forEach(({ recordId, changed, previous }) => tell(recordId, changed, previous))
  }
}

/** Listens, and loses the connection now and then: `Last-Event-ID` brings what was missed. */
const listen = async (listener, draw, isOver) => {
  while (!isOver()) {
    await windowOf(300 + draw() * 700)
    await listener.drop()
    await windowOf(draw() * 200)
    await listener.resume()
  }
}

test('Yjs clients of both generations and REST edit 1 000 records, break off at random, and end with one table', async (t) => {
  t.diagnostic(`INTEROP_SEED=${SEED}`)
  const server = await Server.start(t, { dev: false, env: { SYNCLINE_HISTORY__EVENTS: '100000' } })
  const table = new Table(server, 'mixed', bearer('maker'))
  const steady = await Listener.open(t, server, table.doc, { headers: bearer('steady') })
  const shaky = await Listener.open(t, server, table.doc, { headers: bearer('shaky') })
  await table.create(FIELDS)
  const chains = new Chains()
  const made = await table.insert(Array.from({ length: RECORDS }, (_, n) => ({ cells: { text: `start ${n}`, num: -n - 1 } })))
  for (const { id, cells } of made) for (const [field, value] of Object.entries(cells)) chains.wrote(id, field, value, null)
  const ids = made.map(({ id }) => id)
  const all = await people(t, server, table.doc)
  const apps = ['app0', 'app1', 'app2'].map((name) => ({ name, table: table.as(name), versions: new Map(), refused: [] }))

  const end = SECONDS === undefined ? null : Date.now() + Number(SECONDS) * 1000
  let isOver = false
  t.after(() => { isOver = true })
  const goesOn = (n, most) => !isOver && (end === null ? n < most : Date.now() < end)
  const listening = listen(shaky, draws(SEED + 99), () => isOver)
  await Promise.all([
    ...all.map((person, n) => live(person, draws(SEED + n), ids, chains, goesOn)),
    ...apps.map((app, n) => serve(app, draws(SEED + 50 + n), ids, chains, goesOn))
  ])
  isOver = true
  await listening
  for (const { peer } of all) await peer.synced(60_000)
  const shown = await settled(all.map(({ peer }) => peer), table, 120_000)
  const { revision } = await table.describe()
  const records = await table.records()

  await t.test('the events alone give the same table, and every version counts one visible change', async () => {
    for (const listener of [steady, shaky]) {
      await until(() => listener.events.length > 0, 'events')
      await listener.upTo(listener === steady ? 0 : steady.revision, 60_000)
    }
    // Transactions that show nothing are in the log and are not told: the last one told is what a last visible change makes.
    await table.patch(made[999].id, { free: 12345 }, { onConflict: 'force' }).catch(async () => {
      await table.restore(made[999].id)
      await table.patch(made[999].id, { free: 12345 })
    })
    const last = await table.records()
    const copies = []
    for (const listener of [steady, shaky]) {
      await until(() => listener.events.some(({ type, data }) => type === 'record:updated' && data.changed.free === 12345),
        'the last event', 60_000)
      assert.deepEqual(listener.ready.map(({ recovered }) => recovered), listener.ready.map(() => true))
      const copy = new Copy()
      listener.events.forEach((event) => copy.take(event))
      copies.push(copy)
      assert.deepEqual(difference(copy.table, last.map(plain)), 'nothing')
      for (const { id, version, updatedBy, updatedAt } of last) {
        const { version: counted, by, at } = copy.records.get(id)
        assert.deepEqual({ id, version, updatedBy, updatedAt }, { id, version: counted, updatedBy: by, updatedAt: at })
      }
    }
    assert.deepEqual(shaky.changes.map(({ eventId }) => eventId),
      steady.events.filter(({ revision }) => revision !== undefined).map(({ eventId }) => eventId), 'nothing missed or twice')
  })

  await t.test('each write that REST acknowledged is there, or was overwritten by somebody who had seen it', () => {
    tellChains(steady.events, chains)
    const lost = chains.lost(shown)
    assert.ok(chains.count > 100, `${chains.count} acknowledged writes`)
    assert.deepEqual(lost, [], `${lost.length} of ${chains.count} are lost`)
  })

  await t.test('a write that REST refused never showed', () => {
    const told = JSON.stringify(steady.events)
    const refused = apps.flatMap(({ refused }) => refused).filter((value) => typeof value === 'string')
    assert.deepEqual(refused.filter((value) => told.includes(JSON.stringify(value))), [])
    t.diagnostic(`${chains.count} writes acknowledged, ${refused.length} refused, ${steady.events.length} events, ` +
      `revision ${revision}, ${records.length} records, dials ${all.map(({ peer }) => peer.dials ?? peer.line.dials)}`)
  })
})
