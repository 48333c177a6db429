// Redis or PostgreSQL is away: what goes on, what waits, what is said about it, and that it ends by itself.

import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import { Peer, v310 } from '../lib/clients.mjs'
import { Editor, generations, v3, v4 } from '../lib/collab.mjs'
import { metric } from '../lib/socketio.mjs'
import { until } from '../lib/until.mjs'
import { operator, params, shows, story } from './lib/cluster.mjs'
import { agreed, allShow, shownBy } from './lib/compare.mjs'

const texts = (...copies) => copies.map(({ doc }) => doc.getText('text').toString())
const ready = async (node) => (await node.get('/readyz')).status === 200

story('Redis is down: every node serves and acknowledges, and they meet when it is back, empty', { nodes: 3 }, async (t, cluster) => {
  const { nodes, redis } = cluster
  const editors = await Promise.all(nodes.map((node, n) => new Editor(t, [generations[n], node], 'paper', shows(`editor${n}`)).synced()))
  const peers = await Promise.all(nodes.map((node, n) => new Peer(t, v310, node, 'paper', params(`peer${n}`)).synced()))
  await redis.kill()
  for (let round = 0; round < 5; round++) {
    for (const [n, editor] of editors.entries()) {
      editor.doc.getMap('edits').set(`editor ${n}.${round}`, round)
      peers[n].doc.getMap('edits').set(`peer ${n}.${round}`, round)
      await editor.saved()
      await peers[n].acknowledged()
    }
  }
  // Somebody new comes in, and a document that nobody had is opened.
  const late = await new Editor(t, [v4, nodes[0]], 'opened without Redis', shows('late')).synced()
  late.type('hello')
  await late.saved()
  await redis.resume()
  const wanted = await agreed([...editors, ...peers].map(({ doc }) => doc))
  assert.equal(Object.keys(wanted.edits).length, 30)
  await allShow(nodes, { paper: wanted })
  // And it is as fast as before: what is written now arrives without anybody comparing.
  editors[0].type('after')
  await until(() => texts(...editors).every((text) => text === 'after'), 'an edit on the other nodes')
  assert.deepEqual(editors.map(({ line }) => line.dials), [1, 1, 1], 'somebody had to dial again')
})

story('PostgreSQL is down: edits go on within a node, nothing is called saved, and all is once it is back', {}, async (t, cluster) => {
  const { nodes: [here, there], postgres } = cluster
  const alice = await new Editor(t, [v4, here], 'paper', shows('alice')).synced()
  const bob = await new Editor(t, [v3, here], 'paper', shows('bob')).synced()
  const carol = await new Peer(t, v310, here, 'paper', params('carol')).synced()
  const dave = await new Peer(t, v310, there, 'paper', params('dave')).synced()
  alice.type('before;')
  await alice.saved()
  await until(() => texts(bob, carol, dave).every((text) => text === 'before;'), 'the text everywhere')
  assert.ok(await ready(here))

  await postgres.crash()
  const told = alice.provider.unsyncedChanges
  const failures = (await metric(here, 'syncline_store_failures_total')) ?? 0
  for (let n = 0; n < 20; n++) alice.type(`${n};`)
  carol.doc.getText('text').insert(0, 'carol;')
  await until(() => texts(bob, carol).every((text) => text === alice.text && text.startsWith('carol;')), 'the edits within the node')
  await until(async () => !await ready(here) && !await ready(there), 'both nodes say that they are not ready')
  await until(async () => ((await metric(here, 'syncline_store_failures_total')) ?? 0) > failures, 'the failures are counted')
  const refused = await fetch(`${here.url}/v1/docs/other/updates`, { method: 'POST', headers: operator, body: new Uint8Array([0, 0]), signal: AbortSignal.timeout(60_000) })
  assert.deepEqual([refused.status, (await refused.json()).code], [503, 'STORE_UNAVAILABLE'])
  assert.deepEqual([told, alice.provider.unsyncedChanges], [0, 20], 'something was called saved')
  assert.ok(carol.echoedClock < carol.ownClock, 'something was echoed to its writer')
  assert.equal(texts(dave)[0], 'before;', 'something that is not saved went to another node')

  await postgres.resume()
  await alice.saved()
  await carol.acknowledged()
  await until(() => texts(bob, carol, dave).every((text) => text === alice.text), 'the text everywhere')
  await until(async () => await ready(here) && await ready(there), 'both nodes are ready again')
  assert.deepEqual([alice.line.dials, bob.line.dials, carol.dials, dave.dials], [1, 1, 1, 1], 'somebody had to dial again')
  const wanted = await agreed([alice, bob, carol, dave].map(({ doc }) => doc))
  await allShow([await cluster.lone()], { paper: wanted })
})

story('PostgreSQL crashes again and again while somebody writes: each time what was called saved is there', {}, async (t, cluster) => {
  const { nodes: [here, there], postgres } = cluster
  const writer = await new Editor(t, [v4, here], 'paper', shows('writer')).synced()
  const reader = await new Editor(t, [v3, there], 'paper', shows('reader')).synced()
  let [written, promised, isWriting] = [0, 0, true]
  t.after(() => { isWriting = false })
  writer.provider.on('unsyncedChanges', () => { if (writer.isSaved) promised = written })
  const write = () => {
    if (!isWriting) return
    writer.doc.getMap('edits').set(`${written}`, written)
    written++
    setTimeout(write, 5)
  }
  write()
  for (let round = 0; round < 5; round++) {
    const before = promised
    await until(() => promised > before + 20, 'something is saved')
    await postgres.crash()
    const sure = promised
    await pause(100 * round)
    await postgres.resume()
    const shown = await shownBy(await cluster.lone(), 'paper')
    for (let n = 0; n < sure; n++) assert.equal(shown.edits[n], n, `round ${round}: edit ${n} of ${sure} that were called saved`)
  }
  isWriting = false
  await writer.saved()
  const wanted = await agreed([writer.doc, reader.doc])
  assert.equal(Object.keys(wanted.edits).length, written)
})
