// Readers that stop reading while 30 MB go by: nobody is disconnected, the server's memory is bounded, all catch up.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { converged, Peer, v310 } from './lib/clients.mjs'
import { Server } from './lib/server.mjs'
import { until } from './lib/until.mjs'

const READERS = 12
const EDITS = 300
const EDIT_BYTES = 100_000
// The document itself lives in memory, in its encoded form and in the store's buffers for a while. A queue per reader
// would hold another 30 MB for each of the twelve.
const GROWTH_MAX = 300 << 20

const server = await Server.start({ after })

const sizes = (doc) => Object.fromEntries([...doc.getMap('m').entries()].map(([key, value]) => [key, value.length]).sort())

test('readers that stop reading catch up and are not disconnected', async (t) => {
  const writer = await new Peer(t, v310, server, 'slow').synced()
  const slow = await Promise.all(Array.from({ length: READERS }, () => new Peer(t, v310, server, 'slow').synced()))
  const fast = await new Peer(t, v310, server, 'slow').synced()
  const atRest = await server.residentBytes()
  let peak = atRest
  const watch = setInterval(async () => { peak = Math.max(peak, await server.residentBytes().catch(() => 0)) }, 50)
  t.after(() => clearInterval(watch))

  for (const { provider } of slow) provider.ws.pause()
  for (let n = 0; n < EDITS; n++) {
    writer.doc.getMap('m').set(`k${n}`, `${n} `.padEnd(EDIT_BYTES, 'x'))
    if (n % 20 === 19) await writer.acknowledged(30_000)
  }
  await converged([writer, fast], sizes, 30_000)
  const growth = peak - atRest
  t.diagnostic(`${EDITS * EDIT_BYTES / 1e6} MB unread by ${READERS}: resident ${Math.round(atRest / 1e6)} + ${Math.round(growth / 1e6)} MB`)
  assert.ok(growth < GROWTH_MAX, `resident memory grew by ${growth} bytes`)
  assert.ok(slow.every(({ doc }) => doc.getMap('m').size < EDITS), 'the readers did stop reading')

  for (const { provider } of slow) provider.ws?.resume()
  await until(() => slow.every(({ doc }) => doc.getMap('m').size === EDITS), 'everybody caught up', 60_000)
  await converged([writer, fast, ...slow], sizes, 30_000)
  for (const peer of [writer, fast, ...slow]) assert.deepEqual(peer.closes, [])
  assert.ok(peak - atRest < 2 * GROWTH_MAX, `resident memory grew by ${peak - atRest} bytes while catching up`)
})
