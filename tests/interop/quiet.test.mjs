// Clients that say nothing for longer than their own patience (30 s without a message) are kept company.

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { all, converged, Peer } from './lib/clients.mjs'
import { Server } from './lib/server.mjs'
import { windowOf } from './lib/until.mjs'

const SILENCE_MS = 90_000

const server = await Server.start({ after })

describe('silence', { concurrency: true }, () => {
  for (const client of all) {
    test(`${client.name}: without presence and without edits it stays connected for 90 s`, async (t) => {
      const quiet = new Peer(t, client, server, `quiet/${client.name}`, { connect: false })
      quiet.awareness.setLocalState(null)
      quiet.connect()
      await quiet.synced()
      await windowOf(SILENCE_MS)
      assert.deepEqual(quiet.closes, [])
      assert.equal(quiet.dials, 1)

      const other = await new Peer(t, client, server, `quiet/${client.name}`).synced()
      const root = other.doc.getMap === undefined ? other.doc.get('m') : other.doc.getMap('m')
      if (other.doc.getMap === undefined) root.setAttr('still', 'listening')
      else root.set('still', 'listening')
      await converged([quiet, other], (doc) => (doc.getMap?.('m') ?? doc.get('m')).toJSON())
    })
  }
})
