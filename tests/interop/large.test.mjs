// A 20 MB document over 1 MB/s: 20 s of transfer that must not look like 30 s of silence to the client's watchdog.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, describe, test } from 'node:test'
import * as Y from 'yjs'
import { Peer, v300, v310 } from './lib/clients.mjs'
import { Link } from './lib/link.mjs'
import { Server } from './lib/server.mjs'

const MEGABYTE = 1 << 20
const SIZE = 20 * MEGABYTE
const ROWS = 20_000

const server = await Server.start({ after })

/** Text that does not compress to nothing and can be made again: numbers of a small generator. */
const filler = (seed, length) => {
  let state = seed >>> 0
  let text = ''
  while (text.length < length) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    text += state.toString(36).padStart(7, '0') + ' '
  }
  return text.slice(0, length)
}

const digest = (text) => createHash('sha256').update(text).digest('hex')

const documents = {
  'many rows': {
    write: async (peer) => {
      const rows = peer.doc.getMap('rows')
      const rowBytes = SIZE / ROWS
      for (let from = 0; from < ROWS; from += 500) {
        peer.doc.transact(() => {
          for (let n = from; n < from + 500; n++) {
            rows.set(`row ${n}`, new Y.Map([['n', n], ['text', filler(n, rowBytes - 60)]]))
          }
        })
        await peer.acknowledged(60_000)
      }
    },
    read: (doc) => {
      const rows = doc.getMap('rows')
      return digest([...rows.keys()].sort().map((key) => `${key}=${rows.get(key).get('text')}`).join('\n')) + rows.size
    }
  },
  'one text': {
    // Under the limit of a frame each, one piece of text in the end.
    write: async (peer) => {
      const text = peer.doc.getText('text')
      for (let piece = 0; piece < SIZE / MEGABYTE; piece++) {
        text.insert(text.length, filler(piece, MEGABYTE))
        await peer.acknowledged(60_000)
      }
    },
    read: (doc) => digest(doc.getText('text').toString()) + doc.getText('text').length
  }
}

describe('20 MB at 1 MB/s', { concurrency: true }, () => {
  for (const [kind, { write, read }] of Object.entries(documents)) {
    test(kind, async (t) => {
      const writer = await new Peer(t, v310, server, `large/${kind}`).synced()
      await write(writer)
      const expected = read(writer.doc)
      writer.leave()

      await Promise.all([v310, v300].map(async (client) => {
        const link = await Link.open(t, server, 1_000_000)
        const reader = await new Peer(t, client, link, `large/${kind}`).synced(120_000)
        assert.equal(read(reader.doc), expected, client.name)
        assert.deepEqual(reader.closes, [], `${client.name} was never cut off`)
        assert.equal(reader.dials, 1)
        reader.leave()
      }))
    })
  }
})
