// Rights that are taken back on one node end the channels on all of them, within a second.

import assert from 'node:assert/strict'
import { after } from 'node:test'
import { Peer, v310 } from '../lib/clients.mjs'
import { Editor, generations, v4 } from '../lib/collab.mjs'
import { listen, person } from '../lib/socketio.mjs'
import { token } from '../lib/token.mjs'
import { until } from '../lib/until.mjs'
import { admin, shows, story } from './lib/cluster.mjs'
import { Postgres } from './lib/postgres.mjs'

const postgres = await Postgres.start({ after })
const WITHIN_MS = 1000
const MESSAGE_AUTH = 2

/** What the clients of `y-websocket` are told: at once, though the socket is held for a while before it is closed. */
const denials = (peers) => {
  const told = []
  for (const { provider } of peers) provider.messageHandlers[MESSAGE_AUTH] = () => told.push(provider)
  return told
}

for (const [what, body, claims] of [
  ['a user', { sub: 'alice', mode: 'disconnect' }, {}],
  ['a token', { jti: 'stolen' }, { jti: 'stolen' }],
  ['a room', { room: 'shut', mode: 'disconnect' }, {}]
]) {
  story(`${what} that is revoked on one node is out on the others within a second`, { nodes: 3, postgres }, async (t, { nodes }) => {
    const alice = token({ '*': 'write' }, { sub: 'alice', ...claims })
    const editors = await Promise.all(nodes.map((node, n) => new Editor(t, [generations[n], node], 'shut', { token: alice }).synced()))
    const peers = await Promise.all(nodes.map((node) => new Peer(t, v310, node, 'shut', { params: { token: alice } }).synced()))
    const spared = await Promise.all(nodes.map((node) => new Editor(t, [v4, node], 'open', shows('bob')).synced()))
    const denied = denials(peers)
    const revoked = admin(nodes[0], 'POST', '/v1/admin/revoke', body)
    await Promise.all([
      until(() => editors.every(({ refusals }) => refusals.length > 0), () => `refusals ${editors.map(({ refusals }) => refusals.length)}`, WITHIN_MS),
      until(() => denied.length === peers.length, () => `${denied.length} of ${peers.length} told`, WITHIN_MS)
    ])
    assert.equal((await revoked).status, 200)
    const code = body.jti === undefined ? 'FORBIDDEN' : 'AUTH_FAILED'
    for (const { refusals } of editors) assert.equal(refusals[0], code)
    await until(() => peers.every(({ closed }) => closed !== null), 'they are closed')
    for (const { closed } of peers) assert.equal(closed.code, body.jti === undefined ? 4403 : 4401)
    spared.forEach((editor) => editor.type('goes on;'))
    for (const editor of spared) await editor.saved()
    for (const { refusals, line } of spared) assert.deepEqual([refusals, line.dials], [[], 1])
    if (body.room !== undefined) return
    // The token opens no door of any node any more, also of one that is started later.
    for (const node of nodes) {
      const again = new Editor(t, [v4, node], 'shut', { token: alice })
      await again.refused()
    }
  })
}

story('a revocation is known to a node that was cut off, once it hears again', { postgres }, async (t, { nodes }) => {
  const [here, there] = nodes
  const mallory = await new Editor(t, [v4, there], 'shut', shows('mallory')).synced()
  const page = await listen(t, there, person('page'))
  there.gate.cut()
  assert.equal((await admin(here, 'POST', '/v1/admin/revoke', { sub: 'mallory', mode: 'disconnect' })).status, 200)
  there.gate.heal()
  await mallory.refused()
  assert.equal(page.socket.connected, true)
})
