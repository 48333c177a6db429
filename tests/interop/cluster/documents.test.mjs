// Documents whose nodes do not hear each other for a while: deletions, and the end of a document, arrive all the same.

import assert from 'node:assert/strict'
import { after } from 'node:test'
import { Peer, v310 } from '../lib/clients.mjs'
import { Editor, v4 } from '../lib/collab.mjs'
import { until } from '../lib/until.mjs'
import { admin, operator, params, shows, story } from './lib/cluster.mjs'
import { agreed, allShow, disagrees, shownBy } from './lib/compare.mjs'
import { Postgres } from './lib/postgres.mjs'

const postgres = await Postgres.start({ after })

const texts = (...copies) => copies.map(({ doc }) => doc.getText('text').toString())

story('edits on one node are seen on the others, by both families of clients', { nodes: 3, postgres }, async (t, { nodes }) => {
  const peers = await Promise.all(nodes.map((node, n) => new Peer(t, v310, node, 'shared', params(`peer${n}`)).synced()))
  const editors = await Promise.all(nodes.map((node, n) => new Editor(t, [v4, node], 'shared', shows(`editor${n}`)).synced()))
  const all = [...peers, ...editors]
  all.forEach(({ doc }, n) => doc.getText('text').insert(0, `${n};`))
  const wanted = await agreed(all.map(({ doc }) => doc))
  assert.equal(wanted.text.length, 2 * all.length)
  for (const peer of peers) await peer.acknowledged()
  for (const editor of editors) await editor.saved()
  await allShow(nodes, { shared: wanted })
})

for (const how of ['cut', 'stall']) {
  story(`a difference in deletions alone is found after the line was ${how === 'cut' ? 'cut' : 'dead'}`, { postgres }, async (t, { nodes }) => {
    const [here, there] = nodes
    const writer = await new Editor(t, [v4, here], 'shorter', shows('writer')).synced()
    const witness = await new Peer(t, v310, there, 'shorter', params('witness')).synced()
    writer.type('all of this is taken away again')
    await writer.saved()
    await until(() => texts(witness)[0] === writer.text, 'the text on the other node')

    there.gate[how]()
    writer.doc.getText('text').delete(3, 28)
    await writer.saved()
    assert.deepEqual(texts(writer, witness), ['all', 'all of this is taken away again'])
    there.gate.heal()
    // Nobody writes any more: the nodes must find it by themselves.
    await agreed([writer.doc, witness.doc])
    assert.deepEqual(texts(writer, witness), ['all', 'all'])
    await allShow(nodes, { shorter: await shownBy(here, 'shorter') })
  })
}

story('edits on both sides of a cut meet after it', { nodes: 3, postgres }, async (t, { nodes }) => {
  const editors = await Promise.all(nodes.map((node, n) => new Editor(t, [v4, node], 'apart', shows(`editor${n}`)).synced()))
  for (const { gate } of nodes) gate.cut()
  for (const [n, editor] of editors.entries()) {
    for (let edit = 0; edit < 20; edit++) editor.doc.getMap('edits').set(`${n}.${edit}`, edit)
    await editor.saved()
  }
  for (const { gate } of nodes) gate.heal()
  const wanted = await agreed(editors.map(({ doc }) => doc))
  assert.equal(Object.keys(wanted.edits).length, 60)
  await allShow(nodes, { apart: wanted })
})

story('two nodes that load a document at the same moment end equal', { nodes: 3, postgres }, async (t, cluster) => {
  const [first, ...others] = cluster.nodes
  const names = Array.from({ length: 20 }, (_, n) => `loaded ${n}`)
  const seeds = await Promise.all(names.map((name) => new Editor(t, [v4, first], name, shows('seed')).synced()))
  for (const seed of seeds) {
    seed.type('there before;')
    await seed.saved()
    seed.line.close()
  }
  // Each brings something along, so that edits arrive while the others load.
  const copies = names.map((name) => others.map((node, n) => {
    const peer = new Peer(t, v310, node, name, { connect: false, ...params(`loader${n}`) })
    peer.doc.getText('text').insert(0, `offline ${n};`)
    return peer
  }))
  for (const pair of copies) for (const peer of pair) peer.connect()
  const wanted = {}
  for (const [n, pair] of copies.entries()) {
    for (const peer of pair) await peer.synced()
    wanted[names[n]] = await agreed(pair.map(({ doc }) => doc))
    assert.equal(wanted[names[n]].text.split(';').length, 4)
  }
  await allShow(cluster.nodes, wanted)
})

story('a document that is deleted while a node is cut off: its clients there are sent away too, and nothing is revived', { nodes: 3, postgres }, async (t, cluster) => {
  const [here, away, third] = cluster.nodes
  const [near, far] = await Promise.all([here, away].map((node) => new Peer(t, v310, node, 'doomed', params('peer')).synced()))
  const editor = await new Editor(t, [v4, away], 'doomed', shows('editor')).synced()
  editor.type('was here')
  await editor.saved()
  await until(() => texts(near, far).every((text) => text === 'was here'), 'the text')

  away.gate.cut()
  assert.equal((await admin(here, 'DELETE', '/v1/docs/doomed')).status, 204)
  await until(() => near.closed !== null, 'the client beside the deletion is sent away')
  assert.equal(near.closed.code, 4404)
  // Written on a node that does not know yet.
  editor.type(', and writes on')
  far.doc.getText('text').insert(0, 'still ')
  away.gate.heal()
  await until(() => far.closed !== null, () => `the client of the other node is sent away; closes: ${far.closes}`)
  assert.equal(far.closed.code, 4404)
  assert.equal(await editor.refused(), 'NOT_FOUND')
  assert.equal(editor.isSaved, false, 'an edit of a deleted document was called saved')
  for (const node of [here, away, third, await cluster.lone()]) {
    assert.equal(await node.state('doomed', operator), null)
    assert.equal((await admin(node, 'GET', '/v1/docs/doomed')).status, 404)
  }
})

story('what is deleted can be made anew, and stays new on every node', { postgres }, async (t, cluster) => {
  const [here, there] = cluster.nodes
  const before = await new Editor(t, [v4, there], 'again', shows('before')).synced()
  before.type('former')
  await before.saved()
  assert.equal((await admin(here, 'DELETE', '/v1/docs/again')).status, 204)
  assert.equal(await before.refused(), 'NOT_FOUND')
  before.line.close()
  assert.equal((await admin(there, 'PUT', '/v1/docs/again')).status, 201)
  const [one, two] = await Promise.all([here, there].map((node, n) => new Editor(t, [v4, node], 'again', shows(`after${n}`)).synced()))
  one.type('new;')
  two.type('also new;')
  await one.saved()
  await two.saved()
  const wanted = await agreed([one.doc, two.doc])
  assert.ok(!wanted.text.includes('former'), wanted.text)
  await allShow(cluster.nodes, { again: wanted })
  assert.equal(await disagrees(await cluster.lone(), { again: wanted }), null)
})
