// The server goes away, politely and not, and what it had confirmed is there when it returns.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { all, converged, Peer, v310 } from './lib/clients.mjs'
import { updateFrame } from './lib/raw.mjs'
import { Server } from './lib/server.mjs'
import { until } from './lib/until.mjs'

const entries = (doc) => {
  const map = doc.getMap === undefined ? doc.get('entries').getAttrs() : doc.getMap('entries').toJSON()
  return Object.fromEntries(Object.entries(map).sort())
}

const set = (peer, key, value) => {
  if (peer.doc.getMap === undefined) peer.doc.get('entries').setAttr(key, value)
  else peer.doc.getMap('entries').set(key, value)
}

describe('restart', { concurrency: 2 }, () => {
  for (const client of all) {
    test(`${client.name}: SIGTERM drains with 1012, everybody returns, nothing is lost`, async (t) => {
      const server = await Server.start(t)
      const alice = await new Peer(t, client, server, 'restart').synced()
      const bob = await new Peer(t, v310, server, 'restart').synced()
      for (let n = 0; n < 50; n++) set(alice, `before ${n}`, n)
      const { code, signal } = await server.stop('SIGTERM')
      assert.deepEqual({ code, signal }, { code: 0, signal: null })
      await until(() => alice.closes.length > 0 && bob.closes.length > 0, 'both were told')
      assert.equal(alice.closes[0], 1012)
      assert.equal(bob.closes[0], 1012)

      set(alice, 'alice while down', true)
      set(bob, 'bob while down', true)
      await server.resume()
      await alice.synced()
      await bob.synced()
      const content = await converged([alice, bob], entries)
      assert.equal(Object.keys(content).length, 52)

      const late = await new Peer(t, client, server, 'restart').synced()
      await converged([alice, bob, late], entries)
    })
  }

  test('SIGKILL in the middle of edits: clients return by themselves and nothing is lost', async (t) => {
    const server = await Server.start(t)
    const peers = await Promise.all(all.map((client) => new Peer(t, client, server, 'kill').synced()))
    for (let n = 0; n < 30; n++) for (const [index, peer] of peers.entries()) set(peer, `${index}.${n}`, n)
    await server.stop('SIGKILL')
    for (const [index, peer] of peers.entries()) set(peer, `${index} while down`, true)
    await server.resume()
    for (const peer of peers) await peer.synced()
    const content = await converged(peers, entries)
    assert.equal(Object.keys(content).length, 31 * peers.length)
  })

  test('a writer that lost the echo with the connection asks again by sending the same update', async (t) => {
    const server = await Server.start(t)
    const writer = await new Peer(t, v310, server, 'again').synced()
    set(writer, 'key', 'value')
    await writer.acknowledged()
    const update = writer.yjs.encodeStateAsUpdate(writer.doc)
    writer.disconnect()
    writer.connect()
    await writer.synced()
    writer.forgetEchoes()
    writer.provider.ws.send(updateFrame(update))
    await writer.acknowledged()
    assert.deepEqual(writer.closes, [null])
  })

  for (const round of [1, 2, 3]) {
    test(`SIGKILL under load, round ${round}: every edit that was echoed is there afterwards`, async (t) => {
      const server = await Server.start(t)
      const writer = await new Peer(t, v310, server, 'ack').synced()
      const clockAfter = []
      let isWriting = true
      const write = () => {
        for (let n = 0; n < 5 && isWriting; n++) {
          set(writer, `k${clockAfter.length}`, clockAfter.length)
          clockAfter.push(writer.ownClock)
        }
        if (isWriting) setImmediate(write)
      }
      write()
      await until(() => writer.echoedClock > 200 * round, 'echoes')
      await server.stop('SIGKILL')
      isWriting = false
      // Taken before anything can come back: the writer's memory of the rest must not help.
      writer.provider.disconnect()
      const confirmed = clockAfter.filter((clock) => clock <= writer.echoedClock).length
      assert.ok(confirmed >= 200 * round, `${confirmed} confirmed`)

      await server.resume()
      const reader = await new Peer(t, v310, server, 'ack').synced()
      const kept = entries(reader.doc)
      for (let n = 0; n < confirmed; n++) assert.equal(kept[`k${n}`], n, `edit ${n} of ${confirmed} confirmed`)
      t.diagnostic(`${confirmed} of ${clockAfter.length} edits confirmed, ${Object.keys(kept).length} kept`)

      writer.connect()
      await writer.synced()
      await converged([writer, reader], entries)
      assert.equal(Object.keys(entries(reader.doc)).length, clockAfter.length)
    })
  }
})
