// Specification 004, the game world: one connection with its own way back, subscriptions by kind, events of parents and children.

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { Server } from '../lib/server.mjs'
import {
  connect, dial, done, fence, Heard, listen, membersOf, MODES, operator, person, publish, refusal, refused
} from '../lib/socketio.mjs'
import { token } from '../lib/token.mjs'
import { until } from '../lib/until.mjs'

const env = { SYNCLINE_LIMITS__FAILED_CONNECTS_PER_MINUTE: '0' }
const server = await Server.start({ after }, { dev: false, env })

let worlds = 0
/** A campaign with a settlement with a structure: ids, and rooms. */
const newWorld = () => {
  const n = ++worlds
  const ids = { campaignId: `c${n}`, settlementId: `s${n}`, structureId: `t${n}` }
  return { ...ids, campaign: `campaign:${ids.campaignId}`, settlement: `settlement:${ids.settlementId}`, structure: `structure:${ids.structureId}` }
}

const tell = (rooms, event, data, more = {}) => publish(server, operator, rooms[0], event, data,
  { ...(rooms.length > 1 ? { alsoTo: rooms.slice(1) } : {}), ...more })

/** A specification's own connection: it dials by itself, later each time, and again with another token. */
class WorldClient {
  state = 'disconnected'
  attempts = 0
  delays = []
  heard = null
  #options
  #timer = null
  #intentional = false
  #baseMs
  #maxMs

  constructor (t, where, options, { baseMs = 10, maxMs = 80 } = {}) {
    Object.assign(this, { t, where })
    this.#options = options
    this.#baseMs = baseMs
    this.#maxMs = maxMs
    t.after(() => this.close())
  }

  open (who) {
    this.#intentional = false
    this.state = 'connecting'
    this.who = who
    this.socket = dial(this.t, this.where, who, { ...this.#options, reconnection: false })
    const { socket } = this
    this.heard = new Heard(socket)
    socket.on('connect', () => {
      this.state = 'connected'
      this.attempts = 0
    })
    socket.on('connect_error', () => this.#later('error', socket))
    socket.on('disconnect', () => this.#later('disconnected', socket))
    return this
  }

  #later (state, socket) {
    if (socket !== this.socket) return
    this.state = state
    if (this.#intentional) return
    const delayMs = Math.min(this.#baseMs * 2 ** this.attempts++, this.#maxMs)
    this.delays.push(delayMs)
    this.#timer = setTimeout(() => {
      this.state = 'connecting'
      socket.connect()
    }, delayMs)
  }

  /** Another token: this connection ends on purpose, and another one begins. */
  refresh (who) {
    this.close()
    return this.open(who)
  }

  close () {
    this.#intentional = true
    clearTimeout(this.#timer)
    this.socket?.disconnect()
  }

  async connected () {
    await until(() => this.state === 'connected', () => `connected, is ${this.state}`)
    return this
  }
}

for (const mode of MODES) {
  describe(`specification 004 over ${mode.name}`, { concurrency: 4 }, () => {
    test('a token is taken from auth or from the query, and a bad one is refused at once', async (t) => {
      const alice = person('alice')
      await connect(t, server, alice, { mode })
      const { token: good } = person('bob')
      const bob = await connect(t, server, undefined, { mode, query: { token: good } })
      await done(bob, 'subscribe_campaign', { campaignId: newWorld().campaignId })
      for (const options of [{}, { auth: { token: 'bad' } }, { query: { token: 'bad' } }]) {
        const socket = dial(t, server, undefined, { mode, ...options })
        assert.equal((await refusal(socket)).code, 'AUTH_FAILED')
        assert.equal(socket.connected, false)
      }
    })

    test('a campaign, a settlement and a structure are subscribed to and left', async (t) => {
      const world = newWorld()
      const ear = await listen(t, server, person('alice'), { mode })
      for (const kind of ['campaign', 'settlement', 'structure']) {
        const id = { [`${kind}Id`]: world[`${kind}Id`] }
        assert.equal((await done(ear.socket, `subscribe_${kind}`, id)).error, undefined)
        await tell([world[kind]], 'entity_updated', { entityType: kind, entityId: 'in' })
        await ear.heard.heard('entity_updated', ({ room, entityId }) => room === world[kind] && entityId === 'in')
        await done(ear.socket, `unsubscribe_${kind}`, id)
        await tell([world[kind]], 'entity_updated', { entityType: kind, entityId: 'out' })
      }
      await done(ear.socket, 'subscribe_campaign', { campaignId: world.campaignId })
      await fence(server, operator, world.campaign, ear)
      assert.deepEqual(ear.heard.of('entity_updated').map(({ entityId }) => entityId), ['in', 'in', 'in'])
    })

    test('a campaign that one may not view is refused with success and error, and nothing of it is heard', async (t) => {
      const [mine, theirs] = [newWorld(), newWorld()]
      const ear = await listen(t, server, person('alice', { [mine.campaign]: 'read' }), { mode })
      await done(ear.socket, 'subscribe_campaign', { campaignId: mine.campaignId })
      for (const [kind, id] of [['campaign', theirs.campaignId], ['settlement', theirs.settlementId], ['structure', theirs.structureId]]) {
        const answer = await refused(ear.socket, `subscribe_${kind}`, { [`${kind}Id`]: id }, 'FORBIDDEN')
        assert.ok(typeof answer.error === 'string' && answer.error.length > 0, JSON.stringify(answer))
      }
      await tell([theirs.campaign, theirs.settlement, theirs.structure], 'entity_updated', {})
      await fence(server, operator, mine.campaign, ear)
      assert.deepEqual(ear.heard.of('entity_updated'), [])
    })

    test('an empty or malformed id is refused, and makes no room', async (t) => {
      const { socket } = await listen(t, server, person('alice'), { mode })
      for (const payload of [{}, { campaignId: '' }, { campaignId: 7 }, { campaignId: null }, { campaignId: 'a\nb' },
        { campaignId: 'x'.repeat(300) }, { settlementId: 's' }, null, 'c1']) {
        const answer = await refused(socket, 'subscribe_campaign', payload, 'INVALID_PAYLOAD')
        assert.ok(typeof answer.error === 'string', JSON.stringify(answer))
      }
    })

    test('an update reaches all subscribers of the campaign, and those of its parts', async (t) => {
      const world = newWorld()
      const ears = {}
      for (const kind of ['campaign', 'settlement', 'structure']) {
        ears[kind] = await listen(t, server, person(kind), { mode })
        await done(ears[kind].socket, `subscribe_${kind}`, { [`${kind}Id`]: world[`${kind}Id`] })
      }
      const { campaignId, settlementId, structureId } = world
      await tell([world.campaign], 'world_time_changed', { campaignId, previousTime: 1, newTime: 61, elapsed: 60 })
      await tell([world.campaign], 'state_invalidated', { campaignId, keys: ['rules'] })
      await tell([world.campaign, world.settlement], 'settlement_updated',
        { campaignId, settlementId, operation: 'update', changedFields: ['level'] })
      await tell([world.campaign, world.settlement, world.structure], 'structure_updated',
        { campaignId, settlementId, structureId, operation: 'create', changedFields: [] })
      await tell([world.campaign], 'entity_updated', { campaignId, entityType: 'campaign', entityId: campaignId, operation: 'update', changedFields: ['name'] })
      for (const kind of ['campaign', 'settlement', 'structure']) await fence(server, operator, world[kind], ears[kind])
      const names = (kind) => ears[kind].heard.events.map(({ event }) => event).filter((name) => name !== 'test:fence')
      assert.deepEqual(names('campaign'),
        ['world_time_changed', 'state_invalidated', 'settlement_updated', 'structure_updated', 'entity_updated'])
      assert.deepEqual(names('settlement'), ['settlement_updated', 'structure_updated'])
      assert.deepEqual(names('structure'), ['structure_updated'])
      const [told] = ears.structure.heard.of('structure_updated')
      assert.deepEqual([told.type, told.campaignId, told.settlementId, told.structureId, told.data.operation, told.room],
        ['structure_updated', campaignId, settlementId, structureId, 'create', world.structure])
    })

    test('an event carries its time, and the user, source and correlation of the one who told it', async (t) => {
      const world = newWorld()
      const ear = await listen(t, server, person('alice'), { mode })
      await done(ear.socket, 'subscribe_settlement', { settlementId: world.settlementId })
      await tell([world.settlement], 'settlement_updated', { settlementId: world.settlementId }, { source: 'api', correlationId: 'request-9' })
      const told = await ear.heard.heard('settlement_updated')
      assert.deepEqual([told.userId, told.source, told.correlationId], [operator.sub, 'api', 'request-9'])
      assert.ok(Date.parse(told.timestamp) > 0)
    })

    test('one that is in the campaign, the settlement and the structure hears an event once', async (t) => {
      const world = newWorld()
      const ear = await listen(t, server, person('alice'), { mode })
      const { campaignId, settlementId, structureId } = world
      await done(ear.socket, 'subscribe_campaign', { campaignId })
      await done(ear.socket, 'subscribe_settlement', { settlementId })
      await done(ear.socket, 'subscribe_structure', { structureId })
      for (let n = 0; n < 10; n++) await tell([world.campaign, world.settlement, world.structure], 'structure_updated', { structureId, n })
      for (const room of [world.campaign, world.settlement, world.structure]) await fence(server, operator, room, ear)
      assert.deepEqual(ear.heard.of('structure_updated').map(({ data }) => data.n), Array.from({ length: 10 }, (_, n) => n))
      await done(ear.socket, 'unsubscribe_campaign', { campaignId })
      await tell([world.campaign, world.settlement, world.structure], 'structure_updated', { structureId, n: 10 })
      await ear.heard.heard('structure_updated', ({ data }) => data.n === 10)
    })

    test('whoever may not write in one of the rooms tells none of them', async (t) => {
      const world = newWorld()
      const ear = await listen(t, server, person('alice'), { mode })
      await done(ear.socket, 'subscribe_settlement', { settlementId: world.settlementId })
      const half = person('half', { [world.settlement]: 'write', [world.campaign]: 'read' })
      const response = await fetch(`${server.url}/v1/rooms/${encodeURIComponent(world.settlement)}/events`, {
        method: 'POST',
        headers: { authorization: `Bearer ${half.token}`, 'content-type': 'application/json' },
        body: JSON.stringify({ event: 'settlement_updated', data: {}, alsoTo: [world.campaign] })
      })
      assert.deepEqual([response.status, (await response.json()).code], [403, 'FORBIDDEN'])
      await fence(server, operator, world.settlement, ear)
      assert.deepEqual(ear.heard.of('settlement_updated'), [])
    })

    test('an invalidation makes every client read again, and they end equal', async (t) => {
      const world = newWorld()
      const state = { rules: 0 }
      const clients = []
      for (let n = 0; n < 3; n++) {
        const ear = await listen(t, server, person(`player${n}`), { mode })
        const view = { ...state }
        ear.socket.on('state_invalidated', ({ data }) => { for (const key of data.keys) view[key] = state[key] })
        await done(ear.socket, 'subscribe_campaign', { campaignId: world.campaignId })
        clients.push({ ...ear, view })
      }
      for (let n = 1; n <= 20; n++) {
        state.rules = n
        await tell([world.campaign], 'state_invalidated', { keys: ['rules'] })
      }
      for (const { view } of clients) await until(() => view.rules === 20, () => `rules 20, shows ${view.rules}`)
    })

    test('another token means another connection: the rooms of the one are not those of the other', async (t) => {
      const [one, two] = [newWorld(), newWorld()]
      const client = await new WorldClient(t, server, { mode }).open(person('alice', { [one.campaign]: 'read' })).connected()
      await done(client.socket, 'subscribe_campaign', { campaignId: one.campaignId })
      await refused(client.socket, 'subscribe_campaign', { campaignId: two.campaignId }, 'FORBIDDEN')
      await client.refresh(person('alice', { [two.campaign]: 'read' })).connected()
      assert.deepEqual([client.attempts, client.delays], [0, []], 'an end on purpose is no failure')
      await done(client.socket, 'subscribe_campaign', { campaignId: two.campaignId })
      await refused(client.socket, 'subscribe_campaign', { campaignId: one.campaignId }, 'FORBIDDEN')
      await tell([one.campaign], 'entity_updated', { entityId: 'old' })
      await tell([two.campaign], 'entity_updated', { entityId: 'new' })
      await client.heard.heard('entity_updated', ({ entityId }) => entityId === 'new')
      assert.equal(client.heard.of('entity_updated').length, 1)
    })

    test('a client without a valid token keeps asking, later each time, and is let in with one', async (t) => {
      const { claims } = person('alice')
      const client = new WorldClient(t, server, { mode })
      client.open({ token: token({ '*': 'read' }, { ...claims, ttlSeconds: -600 }) })
      await until(() => client.attempts >= 5, 'five attempts')
      assert.deepEqual(client.delays.slice(0, 5), [10, 20, 40, 80, 80])
      await client.refresh({ token: token({ '*': 'read' }, claims) }).connected()
      assert.equal(client.attempts, 0)
    })

    test('who disconnects is in no room any more', async (t) => {
      const world = newWorld()
      const client = await new WorldClient(t, server, { mode }).open(person('alice')).connected()
      const witness = await listen(t, server, person('witness'), { mode })
      for (const [kind, idName] of [['campaign', 'campaignId'], ['settlement', 'settlementId']]) {
        for (const { socket } of [client, witness]) await done(socket, `subscribe_${kind}`, { [idName]: world[idName] })
      }
      client.close()
      for (const room of [world.campaign, world.settlement]) {
        await until(async () => (await membersOf(server, operator, room)).every(({ userId }) => userId !== client.who.sub), 'the end')
        await fence(server, operator, room, witness)
      }
      assert.equal(client.state, 'disconnected')
      assert.deepEqual(client.delays, [])
    })

    test('no token is in what the server writes down', async (t) => {
      const alice = person('alice')
      await connect(t, server, undefined, { mode, query: { token: alice.token } })
      await refusal(dial(t, server, undefined, { mode, auth: { token: 'a-bad-token-to-look-for' } }))
      for (const secret of [alice.token, operator.token, 'a-bad-token-to-look-for']) assert.ok(!server.log.includes(secret))
    })
  })
}

describe('specification 004: the network', { concurrency: true }, () => {
  for (const mode of MODES) {
    for (const signal of ['SIGTERM', 'SIGKILL']) {
      test(`a client survives the end of its server, and is in step again (${signal}, ${mode.name})`, async (t) => {
        const own = await Server.start(t, { dev: false, env })
        const room = 'campaign:c1'
        const client = await new WorldClient(t, own, { mode }).open(person('alice')).connected()
        const other = await new WorldClient(t, own, { mode }).open(person('bob')).connected()
        const { eventId } = await done(client.socket, 'subscribe', { room })
        const { code } = await own.stop(signal)
        assert.equal(code, signal === 'SIGTERM' ? 0 : null)
        await until(() => client.attempts >= 2, 'attempts')
        assert.notEqual(client.state, 'connected')
        await own.resume()
        await client.connected()
        await other.connected()
        // What the former process knew is gone: the client is told so, and reads again.
        const { recovered } = await done(client.socket, 'subscribe', { room, since: eventId })
        assert.equal(recovered, false)
        await done(other.socket, 'subscribe_campaign', { campaignId: 'c1' })
        await publish(own, operator, room, 'entity_updated', { entityId: 'e1' })
        for (const { heard } of [client, other]) await heard.heard('entity_updated', ({ entityId }) => entityId === 'e1')
      })
    }

    test(`a cut line is mended, and nothing of the campaign is missed or heard twice (${mode.name})`, async (t) => {
      const world = newWorld()
      const client = await new WorldClient(t, server, { mode }).open(person('alice')).connected()
      let since = (await done(client.socket, 'subscribe', { room: world.campaign })).eventId
      const heard = []
      client.socket.onAny((event, told) => {
        if (told.room !== world.campaign) return
        since = told.eventId
        if (event === 'entity_updated') heard.push(told.data.n)
      })
      const TOLD = 40
      for (let n = 0; n < TOLD; n++) {
        if (n % 10 === 5) client.socket.io.engine.close()
        await tell([world.campaign], 'entity_updated', { n })
        if (n % 10 === 9) {
          await until(() => client.state === 'connected', 'the way back')
          assert.equal((await done(client.socket, 'subscribe', { room: world.campaign, since })).recovered, true)
        }
      }
      await until(() => heard.length >= TOLD, () => `all, heard ${heard}`)
      await fence(server, operator, world.campaign, client)
      assert.deepEqual(heard, Array.from({ length: TOLD }, (_, n) => n))
    })
  }
})
