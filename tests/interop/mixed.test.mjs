// Everybody at once: three generations of Hocuspocus providers and y-websocket on one document, with breaking connections.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { test } from 'node:test'
import * as Y from 'yjs'
import { converged, Peer, v310 } from './lib/clients.mjs'
import { Editor, generations, HASTY } from './lib/collab.mjs'
import { read } from './lib/content.mjs'
import { draws } from './lib/draws.mjs'
import { Server } from './lib/server.mjs'
import { windowOf } from './lib/until.mjs'

const SEED = Number(process.env.INTEROP_SEED ?? randomInt(2 ** 31))
const WRITTEN_MS = 30_000
const PER_CLIENT = 2
const NAME = 'everybody'

// No character outside the basic plane: a replica in which two halves of one were ever torn apart shows them as U+FFFD for
// good, and others need not, with the same structs and the same deletions.
const KINDS = [
  (doc, draw) => {
    const text = doc.getText('text')
    text.insert(Math.floor(draw() * (text.length + 1)), `${Math.floor(draw() * 1000)} ü値`)
  },
  (doc, draw) => {
    const text = doc.getText('text')
    const at = Math.floor(draw() * text.length)
    text.delete(at, Math.min(text.length - at, Math.floor(draw() * 8)))
  },
  (doc, draw) => {
    const text = doc.getText('text')
    const at = Math.floor(draw() * text.length)
    text.format(at, Math.min(text.length - at, 5), { bold: draw() < 0.5 ? true : null })
  },
  (doc, draw) => doc.getMap('map').set(`k${Math.floor(draw() * 20)}`, draw()),
  (doc, draw) => doc.getMap('map').delete(`k${Math.floor(draw() * 20)}`),
  (doc, draw) => {
    const array = doc.getArray('array')
    array.insert(Math.floor(draw() * (array.length + 1)), [draw(), { nested: [draw()] }])
  },
  (doc, draw) => {
    const array = doc.getArray('array')
    if (array.length > 0) array.delete(Math.floor(draw() * array.length), 1)
  },
  (doc, draw) => {
    const xml = doc.getXmlFragment('xml')
    const paragraph = new Y.XmlElement('p')
    xml.insert(Math.floor(draw() * (xml.length + 1)), [paragraph])
    paragraph.insert(0, [new Y.XmlText(String(draw()))])
  },
  (doc, draw) => {
    const xml = doc.getXmlFragment('xml')
    if (xml.length > 20) xml.delete(Math.floor(draw() * (xml.length - 3)), 3)
  }
]

test('three generations of providers and y-websocket edit one document for 30 s, break off at random, and end equal', async (t) => {
  t.diagnostic(`INTEROP_SEED=${SEED}`)
  const server = await Server.start(t)
  const people = []
  for (let n = 0; n < PER_CLIENT; n++) {
    for (const generation of generations) {
      const editor = await new Editor(t, [generation, server, HASTY], NAME).synced()
      people.push({ peer: editor, breakOff: () => editor.line.break(), dials: () => editor.line.dials })
    }
    const peer = await new Peer(t, v310, server, NAME).synced()
    people.push({ peer, breakOff: () => peer.provider.ws?.terminate(), dials: () => peer.dials })
  }
  const since = Date.now()
  let edits = 0
  await Promise.all(people.map(async ({ peer, breakOff }, n) => {
    const draw = draws(SEED + n)
    while (Date.now() - since < WRITTEN_MS) {
      for (let burst = Math.floor(draw() * 4); burst >= 0; burst--) {
        KINDS[Math.floor(draw() * KINDS.length)](peer.doc, draw)
        edits++
      }
      if (draw() < 0.01) breakOff()
      await windowOf(draw() * 80)
    }
  }))
  const editors = people.map(({ peer }) => peer)
  for (const editor of editors) await editor.synced(60_000)
  const content = await converged(editors, read, 60_000)
  for (const editor of editors) {
    if (!(editor instanceof Editor)) continue
    // A deletion in the moment between a reconnect and its first answer looks like one from before it, and is then not
    // counted down. `saved` shows the count; here it begins anew.
    editor.provider.forceSync()
    await editor.saved()
  }
  const kept = new Y.Doc()
  Y.applyUpdate(kept, await server.state(NAME))
  assert.deepEqual(read(kept), content)
  assert.deepEqual(Y.decodeStateVector(Y.encodeStateVector(kept)), editors[0].stateVector)
  t.diagnostic(`${edits} edits by ${people.length} clients, dials: ${people.map(({ dials }) => dials())}`)
})
