// Nodes with a disk each and one Redis: they meet while they are up, and say at the start what that means.

import assert from 'node:assert/strict'
import { Peer, v310 } from '../lib/clients.mjs'
import { Editor, v4 } from '../lib/collab.mjs'
import { until } from '../lib/until.mjs'
import { admin, operator, params, shows, story } from './lib/cluster.mjs'
import { agreed, allShow, shownBy } from './lib/compare.mjs'

const apart = true

story('two nodes without a common store converge while they are up, and warned at the start', { apart }, async (t, { nodes }) => {
  for (const { log } of nodes) {
    const warnings = log.split('\n').filter((line) => /"level":"warn"/.test(line) && /bus/.test(line))
    assert.ok(warnings.length > 0, `a warning at the start:\n${log}`)
  }
  const [here, there] = nodes
  const alice = await new Editor(t, [v4, here], 'paper', shows('alice')).synced()
  const bob = await new Peer(t, v310, there, 'paper', params('bob')).synced()
  alice.type('alice;')
  bob.doc.getText('text').insert(0, 'bob;')
  await alice.saved()
  await bob.acknowledged()
  await agreed([alice.doc, bob.doc])
  there.gate.cut()
  alice.type('while cut;')
  alice.doc.getText('text').delete(0, 2)
  bob.doc.getText('text').insert(0, 'also;')
  await alice.saved()
  there.gate.heal()
  const wanted = await agreed([alice.doc, bob.doc])
  await allShow(nodes, { paper: wanted })
})

story('each node keeps on its own disk what it has served', { apart }, async (t, { nodes, redis }) => {
  const [here, there] = nodes
  const alice = await new Editor(t, [v4, here], 'paper', shows('alice')).synced()
  const bob = await new Editor(t, [v4, there], 'paper', shows('bob')).synced()
  alice.type('written here, kept there too')
  await alice.saved()
  await until(() => bob.text === alice.text, 'the text on the other node')
  const wanted = await agreed([alice.doc, bob.doc])
  alice.line.close()
  bob.line.close()
  // Alone with its disk: whom could it ask?
  await here.stop('SIGTERM')
  await there.stop('SIGTERM')
  await redis.kill()
  await there.resume()
  assert.deepEqual(await shownBy(there, 'paper'), wanted)
})

story('a node that was away hears of what it missed when the document is opened on both', { apart }, async (t, { nodes }) => {
  const [here, there] = nodes
  const alice = await new Editor(t, [v4, here], 'paper', shows('alice')).synced()
  await there.stop('SIGTERM')
  alice.type('nobody else was there')
  await alice.saved()
  await there.resume()
  const bob = await new Peer(t, v310, there, 'paper', params('bob')).synced()
  await agreed([alice.doc, bob.doc])
  assert.equal(bob.doc.getText('text').toString(), 'nobody else was there')
})

story('a deletion reaches every node that is up', { apart }, async (t, { nodes }) => {
  const [here, there] = nodes
  const alice = await new Editor(t, [v4, here], 'doomed', shows('alice')).synced()
  const bob = await new Peer(t, v310, there, 'doomed', params('bob')).synced()
  alice.type('was here')
  await alice.saved()
  await agreed([alice.doc, bob.doc])
  assert.equal((await admin(there, 'DELETE', '/v1/docs/doomed')).status, 204)
  assert.equal(await alice.refused(), 'NOT_FOUND')
  await until(() => bob.closed !== null, 'the client beside the deletion')
  for (const node of nodes) await until(async () => await node.state('doomed', operator) === null, 'it is gone')
})
