// Specification 001, the component editor: as its frontend would speak, over each transport.

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { Peer, v310 } from '../lib/clients.mjs'
import { Server } from '../lib/server.mjs'
import {
  connect, dial, done, fence, listen, membersOf, MODES, operator, person, publish, refusal, refused, rest
} from '../lib/socketio.mjs'
import { row } from '../lib/tables.mjs'
import { until } from '../lib/until.mjs'

const PAGE = 'https://app.example.org'
const server = await Server.start({ after }, {
  dev: false,
  env: { SYNCLINE_LIMITS__FAILED_CONNECTS_PER_MINUTE: '0', SYNCLINE_AUTH__ALLOWED_ORIGINS: PAGE }
})

let components = 0
const newId = () => `comp${++components}`

const subscribed = async (t, componentId, name, mode) => {
  const ear = await listen(t, server, person(name), { mode })
  ear.answer = await done(ear.socket, 'component:subscribe', { componentId })
  return ear
}

/** Three people, of whom the first acts. */
const three = async (t, componentId, mode) =>
  [await subscribed(t, componentId, 'alice', mode), await subscribed(t, componentId, 'bob', mode), await subscribed(t, componentId, 'carol', mode)]

/** The component's document, in the hands of a Yjs client. */
const opened = (t, componentId, who) =>
  new Peer(t, v310, server, `component:${componentId}`, { params: { token: who.token } }).synced()

const COMMANDS = ['component:created', 'component:updated', 'component:deleted', 'component:nested-created',
  'component:nested-updated', 'component:nested-deleted']

for (const mode of MODES) {
  describe(`specification 001 over ${mode.name}`, { concurrency: 4 }, () => {
    test('a token is taken from auth or from the authorization header, and without one there is no connection', async (t) => {
      await connect(t, server, person('alice'), { mode })
      const { token } = person('bob')
      const extraHeaders = { authorization: `Bearer ${token}` }
      const bob = await connect(t, server, undefined, { mode, extraHeaders })
      assert.ok(bob.id.length > 0)
      for (const options of [{}, { extraHeaders: { authorization: 'Bearer no-token' } }]) {
        assert.equal((await refusal(dial(t, server, undefined, { mode, ...options }))).code, 'AUTH_FAILED')
      }
    })

    test('each user is in a room of its own without asking', async (t) => {
      const [alice, bob] = [await listen(t, server, person('alice'), { mode }), await listen(t, server, person('bob'), { mode })]
      await publish(server, alice.who, `user:${alice.who.sub}`, 'notification:sent', { text: 'hello' })
      assert.equal((await alice.heard.heard('notification:sent')).data.text, 'hello')
      await publish(server, bob.who, `user:${bob.who.sub}`, 'notification:sent', { text: 'other' })
      await bob.heard.heard('notification:sent')
      assert.equal(bob.heard.of('notification:sent').length, 1)
    })

    test('a newcomer is announced with id and address to the others, and so is one who goes', async (t) => {
      const componentId = newId()
      const room = `component:${componentId}`
      const alice = await subscribed(t, componentId, 'alice', mode)
      const bob = await subscribed(t, componentId, 'bob', mode)
      const told = await alice.heard.heard('component:user-joined', ({ userId }) => userId === bob.who.sub)
      assert.deepEqual([told.userEmail, told.componentId, told.room], [bob.who.email, componentId, room])
      await done(bob.socket, 'component:unsubscribe', { componentId })
      assert.equal((await alice.heard.heard('component:user-left')).userId, bob.who.sub)
      const carol = await subscribed(t, componentId, 'carol', mode)
      carol.socket.disconnect()
      await alice.heard.heard('component:user-left', ({ userId }) => userId === carol.who.sub)
      assert.deepEqual((await membersOf(server, operator, room)).map(({ userId }) => userId), [alice.who.sub])
      assert.deepEqual(bob.heard.of('component:user-joined').map(({ userId }) => userId), [])
    })

    test('a user with two sockets is announced once, and leaves with the last of them', async (t) => {
      const componentId = newId()
      const alice = await subscribed(t, componentId, 'alice', mode)
      const bob = person('bob')
      const sockets = []
      for (let n = 0; n < 2; n++) {
        const socket = await connect(t, server, bob, { mode })
        await done(socket, 'component:subscribe', { componentId })
        sockets.push(socket)
      }
      sockets[0].disconnect()
      const carol = await subscribed(t, componentId, 'carol', mode)
      await alice.heard.heard('component:user-joined', ({ userId }) => userId === carol.who.sub)
      assert.deepEqual(alice.heard.of('component:user-left'), [])
      sockets[1].disconnect()
      await alice.heard.heard('component:user-left', ({ userId }) => userId === bob.sub)
      assert.equal(alice.heard.of('component:user-joined').filter(({ userId }) => userId === bob.sub).length, 1)
    })

    test('an update is saved, and reaches the others with updates, updatedBy and timestamp, not its sender', async (t) => {
      const componentId = newId()
      const [alice, bob, carol] = await three(t, componentId, mode)
      const first = await done(alice.socket, 'component:update', { componentId, updates: { title: 'One', size: { w: 1, h: 2 } } })
      await bob.heard.heard('component:created')
      const second = await done(alice.socket, 'component:update', { componentId, updates: { title: 'Two', tags: ['a', 'b'] } })
      assert.ok(second.version > first.version)
      for (const { heard } of [bob, carol]) {
        const told = await heard.heard('component:updated', ({ updates }) => updates.title === 'Two')
        assert.deepEqual(told.updates, { title: 'Two', tags: ['a', 'b'] })
        assert.deepEqual([told.componentId, told.updatedBy, told.userId, told.version],
          [componentId, alice.who.sub, alice.who.sub, second.version])
        assert.equal(told.data.previous.title, 'One')
        assert.ok(Date.parse(told.timestamp) > 0)
      }
      await fence(server, operator, `component:${componentId}`, alice)
      assert.deepEqual(alice.heard.of('component:updated'), [])
      const doc = await opened(t, componentId, bob.who)
      const self = row(doc.doc, 'self')
      assert.deepEqual([self.get('title'), self.get('size'), self.get('tags')], ['Two', { w: 1, h: 2 }, ['a', 'b']])
    })

    test('the first update makes the component, and component:created tells everybody', async (t) => {
      const componentId = newId()
      const [alice, bob] = await three(t, componentId, mode)
      await done(alice.socket, 'component:update', { componentId, updates: { title: 'new' } })
      for (const { heard } of [alice, bob]) {
        const created = await heard.heard('component:created')
        assert.deepEqual([created.componentId, created.userId], [componentId, alice.who.sub])
      }
      const late = await subscribed(t, componentId, 'late', mode)
      assert.equal(late.answer.version, 1)
      assert.deepEqual(late.heard.of(...COMMANDS), [])
    })

    test('what a Yjs client writes into the component arrives as component:updated, and its deletion as component:deleted', async (t) => {
      const componentId = newId()
      const alice = await subscribed(t, componentId, 'alice', mode)
      await done(alice.socket, 'component:update', { componentId, updates: { title: 'mine' } })
      const dora = person('dora')
      const doc = await opened(t, componentId, dora)
      row(doc.doc, 'self').set('title', 'by dora')
      const told = await alice.heard.heard('component:updated')
      assert.deepEqual([told.updates, told.updatedBy], [{ title: 'by dora' }, dora.sub])
      const { status } = await rest(server, operator, 'DELETE', `/v1/docs/${encodeURIComponent(`component:${componentId}`)}`)
      assert.ok(status < 300)
      assert.equal((await alice.heard.heard('component:deleted')).componentId, componentId)
    })

    test('a nested component is created for all, updated for the others, deleted for all', async (t) => {
      const componentId = newId()
      const rowId = 'row1'
      const [alice, bob, carol] = await three(t, componentId, mode)
      const nestedComponent = { id: 'button1', type: 'button', label: 'Go', props: { color: 'red', width: 3 } }
      await done(alice.socket, 'component:nested-create', { componentId, rowId, nestedComponent })
      for (const { heard } of [alice, bob, carol]) {
        const told = await heard.heard('component:nested-created')
        assert.deepEqual([told.componentId, told.rowId, told.createdBy], [componentId, rowId, alice.who.sub])
        assert.deepEqual(told.nestedComponent, { ...told.nestedComponent, ...nestedComponent })
      }
      const nestedComponentId = 'button1'
      const updates = { label: 'Stop', props: { color: 'blue' } }
      const { version } = await done(bob.socket, 'component:nested-update', { componentId, rowId, nestedComponentId, updates })
      for (const { heard } of [alice, carol]) {
        const told = await heard.heard('component:nested-updated')
        assert.deepEqual([told.componentId, told.rowId, told.nestedComponentId, told.updatedBy, told.version],
          [componentId, rowId, nestedComponentId, bob.who.sub, version])
        assert.equal(told.updates.label, 'Stop')
      }
      const doc = await opened(t, componentId, carol.who)
      const nested = () => row(doc.doc, rowId).get('$k').get(nestedComponentId)
      assert.deepEqual([nested().get('label'), nested().get('props').toJSON()], ['Stop', { color: 'blue', width: 3 }])

      await done(carol.socket, 'component:nested-delete', { componentId, rowId, nestedComponentId })
      for (const { heard } of [alice, bob, carol]) {
        const told = await heard.heard('component:nested-deleted')
        assert.deepEqual([told.componentId, told.rowId, told.nestedComponentId, told.deletedBy],
          [componentId, rowId, nestedComponentId, carol.who.sub])
      }
      assert.deepEqual(bob.heard.of('component:nested-updated'), [])
      for (const command of ['component:nested-update', 'component:nested-delete']) {
        const answer = await refused(alice.socket, command, { componentId, rowId, nestedComponentId: 'nobody', updates: {} }, 'NOT_FOUND')
        assert.equal(answer.data.nestedComponentId, 'nobody')
      }
    })

    test('a nested component of any tool gets an id when it brings none', async (t) => {
      const componentId = newId()
      const [alice, bob] = await three(t, componentId, mode)
      await done(alice.socket, 'component:nested-create', { componentId, rowId: 'r', nestedComponent: { type: 'text', text: 'x' } })
      const told = await bob.heard.heard('component:nested-created')
      assert.ok(told.nestedComponentId.length > 0)
      assert.equal(told.nestedComponent.id, told.nestedComponentId)
    })

    test('typing reaches the others with id and address, and ends by itself', async (t) => {
      const componentId = newId()
      const [alice, bob] = await three(t, componentId, mode)
      await done(alice.socket, 'component:typing', { componentId })
      const typing = await bob.heard.heard('component:typing', ({ typing }) => typing === true)
      assert.deepEqual([typing.componentId, typing.userId, typing.userEmail], [componentId, alice.who.sub, alice.who.email])
      await bob.heard.heard('component:typing', ({ typing, userId }) => !typing && userId === alice.who.sub)
      assert.deepEqual(alice.heard.of('component:typing'), [])
    })

    test("a cursor reaches the others in the entity's room and in the component's, once each", async (t) => {
      const componentId = newId()
      const entity = { entityType: 'page', entityId: `page-${componentId}` }
      const room = `entity:page:page-${componentId}`
      const [alice, bob, carol] = await three(t, componentId, mode)
      await done(bob.socket, 'subscribe', { room })
      const page = await listen(t, server, person('page'), { mode })
      await done(page.socket, 'subscribe', { room })
      await done(alice.socket, 'component:cursor', { ...entity, componentId, position: { x: 1, y: 2 } })
      for (const { heard } of [bob, carol, page]) {
        const cursor = await heard.heard('component:cursor')
        assert.deepEqual([cursor.componentId, cursor.userId, cursor.userEmail, cursor.position],
          [componentId, alice.who.sub, alice.who.email, { x: 1, y: 2 }])
      }
      await done(alice.socket, 'component:cursor', { ...entity, componentId, position: { x: 3, y: 4 } })
      for (const { heard } of [bob, carol, page]) {
        await heard.heard('component:cursor', ({ position }) => position.x === 3)
        assert.equal(heard.of('component:cursor').length, 2)
      }
      assert.deepEqual(alice.heard.of('component:cursor'), [])
    })

    test('a component that belongs to an entity tells the room of that entity too', async (t) => {
      const componentId = newId()
      const room = `entity:page:of-${componentId}`
      const alice = await subscribed(t, componentId, 'alice', mode)
      const page = await listen(t, server, person('page'), { mode })
      await done(page.socket, 'subscribe', { room })
      const updates = { entityType: 'page', entityId: `of-${componentId}`, title: 'a' }
      await done(alice.socket, 'component:update', { componentId, updates })
      await done(alice.socket, 'component:update', { componentId, updates: { title: 'b' } })
      const told = await page.heard.heard('component:updated', ({ updates }) => updates.title === 'b')
      assert.deepEqual([told.componentId, told.room, told.updatedBy], [componentId, room, alice.who.sub])
    })

    test('a stale update is a conflict, and the page that made it reads again', async (t) => {
      const componentId = newId()
      const [alice, bob] = await three(t, componentId, mode)
      const { version } = await done(alice.socket, 'component:update', { componentId, updates: { title: 'one' } })
      await done(alice.socket, 'component:update', { componentId, updates: { title: 'two' }, expectedVersion: version })
      const answer = await refused(bob.socket, 'component:update',
        { componentId, updates: { title: 'three' }, expectedVersion: version }, 'CONCURRENT_EDIT')
      assert.equal(answer.data.currentValue, 'two')
      const conflict = await bob.heard.heard('error:conflict')
      assert.deepEqual([conflict.code, conflict.currentValue], ['CONCURRENT_EDIT', 'two'])
      await done(bob.socket, 'component:update', { componentId, updates: { title: 'three' }, expectedVersion: answer.data.currentVersion })
      await alice.heard.heard('component:updated', ({ updates }) => updates.title === 'three')
    })

    test('who may not, is told so, and nobody hears of it', async (t) => {
      const componentId = newId()
      const alice = await subscribed(t, componentId, 'alice', mode)
      const reader = await listen(t, server, person('reader', { 'component:*': 'read' }), { mode })
      await done(reader.socket, 'component:subscribe', { componentId })
      const stranger = await listen(t, server, person('stranger', {}), { mode })
      await refused(stranger.socket, 'component:subscribe', { componentId }, 'FORBIDDEN')
      await refused(stranger.socket, 'component:cursor',
        { entityType: 'page', entityId: 'p', componentId, position: 1 }, 'FORBIDDEN')
      for (const [command, more] of [
        ['component:update', { updates: { title: 'x' } }],
        ['component:nested-create', { rowId: 'r', nestedComponent: { id: 'x', type: 'x' } }],
        ['component:nested-delete', { rowId: 'r', nestedComponentId: 'x' }]
      ]) await refused(reader.socket, command, { componentId, ...more }, 'FORBIDDEN')
      await fence(server, operator, `component:${componentId}`, alice)
      assert.deepEqual(alice.heard.of(...COMMANDS), [])
    })

    test('unsubscribed, a page hears nothing more of the component', async (t) => {
      const componentId = newId()
      const [alice, bob, carol] = await three(t, componentId, mode)
      await done(bob.socket, 'component:unsubscribe', { componentId })
      const before = bob.heard.events.length
      await done(alice.socket, 'component:update', { componentId, updates: { title: 'x' } })
      await carol.heard.heard('component:created')
      await done(bob.socket, 'subscribe', { room: `entity:page:${componentId}` })
      await fence(server, operator, `entity:page:${componentId}`, bob)
      assert.deepEqual(bob.heard.events.slice(before).map(({ event }) => event), ['test:fence'])
    })
  })
}

describe('specification 001: pages', () => {
  test('a page of an allowed origin may poll with its credentials, another may not', async () => {
    const open = (origin, method = 'GET') => fetch(`${server.url}/socket.io/?EIO=4&transport=polling`, {
      method, headers: { origin, ...(method === 'OPTIONS' ? { 'access-control-request-method': 'POST' } : {}) }
    })
    for (const method of ['GET', 'OPTIONS']) {
      const allowed = await open(PAGE, method)
      await allowed.text()
      assert.ok(allowed.ok, `${method}: ${allowed.status}`)
      assert.equal(allowed.headers.get('access-control-allow-origin'), PAGE)
      assert.equal(allowed.headers.get('access-control-allow-credentials'), 'true')
    }
    const foreign = await open('https://elsewhere.example.org')
    await foreign.text()
    assert.equal(foreign.headers.get('access-control-allow-origin'), null)
  })

  test('a large component travels over every transport', async (t) => {
    const body = 'ä'.repeat(15_000)
    for (const mode of MODES) {
      const componentId = newId()
      const [alice, bob] = await three(t, componentId, mode)
      const updates = Object.fromEntries([1, 2, 3, 4].map((n) => [`body${n}`, body]))
      await done(alice.socket, 'component:update', { componentId, updates: { title: 'large' } })
      await done(alice.socket, 'component:update', { componentId, updates })
      const told = await bob.heard.heard('component:updated', ({ updates }) => updates.body4 !== undefined)
      assert.deepEqual(told.updates, updates)
      await until(() => bob.socket.io.engine.transport.name === mode.arrives, mode.arrives)
    }
  })
})
