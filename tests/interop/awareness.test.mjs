// Who is here: joining, changing, leaving, and dying without a farewell.

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { all, Peer, v310 } from './lib/clients.mjs'
import { Server } from './lib/server.mjs'
import { until } from './lib/until.mjs'

// A client returns with the clock its farewell had, and is ignored by the rules until it renews its state: every 15 s, which
// it looks at every 3 s. A server may be quicker about it.
const RENEWAL_MS = 25_000

const server = await Server.start({ after })

const sees = (peer, names) => until(
  () => JSON.stringify(peer.others()) === JSON.stringify(names.toSorted()),
  () => `others ${JSON.stringify(names)}, sees ${JSON.stringify(peer.others())}`
)

describe('awareness', { concurrency: true }, () => {
  for (const client of all) {
    test(`${client.name}: join, change, leave, return`, async (t) => {
      const name = `presence/${client.name}`
      const alice = await new Peer(t, client, server, name).synced()
      alice.awareness.setLocalState({ name: 'alice', cursor: null })
      const bob = await new Peer(t, v310, server, name).synced()
      bob.awareness.setLocalState({ name: 'bob' })
      await sees(alice, ['bob'])
      await sees(bob, ['alice'])

      alice.awareness.setLocalStateField('cursor', { anchor: 3, ü: '😀' })
      await until(() => bob.others('cursor')[0]?.anchor === 3, 'the changed state')

      const carol = await new Peer(t, client, server, name).synced()
      carol.awareness.setLocalState({ name: 'carol' })
      await sees(carol, ['alice', 'bob'])

      alice.awareness.setLocalState(null)
      await sees(bob, ['carol'])
      alice.awareness.setLocalState({ name: 'alice again' })
      await until(() => bob.others().includes('alice again'), 'alice shows herself again')

      alice.disconnect()
      await until(() => !bob.others().includes('alice again'), 'alice left')
      alice.connect()
      await until(() => bob.others().includes('alice again'), 'alice is back', RENEWAL_MS)
    })

    test(`${client.name}: a client that dies without a word disappears`, async (t) => {
      const name = `death/${client.name}`
      const alice = await new Peer(t, client, server, name).synced()
      const bob = await new Peer(t, v310, server, name).synced()
      alice.awareness.setLocalState({ name: 'alice' })
      await sees(bob, ['alice'])
      alice.die()
      // Well below the 30 s after which clients forget a silent neighbour by themselves.
      await until(() => bob.others().length === 0, 'alice is gone', 10_000)
      assert.deepEqual(bob.closes, [])
    })
  }

  test('what one client relays about another does not take it away when the relay leaves', async (t) => {
    const alice = await new Peer(t, v310, server, 'relay').synced()
    const bob = await new Peer(t, v310, server, 'relay').synced()
    const carol = await new Peer(t, v310, server, 'relay').synced()
    alice.awareness.setLocalState({ name: 'alice' })
    bob.awareness.setLocalState({ name: 'bob' })
    carol.awareness.setLocalState({ name: 'carol' })
    await sees(carol, ['alice', 'bob'])
    // These clients send every state they hear back to the server: bob has relayed alice by now.
    await sees(bob, ['alice', 'carol'])
    bob.die()
    await until(() => !carol.others().includes('bob'), 'bob is gone')
    assert.ok(carol.others().includes('alice'), 'alice stays')
  })
})
