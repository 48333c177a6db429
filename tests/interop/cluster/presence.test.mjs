// Who is there, on other nodes: shown, changed, gone by itself when a node dies, and not missed while one drains.

import assert from 'node:assert/strict'
import { after } from 'node:test'
import { Peer, v300, v310 } from '../lib/clients.mjs'
import { Editor, generations, HASTY, sees, v2, v4 } from '../lib/collab.mjs'
import { done, listen, membersOf, operator as root, person } from '../lib/socketio.mjs'
import { Listener } from '../lib/sse.mjs'
import { until, windowOf } from '../lib/until.mjs'
import { HEARTBEAT_SECONDS, operator, params, shows, story } from './lib/cluster.mjs'
import { Postgres } from './lib/postgres.mjs'

const postgres = await Postgres.start({ after })

/** Several heartbeats, and well below the 30 s after which a client forgets others by itself. */
const DEAD_MS = (10 * HEARTBEAT_SECONDS + 5) * 1000

const named = (awareness, name) => awareness.setLocalState({ name })

/** Waits until each of `people` sees exactly the others. */
const allSee = async (people, timeoutMs) => {
  const names = people.map(({ awareness }) => awareness.getLocalState().name)
  for (const [n, who] of people.entries()) await sees(who, names.filter((_, other) => other !== n), timeoutMs)
}

story('both families see each other on three nodes: come, change, leave, break off', { nodes: 3, postgres }, async (t, { nodes }) => {
  const peers = await Promise.all([v310, v300, v310].map((client, n) => new Peer(t, client, nodes[n], 'seen', params(`peer${n}`)).synced()))
  const editors = await Promise.all(generations.map((generation, n) => new Editor(t, [generation, nodes[n]], 'seen', shows(`editor${n}`)).synced()))
  const all = [...peers, ...editors]
  all.forEach(({ awareness }, n) => named(awareness, `p${n}`))
  await allSee(all)
  all.forEach(({ awareness }, n) => named(awareness, `changed ${n}`))
  await allSee(all)
  const late = await new Editor(t, [v4, nodes[2]], 'seen', shows('late')).synced()
  named(late.awareness, 'late')
  await allSee([...all, late])
  late.line.die()
  peers[1].leave()
  await allSee(all.filter((who) => who !== peers[1]))
})

story('the users of a node that is killed vanish with its heartbeat', { nodes: 3, postgres }, async (t, { nodes }) => {
  const stay = [
    await new Peer(t, v310, nodes[0], 'seen', params('a')).synced(),
    await new Editor(t, [v4, nodes[1]], 'seen', shows('b')).synced()
  ]
  const go = [
    await new Peer(t, v310, nodes[2], 'seen', params('c')).synced(),
    await new Editor(t, [v2, nodes[2]], 'seen', shows('d')).synced()
  ]
  const all = [...stay, ...go]
  all.forEach(({ awareness }, n) => named(awareness, `p${n}`))
  const watch = await Listener.open(t, nodes[0], 'seen', { headers: operator })
  await allSee(all)
  go[0].provider.shouldConnect = false
  go[1].line.socket.shouldConnect = false
  await nodes[2].stop('SIGKILL')
  await allSee(stay, DEAD_MS)
  for (const userId of ['c', 'd']) await watch.heard('user:left', (event) => event.userId === userId, DEAD_MS)
  for (const node of nodes.slice(0, 2)) {
    await until(async () => !(await membersOf(node, root, 'seen')).some(({ userId }) => 'cd'.includes(userId)), 'nobody of the dead node is listed', DEAD_MS)
  }
})

story('presence that changed while a node was cut off is right after it', { postgres }, async (t, { nodes }) => {
  const [here, there] = nodes
  const [alice, bob] = [
    await new Editor(t, [v4, here], 'seen', shows('alice')).synced(),
    await new Editor(t, [v4, there], 'seen', shows('bob')).synced()
  ]
  const gone = await new Peer(t, v310, there, 'seen', params('gone')).synced()
  ;[alice, bob, gone].forEach(({ awareness }, n) => named(awareness, `p${n}`))
  await allSee([alice, bob, gone])
  there.gate.cut()
  named(bob.awareness, 'bob again')
  gone.leave()
  const late = await new Peer(t, v310, there, 'seen', params('late')).synced()
  named(late.awareness, 'late')
  there.gate.heal()
  await allSee([alice, bob, late])
})

/** A client says again that it is there every 15 s: whoever is seen earlier did not have to wait for that. */
const SOON_MS = 8000

for (const kind of ['y-websocket', 'Hocuspocus']) {
  for (const [what, leave] of [['breaks', ({ peer, editor }) => peer === undefined ? editor.line.break() : peer.provider.ws.close()], ['drains', (_, node) => node.stop('SIGTERM')]]) {
    story(`somebody on ${kind} whose ${what === 'drains' ? 'node drains' : 'connection breaks'} is missed no longer than the way to another node takes`, { postgres }, async (t, { nodes }) => {
      const [here, there] = nodes
      const watcher = await new Peer(t, v310, here, 'seen', params('watcher')).synced()
      named(watcher.awareness, 'watcher')
      const mover = kind === 'Hocuspocus'
        ? { editor: await new Editor(t, [v4, there, HASTY], 'seen', shows('mover')).synced() }
        : { peer: await new Peer(t, v310, there, 'seen', { maxBackoffTime: 200, ...params('mover') }).synced() }
      named((mover.editor ?? mover.peer).awareness, 'mover')
      await sees(watcher, ['mover'])
      let missed = false
      watcher.awareness.on('change', () => { missed ||= watcher.others().length === 0 })
      if (mover.editor !== undefined) mover.editor.line.aim(here)
      else mover.peer.provider.serverUrl = here.syncUrl
      await leave(mover, there)
      await until(() => (mover.editor?.line ?? mover.peer).dials > 1, 'it dials again')
      await (mover.editor ?? mover.peer).synced()
      await sees(watcher, ['mover'], SOON_MS)
      assert.deepEqual(watcher.closes, [])
      t.diagnostic(missed ? 'missed for a moment' : 'not missed at all')
    })
  }
}

story('user:joined and user:left across nodes: once for a user, however many connections', { nodes: 3, postgres }, async (t, { nodes }) => {
  const room = 'project:shared'
  const watchers = await Promise.all(nodes.map((node) => listen(t, node, person('watcher'))))
  for (const { socket } of watchers) await done(socket, 'subscribe', { room })
  const alice = person('alice')
  const [one, two] = [await listen(t, nodes[0], alice), await listen(t, nodes[1], alice)]
  const of = ({ heard }, ...names) => heard.of(...names).filter(({ userId }) => userId === alice.sub)
  await done(one.socket, 'subscribe', { room })
  for (const { heard } of watchers) await heard.heard('user:joined', ({ userId }) => userId === alice.sub)
  await done(two.socket, 'subscribe', { room })
  for (const node of nodes) {
    await until(async () => (await membersOf(node, root, room)).filter(({ userId }) => userId === alice.sub).length === 1, 'alice is listed once')
  }
  one.socket.disconnect()
  // She is still there on the other node; what comes afterwards shows that nothing came before it.
  const bob = await listen(t, nodes[0], person('bob'))
  await done(bob.socket, 'subscribe', { room })
  for (const { heard } of watchers) await heard.heard('user:joined', ({ userId }) => userId === bob.who.sub)
  await windowOf(2000 * HEARTBEAT_SECONDS)
  for (const watcher of watchers) assert.equal(of(watcher, 'user:left').length, 0)
  two.socket.disconnect()
  for (const { heard } of watchers) await heard.heard('user:left', ({ userId }) => userId === alice.sub)
  for (const watcher of watchers) assert.deepEqual(of(watcher, 'user:joined', 'user:left').map(({ event }) => event), ['user:joined', 'user:left'])
  for (const node of nodes) {
    await until(async () => !(await membersOf(node, root, room)).some(({ userId }) => userId === alice.sub), 'alice is not listed')
  }
})
