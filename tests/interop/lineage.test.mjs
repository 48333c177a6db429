// A document is deleted and made anew while pages have copies of it. They are told, keep what they have, and bring nothing back.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as Y from 'yjs'
import { all, Peer, v310 } from './lib/clients.mjs'
import { Editor, generations, HASTY, v4 } from './lib/collab.mjs'
import { readText } from './lib/content.mjs'
import { Server } from './lib/server.mjs'
import { until, windowOf } from './lib/until.mjs'

const text = (doc) => doc.getMap === undefined ? doc.get('text') : doc.getText('text')
const read = (doc) => text(doc).toString()
/** What a page would save for its user: the whole copy, and a copy made from it. */
const exported = ({ yjs = Y, doc }) => {
  const copy = new yjs.Doc()
  yjs.applyUpdate(copy, yjs.encodeStateAsUpdate(doc))
  return read(copy)
}

const call = async (server, method, path, body) => {
  const response = await fetch(`${server.url}/v1/docs/${path}`, { method, body })
  assert.ok(response.ok, `${method} ${path}: ${response.status}`)
}

/** Another document under the same name, with a word in it. */
const replace = async (server, name) => {
  await call(server, 'DELETE', name)
  const fresh = new Y.Doc()
  fresh.getText('text').insert(0, 'new')
  await call(server, 'PUT', name, Y.encodeStateAsUpdate(fresh))
}

const stored = async (server, name) => {
  const doc = new Y.Doc()
  const state = await server.state(name)
  if (state !== null) Y.applyUpdate(doc, state)
  return readText(doc)
}

/** Nothing of the old content is there, for the server or for somebody who comes now. */
const isClean = async (t, server, newcomer) => {
  assert.equal(await stored(server, 'plan'), 'new')
  const late = newcomer()
  await late.synced()
  assert.equal(read(late.doc), 'new')
}

describe('lineage', { concurrency: 4 }, () => {
  for (const client of all) {
    test(`${client.name}: a page that was away comes back with its copy and is refused`, async (t) => {
      const server = await Server.start(t)
      const alice = await new Peer(t, client, server, 'plan').synced()
      text(alice.doc).insert(0, 'old ')
      await alice.acknowledged()
      alice.disconnect()
      text(alice.doc).insert(4, 'unsent')
      await replace(server, 'plan')

      const before = alice.dials
      const bob = await new Peer(t, v310, server, 'plan').synced()
      alice.closes.length = 0
      alice.connect()
      await until(() => alice.closes.length > 0, 'the close')
      assert.equal(alice.closes[0], 4409)
      await windowOf(4000)
      const stops = client === v310
      // Those that never stop would have dialled eighty times.
      assert.ok(alice.dials - before <= (stops ? 1 : 3), `${alice.dials - before} dials`)
      if (stops) assert.equal(alice.closed.reason, 'STALE_HISTORY')
      assert.equal(exported(alice), 'old unsent')
      await isClean(t, server, () => new Peer(t, client, server, 'plan'))
      assert.equal(read(bob.doc), 'new')
      assert.deepEqual(bob.closes, [], 'nobody else is disturbed')
    })

    test(`${client.name}: a page that is open meanwhile ends, and ends again when its user insists`, async (t) => {
      const server = await Server.start(t)
      const alice = await new Peer(t, client, server, 'plan').synced()
      text(alice.doc).insert(0, 'old')
      await alice.acknowledged()
      await replace(server, 'plan')
      await until(() => alice.closes.length > 0, 'the close')
      assert.equal(alice.closes[0], 4404)
      alice.connect()
      await until(() => alice.closes.includes(4409), () => `4409, and not only ${alice.closes}`)
      assert.equal(exported(alice), 'old')
      await isClean(t, server, () => new Peer(t, client, server, 'plan'))
    })
  }

  for (const generation of generations) {
    test(`${generation.name}: a page that was away comes back with its copy and is refused`, async (t) => {
      const server = await Server.start(t)
      const alice = new Editor(t, [generation, server, HASTY], 'plan')
      await alice.synced()
      alice.type('old ')
      await alice.saved()
      const doc = alice.doc
      alice.leave()
      alice.line.close()
      doc.getText('text').insert(4, 'unsent')
      await replace(server, 'plan')

      const bob = new Editor(t, [v4, server, HASTY], 'plan')
      await bob.synced()
      const again = new Editor(t, [generation, server, HASTY], 'plan', { doc })
      assert.equal(await again.refused(), 'STALE_HISTORY')
      await windowOf(2000)
      assert.equal(again.line.dials, 1, 'it does not dial again')
      assert.equal(again.isSaved, false, 'and does not believe that anything was saved')
      assert.equal(exported({ doc }), 'old unsent')
      await isClean(t, server, () => new Editor(t, [generation, server, HASTY], 'plan'))
      assert.equal(bob.text, 'new')
      assert.deepEqual(bob.refusals, [], 'nobody else is disturbed')
    })

    test(`${generation.name}: the other documents on its socket go on`, async (t) => {
      const server = await Server.start(t)
      const plan = new Editor(t, [generation, server, HASTY], 'plan')
      const other = new Editor(t, plan.line, 'other')
      await plan.synced()
      await other.synced()
      plan.type('old')
      await plan.saved()
      plan.line.die()
      await replace(server, 'plan')
      plan.line.socket.shouldConnect = true
      plan.line.socket.connect()
      assert.equal(await plan.refused(), 'STALE_HISTORY')
      await other.synced()
      other.type('goes on')
      await until(async () => await stored(server, 'other') === 'goes on', 'the other document')
      assert.equal(await stored(server, 'plan'), 'new')
      assert.equal(exported(plan), 'old')
    })
  }
})
