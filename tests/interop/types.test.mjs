// Every shared type through every client, and edits made apart that meet again.

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { all, classic, converged, Peer, v210, v300, v310, v400 } from './lib/clients.mjs'
import { read, readText, writeEverything } from './lib/content.mjs'
import { Server } from './lib/server.mjs'

const server = await Server.start({ after })

describe('shared types', { concurrency: true }, () => {
  for (const client of classic) {
    test(`${client.name}: maps, arrays, text, XML and nested types reach the others and a late reader`, async (t) => {
      const name = `types/${client.name}`
      const alice = await new Peer(t, client, server, name).synced()
      const bob = await new Peer(t, v310, server, name).synced()
      writeEverything(alice.doc, 'alice')
      writeEverything(bob.doc, 'bob')
      const content = await converged([alice, bob], read)
      assert.ok(content.map['alice nested'].rows[0].cell, 'alice changed')
      assert.ok(content.map['bob nested'].note, 'nested by bob')
      assert.match(content.xml, /by="alice"/)
      assert.match(content.xml, /by="bob"/)
      assert.ok(content.text.some((run) => run.attributes?.bold), 'formatting survives')

      const late = await new Peer(t, client, server, name).synced()
      assert.deepEqual(await converged([alice, bob, late], read), content)
    })

    test(`${client.name}: edits made offline on both sides merge on return`, async (t) => {
      const name = `offline/${client.name}`
      const alice = await new Peer(t, client, server, name).synced()
      const bob = await new Peer(t, v310, server, name).synced()
      alice.doc.getText('text').insert(0, 'common ')
      await converged([alice, bob], read)

      alice.disconnect()
      bob.disconnect()
      writeEverything(alice.doc, 'alice')
      writeEverything(bob.doc, 'bob')
      alice.doc.getText('text').delete(0, 3)
      alice.connect()
      await alice.synced()
      bob.connect()
      await bob.synced()
      const content = await converged([alice, bob], read)
      assert.ok(content.map['alice nested'] && content.map['bob nested'])

      await alice.acknowledged()
      await bob.acknowledged()
    })

    test(`${client.name}: a deletion made offline, with nothing written, arrives`, async (t) => {
      const name = `deletion/${client.name}`
      const alice = await new Peer(t, client, server, name).synced()
      const bob = await new Peer(t, v310, server, name).synced()
      alice.doc.getText('text').insert(0, 'keep and drop')
      await converged([alice, bob], readText)
      bob.disconnect()
      bob.doc.getText('text').delete(4, 9)
      bob.connect()
      await bob.synced()
      assert.equal(await converged([alice, bob], readText), 'keep')
    })
  }

  test(`${v400.name}: children, attributes and nesting converge and are kept`, async (t) => {
    const name = 'types/fourteen'
    const readRoot = (doc) => doc.get('root').toJSON()
    const alice = await new Peer(t, v400, server, name).synced()
    const bob = await new Peer(t, v400, server, name).synced()
    const root = alice.doc.get('root')
    root.setAttr('title', 'Größe 😀')
    root.insert(0, [1, 'zwei', { drei: [3] }])
    const child = new v400.yjs.Type('p')
    root.push([child])
    child.setAttr('by', 'alice')
    child.insert(0, 'text inside')
    await converged([alice, bob], readRoot)
    bob.disconnect()
    bob.doc.get('root').delete(0, 1)
    bob.doc.get('root').setAttr('note', 'written apart')
    alice.doc.get('root').setAttr('also', 'here')
    bob.connect()
    await bob.synced()
    const content = await converged([alice, bob], readRoot)
    assert.equal(content.attrs.note, 'written apart')
    assert.equal(content.attrs.also, 'here')

    const late = await new Peer(t, v400, server, name).synced()
    assert.deepEqual(await converged([alice, bob, late], readRoot), content)
  })

  test('all client versions on one text at once', async (t) => {
    const name = 'together'
    const peers = await Promise.all(all.map((client) => new Peer(t, client, server, name).synced()))
    const words = (doc) => (doc.getText === undefined ? doc.get('text') : doc.getText('text')).toString()
    for (const [index, peer] of peers.entries()) {
      const text = peer.doc.getText === undefined ? peer.doc.get('text') : peer.doc.getText('text')
      for (let n = 0; n < 20; n++) text.insert(0, `<${index}.${n}>`)
    }
    const content = await converged(peers, words)
    assert.equal(content.match(/<\d\.\d+>/g).length, 20 * peers.length)
    await Promise.all(peers.map((peer) => peer.acknowledged()))
  })
})

describe('document names', { concurrency: true }, () => {
  const names = ['plain', 'a b/ü', 'deep/er/and/deeper', 'проект/№1', '日本語/文書', 'emoji 👩‍👩‍👧', 'kind:with-colon', 'a+b&c=d', '~tilde(1)']
  for (const client of [v310, v300, v210, v400]) {
    test(`${client.name}: unicode and / in names`, async (t) => {
      for (const base of names) {
        const name = `${base}@${all.indexOf(client)}`
        const alice = await new Peer(t, client, server, name).synced()
        const bob = await new Peer(t, v310, server, name.split('/').map(encodeURIComponent).join('/')).synced()
        bob.doc.getMap('m').set('name', name)
        await bob.acknowledged()
        await converged([alice, bob], (doc) => JSON.stringify((doc.getMap?.('m') ?? doc.get('m')).toJSON()).includes(name))
        const answer = await server.get(`/v1/docs/${encodeURIComponent(name)}`)
        assert.equal(answer.status, 200, `the name as the server knows it: ${name}`)
        alice.leave()
        bob.leave()
      }
    })
  }

  test('documents of different names do not mix', async (t) => {
    const one = await new Peer(t, v310, server, 'mix/a').synced()
    const two = await new Peer(t, v310, server, 'mix/b').synced()
    one.doc.getText('text').insert(0, 'only here')
    await one.acknowledged()
    const late = await new Peer(t, v310, server, 'mix/a').synced()
    await converged([one, late], readText)
    assert.equal(readText(two.doc), '')
  })
})
