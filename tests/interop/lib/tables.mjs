// Tables from both sides: records over REST, and the same rows in a Yjs document of either generation.

import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import * as Y from 'yjs'
import { Peer, v310 } from './clients.mjs'
import { Listener } from './sse.mjs'
import { token } from './token.mjs'
import { until } from './until.mjs'

/** What somebody shows to read and write tables. */
export const tokenOf = (sub, level = 'write') => token({ 'table:*': level }, { sub })
export const bearer = (sub, level) => ({ authorization: `Bearer ${tokenOf(sub, level)}` })
/** Options of a provider of the y-websocket family. */
export const params = (sub) => ({ params: { token: tokenOf(sub) } })

/** The same client with a given id: which of two concurrent edits of a cell wins follows from it. */
export const withId = (client, id) => {
  class Doc extends client.yjs.Doc {
    constructor (options) {
      super(options)
      this.clientID = id
    }
  }
  return { ...client, yjs: { ...client.yjs, Doc } }
}

/** Byte order of UTF-8, as the server sorts. */
export const byBytes = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))
export const byPlace = (a, b) => byBytes(a.order, b.order) || byBytes(a.id, b.id)

/** One table over REST. */
export class Table {
  constructor (server, name, headers = {}) {
    this.server = server
    this.name = name
    this.headers = headers
    this.doc = `table:${name}`
  }

  /** The same table, seen by somebody else. */
  as (sub) { return new Table(this.server, this.name, bearer(sub)) }

  /** Answers `{status, headers, body}`, whatever it is. */
  async ask (method, path, body, headers = {}) {
    const response = await fetch(`${this.server.url}/v1/tables/${encodeURIComponent(this.name)}${path}`, {
      method,
      headers: { ...this.headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(60_000)
    })
    const text = await response.text()
    return { status: response.status, headers: response.headers, body: text === '' ? null : JSON.parse(text) }
  }

  async #good (...asked) {
    const answer = await this.ask(...asked)
    assert.ok(answer.status < 300, `${asked[0]} ${asked[1]}: ${answer.status} ${JSON.stringify(answer.body)}`)
    return answer.body
  }

  async create (fields, title) { return this.#good('PUT', '', { fields, title }) }
  async describe () { return this.#good('GET', '') }
  async insert (records) { return (await this.#good('POST', '/records', { records })).records }
  async record (id) { return this.#good('GET', `/records/${id}`) }
  async patch (id, cells, more = {}) { return this.#good('PATCH', `/records/${id}`, { cells, ...more }) }
  async remove (id) { return this.#good('DELETE', `/records/${id}`) }
  async restore (id) { return this.#good('POST', `/records/${id}/restore`) }

  /** All records, page by page. */
  async records ({ includeDeleted = true, limit = 500 } = {}) {
    const all = []
    for (let cursor = ''; cursor !== null;) {
      const page = await this.#good('GET',
        `/records?limit=${limit}&includeDeleted=${includeDeleted}${cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`}`)
      all.push(...page.records)
      cursor = page.nextCursor ?? null
    }
    return all
  }
}

/** What every side must show alike, from a record of REST. */
export const plain = ({ id, cells, order, height, deleted }) =>
  ({ id, cells, order, height: height ?? null, deleted: deleted !== undefined && deleted !== null })

// ---- the document ----

const isOld = (doc) => doc.getMap !== undefined
const root = (doc, name) => isOld(doc) ? doc.getMap(name) : doc.get(name)

/** A nested map of either generation. */
const face = (map) => map.getAttr === undefined
  ? {
      get: (key) => map.get(key),
      set: (key, value) => map.set(key, value),
      clear: (key) => map.delete(key),
      keys: () => [...map.keys()]
    }
  : {
      get: (key) => map.getAttr(key),
      set: (key, value) => map.setAttr(key, value),
      clear: (key) => map.deleteAttr(key),
      keys: () => [...map.attrKeys()]
    }

export const rowsOf = (doc) => face(root(doc, 'rows'))
export const colsOf = (doc) => face(root(doc, 'cols'))
export const metaOf = (doc) => face(root(doc, 'meta'))

/** A row by its id; `undefined` when there is none. */
export const row = (doc, id) => {
  const map = rowsOf(doc).get(id)
  return map === undefined ? undefined : face(map)
}

/** A new row, written in one piece with yjs 13: what @y/y 14 nests is no map for others. */
export const addRow = (doc, id, entries) => doc.getMap('rows').set(id, new Y.Map(Object.entries(entries)))

/** The cells of a row: flags (`tag/x: true`) as a sorted list, everything else as it is. */
const cellsOf = (entries) => {
  const cells = {}
  for (const [key, value] of entries) {
    if (key.startsWith('$') || value === undefined || value === null) continue
    const [field, flag] = key.split('/')
    if (flag === undefined) cells[field] = value
    else if (value === true) (cells[field] ??= []).push(flag)
  }
  for (const value of Object.values(cells)) if (Array.isArray(value)) value.sort(byBytes)
  return cells
}

/** The table as a grid would show it, deleted rows too, in order; as `plain` tells it of REST. */
export const readTable = (doc) => rowsOf(doc).keys().map((id) => {
  const map = row(doc, id)
  const entries = map.keys().map((key) => [key, map.get(key)])
  return {
    id,
    cells: cellsOf(entries),
    order: map.get('$o') ?? '',
    height: map.get('$h') ?? null,
    deleted: map.get('$d') !== undefined
  }
}).sort(byPlace)

/** Content regardless of the order in which keys stand. */
const same = (a, b) => isDeepStrictEqual(a, b)

/** Waits until all peers have the same state vector and show the same table, and the server shows it too. */
export const settled = async (peers, table, timeoutMs = 60_000) => {
  const vectors = () => peers.map(({ stateVector }) => stateVector)
  let problem = 'nothing read yet'
  await until(async () => {
    const [first, ...others] = vectors()
    if (!others.every((vector) => same(vector, first))) {
      problem = `state vectors ${vectors().map((vector) => JSON.stringify([...vector].sort()))}`
      return false
    }
    const shown = (await table.records()).map(plain)
    for (const [at, peer] of peers.entries()) {
      const read = readTable(peer.doc)
      if (same(read, shown)) continue
      problem = `replica ${at} against REST: ${difference(read, shown)}`
      return false
    }
    return true
  }, () => problem, timeoutMs)
  return readTable(peers[0].doc)
}

/** The first record in which two tables differ. */
export const difference = (a, b) => {
  if (a.length !== b.length) return `${a.length} and ${b.length} records`
  const at = a.findIndex((record, at) => !same(record, b[at]))
  return at < 0 ? 'nothing' : `${JSON.stringify(a[at])}\nand ${JSON.stringify(b[at])}`
}

// ---- a copy that is kept by events alone ----

/** What happens to be said twice. */
const REPEATED = ['grid:cell-edited']

/** Records as the events tell them, from nothing; each event must fit to what the ones before it said. */
export class Copy {
  records = new Map()
  fields = new Map()
  meta = new Map()
  /** Of each record, the revisions that changed it. */
  revisions = new Map()
  #last = { revision: 0, eventId: '' }

  take (event) {
    if (event.revision === undefined || event.revision === null) return
    assert.ok(event.eventId > this.#last.eventId, `${event.eventId} comes after ${this.#last.eventId}`)
    assert.ok(event.revision >= this.#last.revision, `${event.revision} comes after ${this.#last.revision}`)
    this.#last = event
    const take = this.#handlers[event.type]
    if (take !== undefined) take(event)
    else assert.ok(REPEATED.includes(event.type) || event.type.startsWith('error:') || event.type === 'grid:conflict',
      `unknown: ${JSON.stringify(event)}`)
  }

  #handlers = {
    'record:created': (event) => this.#create(event.data.record, event),
    'record:updated': (event) => this.#update({ ...event.data, recordId: event.recordId }, event),
    'record:deleted': (event) => this.#delete({ ...event.data, recordId: event.recordId }, event),
    'record:restored': (event) => this.#restore({ ...event.data, recordId: event.recordId }, event),
    'grid:row-moved': (event) => this.#place(event, 'order'),
    'grid:row-resized': (event) => this.#place(event, 'height'),
    'records:updated': (event) => {
      const { created, updated, deleted, restored } = event.data
      created.forEach((record) => this.#create(record, event))
      updated.forEach((line) => this.#update(line, event))
      deleted.forEach((line) => this.#delete(line, event))
      restored.forEach((line) => this.#restore(line, event))
    },
    'field:created': ({ fieldId, data }) => { this.fields.set(fieldId, data.field) },
    'field:updated': ({ fieldId, data }) => { Object.assign(this.fields.get(fieldId), data.changed) },
    'field:deleted': ({ fieldId, data }) => {
      if (data.soft) this.fields.get(fieldId).deleted = true
      else this.fields.delete(fieldId)
    },
    'field:restored': ({ fieldId }) => { this.fields.get(fieldId).deleted = false },
    'grid:column-moved': ({ fieldId, data }) => { this.fields.get(fieldId).order = data.order },
    'grid:column-resized': ({ fieldId, data }) => { this.fields.get(fieldId).width = data.width },
    'table:changed': ({ data }) => {
      for (const [key, value] of Object.entries(data.changed)) this.meta.set(key, value)
    }
  }

  #create (record, event) {
    assert.ok(!this.records.has(record.id), `created twice: ${JSON.stringify(event)}`)
    const { id, cells, order, height, deleted } = record
    this.records.set(id, { id, cells: { ...cells }, order, height, deleted: deleted ?? false, version: 0 })
    this.#count(id, record.version, record.createdBy, event)
  }

  #update ({ recordId, changed, previous, order, height, version, userId }, event) {
    const record = this.#known(recordId, event)
    for (const [field, value] of Object.entries(changed)) {
      assert.deepEqual(record.cells[field] ?? null, previous[field], `previous of ${JSON.stringify(event)}`)
      assert.notDeepEqual(value, previous[field], `nothing visible: ${JSON.stringify(event)}`)
      if (value === null) delete record.cells[field]
      else record.cells[field] = value
    }
    if (order !== undefined) record.order = order
    if (height !== undefined) record.height = height
    this.#count(recordId, version, userId ?? event.userId, event)
  }

  #place (event, key) {
    const record = this.#known(event.recordId, event)
    assert.deepEqual(record[key], event.data.previous, `previous of ${JSON.stringify(event)}`)
    assert.notDeepEqual(record[key], event.data[key], `nothing visible: ${JSON.stringify(event)}`)
    record[key] = event.data[key]
    this.#count(event.recordId, event.data.version, event.userId, event)
  }

  #delete ({ recordId, soft, version, userId }, event) {
    const record = this.#known(recordId, event)
    assert.ok(!record.deleted || !soft, `deleted twice: ${JSON.stringify(event)}`)
    this.#count(recordId, version, userId ?? event.userId, event)
    if (soft) record.deleted = true
    else this.records.delete(recordId)
  }

  #restore ({ recordId, version, userId }, event) {
    const record = this.#known(recordId, event)
    assert.ok(record.deleted, `restored twice: ${JSON.stringify(event)}`)
    record.deleted = false
    this.#count(recordId, version, userId ?? event.userId, event)
  }

  #known (id, event) {
    const record = this.records.get(id)
    assert.ok(record !== undefined, `of a record that is not there: ${JSON.stringify(event)}`)
    return record
  }

  /** All events of one transaction about one record have one version; the next transaction has the next. */
  #count (id, version, by, event) {
    const revisions = this.revisions.get(id) ?? []
    if (revisions.at(-1) !== event.revision) revisions.push(event.revision)
    this.revisions.set(id, revisions)
    assert.equal(version, revisions.length, `version of ${id}: ${JSON.stringify(event)}`)
    Object.assign(this.records.get(id), { version, by: by ?? null, at: event.timestamp })
  }

  /** As `readTable` tells it. */
  get table () {
    return [...this.records.values()].map(({ id, cells, order, height, deleted }) => ({ id, cells, order, height, deleted }))
      .sort(byPlace)
  }
}

/** A new table of `maker`, with one record. */
export const tableWith = async (server, name, fields, cells) => {
  const table = new Table(server, name, bearer('maker'))
  await table.create(fields)
  const [record] = await table.insert([{ cells }])
  return { table, id: record.id }
}

/** A grid that has the table open. */
export const join = (t, table, sub, client = v310) => new Peer(t, client, table.server, table.doc, params(sub)).synced()

/** Somebody who hears the table's room. */
export const hear = (t, table, sub) => Listener.open(t, table.server, table.doc, { headers: bearer(sub) })

/** Resolves when a peer shows this in a cell. */
export const shows = (peer, id, field, value) => until(() => row(peer.doc, id)?.get(field) === value,
  () => `${field} ${value}, shows ${row(peer.doc, id)?.get(field)}`)
