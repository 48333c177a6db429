// Knows whether the server has everything this person wrote, durably.
//
// Syncline sends a writer's own update back to it once the store has made it durable. So an edit is saved when its
// structs (our client id, up to our clock) and the ranges it deleted have come back from the socket, and not before.

import * as Y from 'yjs'
import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'
import { writeUpdate } from 'y-protocols/sync'
import { messageSync } from 'y-websocket'

/** Removes `[clock, clock + len)` from a list of ranges. */
export const subtract = (ranges, clock, len) => ranges.flatMap((range) => {
  const end = range.clock + range.len
  const from = Math.max(range.clock, clock)
  const to = Math.min(end, clock + len)
  if (from >= to) return [range]
  const rest = []
  if (range.clock < from) rest.push({ clock: range.clock, len: from - range.clock })
  if (to < end) rest.push({ clock: to, len: end - to })
  return rest
})

/** What was written here and has not come back yet: ranges of clocks per client, written and deleted. */
export class Ledger {
  written = new Map()
  deleted = new Map()

  get isEmpty () { return this.written.size === 0 && this.deleted.size === 0 }

  /** Notes a local update. */
  note (update) {
    const { structs, ds } = Y.decodeUpdate(update)
    for (const { id, length } of structs) add(this.written, id.client, id.clock, length)
    for (const [client, ranges] of ds.clients) for (const { clock, len } of ranges) add(this.deleted, client, clock, len)
  }

  /** The state vector of somebody who has all of `doc` but what is still open here. */
  floor (doc) {
    const known = Y.decodeStateVector(Y.encodeStateVector(doc))
    for (const [client, [first]] of this.written) known.set(client, first.clock)
    const encoder = encoding.createEncoder()
    encoding.writeVarUint(encoder, known.size)
    for (const [client, clock] of known) {
      encoding.writeVarUint(encoder, client)
      encoding.writeVarUint(encoder, clock)
    }
    return encoding.toUint8Array(encoder)
  }

  /** Strikes out what an update from the server holds. */
  strike (update) {
    const { structs, ds } = Y.decodeUpdate(update)
    for (const { id, length } of structs) cut(this.written, id.client, id.clock, length)
    for (const [client, ranges] of ds.clients) for (const { clock, len } of ranges) cut(this.deleted, client, clock, len)
  }
}

/**
 * Watches `doc` and what `provider` hears; calls `changed(isEmpty)` when the answer to "is all saved?" may have changed.
 * Returns the ledger.
 */
export const watch = (doc, provider, changed) => {
  const ledger = new Ledger()
  doc.on('update', (update, _origin, _doc, transaction) => {
    if (!transaction.local) return
    ledger.note(update)
    changed()
  })

  const handle = provider.messageHandlers[messageSync]
  provider.messageHandlers[messageSync] = (encoder, decoder, ...rest) => {
    if (!ledger.isEmpty) {
      const peek = decoding.clone(decoder)
      // 0 is a question for our state; 1 and 2 carry an update.
      if (decoding.readVarUint(peek) !== 0) ledger.strike(decoding.readVarUint8Array(peek))
    }
    handle(encoder, decoder, ...rest)
    changed()
  }

  // An edit may have been made durable just before the connection broke, its echo lost. The server has it, so neither
  // side would mention it again: say it once more, and the echo of that settles it.
  provider.on('sync', (isSynced) => {
    if (!isSynced || ledger.isEmpty) return
    const encoder = encoding.createEncoder()
    encoding.writeVarUint(encoder, messageSync)
    writeUpdate(encoder, Y.encodeStateAsUpdate(doc, ledger.floor(doc)))
    provider.ws?.send(encoding.toUint8Array(encoder))
  })
  return ledger
}

const add = (map, client, clock, len) => {
  const ranges = map.get(client) ?? []
  const last = ranges.at(-1)
  if (last !== undefined && last.clock + last.len === clock) last.len += len
  else ranges.push({ clock, len })
  map.set(client, ranges)
}

const cut = (map, client, clock, len) => {
  const ranges = map.get(client)
  if (ranges === undefined) return
  const rest = subtract(ranges, clock, len)
  if (rest.length === 0) map.delete(client)
  else map.set(client, rest)
}
