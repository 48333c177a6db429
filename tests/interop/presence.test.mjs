// Presence, when somebody leaves without a word, somebody says so, and somebody never stops moving.

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { Peer, v310 } from './lib/clients.mjs'
import { Editor, generations, v2, v3, v4 } from './lib/collab.mjs'
import { Server } from './lib/server.mjs'
import { token } from './lib/token.mjs'
import { until, windowOf } from './lib/until.mjs'

const MOVES_PER_SECOND = 100
const MOVED_MS = 5000
/** A client forgets others after 30 s, and looks every 3 s. */
const GHOST_MS = 35_000

const server = await Server.start({ after })

const states = (peer) => Object.fromEntries([...peer.awareness.getStates()]
  .filter(([id]) => id !== peer.doc.clientID)
  .map(([id, state]) => [id, state]))

describe('presence of a restless document', { concurrency: true }, () => {
  for (const [first, second, third] of [[v4, v3, v2], [v3, v2, v4], [v2, v4, v3]]) {
    test(`one ends its presence (${first.name}), one is killed (${second.name}), one moves 100 times a second (${third.name})`, async (t) => {
      const name = `restless/${first.major}${second.major}${third.major}`
      const quiet = await new Editor(t, [first, server], name).synced()
      const doomed = await new Editor(t, [second, server], name).synced()
      const mover = await new Editor(t, [third, server], name).synced()
      const watchers = await Promise.all(generations.map((generation) => new Editor(t, [generation, server], name).synced()))
      watchers.push(await new Peer(t, v310, server, name).synced())
      for (const watcher of watchers) watcher.awareness.setLocalState(null)
      quiet.awareness.setLocalState({ name: 'quiet' })
      doomed.awareness.setLocalState({ name: 'doomed' })
      mover.awareness.setLocalState({ name: 'mover', cursor: 0 })
      for (const watcher of watchers) {
        await until(() => Object.keys(states(watcher)).length === 3, () => `three, sees ${JSON.stringify(states(watcher))}`)
      }
      const seen = watchers.map(() => new Set())
      watchers.forEach((watcher, n) => watcher.awareness.on('change', () => {
        const cursor = states(watcher)[mover.doc.clientID]?.cursor
        if (cursor !== undefined) seen[n].add(cursor)
      }))

      let cursor = 0
      const began = Date.now()
      while (Date.now() - began < MOVED_MS) {
        const due = Math.floor((Date.now() - began) / 1000 * MOVES_PER_SECOND)
        while (cursor < due) mover.awareness.setLocalStateField('cursor', ++cursor)
        if (cursor > 200 && quiet.awareness.getLocalState() !== null) quiet.awareness.setLocalState(null)
        if (cursor > 300) doomed.line.die()
        await windowOf(2)
      }
      mover.awareness.setLocalStateField('cursor', 'last')
      const right = { [mover.doc.clientID]: { name: 'mover', cursor: 'last' } }
      for (const peer of [...watchers, quiet]) {
        await until(() => JSON.stringify(states(peer)) === JSON.stringify(right), () => `the last state, sees ${JSON.stringify(states(peer))}`)
      }
      assert.deepEqual(states(mover), {})
      t.diagnostic(`${cursor} moves, seen: ${seen.map((some) => some.size)}`)

      // Nobody comes back, and who is still here is not forgotten.
      let wrong
      const watch = () => { wrong ??= [...watchers, quiet].map(states).find((some) => Object.keys(some).join() !== String(mover.doc.clientID)) }
      for (const peer of [...watchers, quiet]) peer.awareness.on('change', watch)
      await windowOf(GHOST_MS)
      assert.equal(wrong, undefined)
      for (const peer of [...watchers, quiet]) assert.deepEqual(states(peer), right)
      const late = await new Editor(t, [first, server], name).synced()
      late.awareness.setLocalState(null)
      await until(() => late.others('cursor').length > 0, 'the mover at a late comer')
      assert.deepEqual(states(late), right)
      for (const peer of watchers) assert.equal(peer.line?.dials ?? peer.dials, 1, 'somebody had to dial again')
    })
  }

  test('the presence of somebody else cannot be overwritten or removed', async (t) => {
    const guarded = await Server.start(t, { dev: false })
    const as = (sub) => ({ token: token({ owned: 'write' }, { sub }) })
    const alice = await new Editor(t, [v4, guarded], 'owned', as('alice')).synced()
    alice.awareness.setLocalState({ name: 'alice' })
    const bob = await new Editor(t, [v3, guarded], 'owned', as('bob')).synced()
    await until(() => bob.others().includes('alice'), 'alice is seen')
    const mallory = await new Editor(t, [v2, guarded], 'owned', as('mallory')).synced()
    await until(() => mallory.others().includes('alice'), 'alice is seen')
    const { clock } = mallory.awareness.meta.get(alice.doc.clientID)
    // 2.x sends on whatever changes in its awareness, whoever it is about.
    for (const [ahead, state] of [[1, { name: 'not alice' }], [2, null]]) {
      mallory.awareness.states.set(alice.doc.clientID, state)
      mallory.awareness.meta.set(alice.doc.clientID, { clock: clock + ahead, lastUpdated: Date.now() })
      mallory.awareness.emit('update', [{ added: [], updated: [alice.doc.clientID], removed: [] }, 'local'])
    }
    let wrong
    bob.awareness.on('change', () => { if (!bob.others().includes('alice')) wrong = bob.others() })
    mallory.awareness.setLocalState({ name: 'mallory' })
    await until(() => bob.others().includes('mallory'), 'what came after it')
    assert.equal(wrong, undefined)
    alice.awareness.setLocalState({ name: 'alice', cursor: 1 })
    await until(() => bob.others('cursor').includes(1), 'alice goes on')
  })

  for (const generation of generations) {
    test(`${generation.name}: nothing but silence for 35 s, without presence, and nobody dials again`, async (t) => {
      const name = `silent/${generation.major}`
      const silent = await new Editor(t, [generation, server], name).synced()
      silent.awareness.setLocalState(null)
      const without = await new Editor(t, [generation, server], name, { awareness: null }).synced()
      await windowOf(GHOST_MS)
      without.type('still here')
      await until(() => silent.text === 'still here', 'the edit')
      await without.saved()
      assert.deepEqual([silent.line.dials, without.line.dials], [1, 1])
    })
  }
})
