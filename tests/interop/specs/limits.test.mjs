// Every limit of rooms and sockets: refused at its figure with its code, and let in again when the answer said.

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { Peer, v310 } from '../lib/clients.mjs'
import { Server } from '../lib/server.mjs'
import {
  ask, connect, dial, done, fence, listen, MODES, operator, person, publish, refusal, refused, rest
} from '../lib/socketio.mjs'
import { until, windowOf } from '../lib/until.mjs'

const server = await Server.start({ after }, { dev: false, config: '[rooms."project:small*"]\nmax_clients = 2\n' })

let rooms = 0
const newRoom = (kind = 'project') => `${kind}:limits${++rooms}`

/** What lets one through in `figure` a minute lets that many through at once, and then as many as time brings. */
const burst = async (figure, send) => {
  const began = Date.now()
  const answers = await Promise.all(Array.from({ length: figure + 15 }, (_, n) => send(n)))
  const brought = Math.ceil((Date.now() - began) / 60_000 * figure)
  const through = answers.filter(({ success }) => success).length
  assert.ok(through >= figure && through <= figure + brought, `${through} of ${answers.length} got through, ${figure} may`)
  const refusals = answers.filter(({ success }) => !success)
  for (const { status, code, message, data } of refusals) {
    assert.deepEqual([status, code], ['error', 'RATE_LIMITED'])
    assert.ok(message.length > 0)
    assert.ok(Number.isInteger(data.retryAfterMs) && data.retryAfterMs > 0 && data.retryAfterMs <= 60_000, JSON.stringify(data))
  }
  assert.ok(answers.slice(0, figure).every(({ success }) => success), 'the first ones')
  return refusals.at(-1).data.retryAfterMs
}

/** Asks until it is refused. */
const untilRefused = (socket, event, payload) => until(async () => {
  const answer = await ask(socket, event, payload)
  return !answer.success && answer
}, 'a refusal')

/** Each limit by the minute: its setting, its figure, and what it counts. */
const RATES = [
  ['messages', 'MESSAGES', 60, 'message:send', (room) => ({ channelId: room, text: 'x' })],
  ['typing', 'TYPING', 10, 'user:typing', (room) => ({ room })],
  ['typing in components', 'TYPING', 10, 'component:typing', (room) => ({ componentId: room })],
  ['presence', 'PRESENCE', 30, 'presence:update', () => ({ status: 'busy' })]
]

describe('limits by the minute', { concurrency: true }, () => {
  for (const [what, , figure, event, payload] of RATES) {
    for (const mode of MODES) {
      test(`${what} over ${mode.name}: ${figure} at once, the next is RATE_LIMITED, and accepted after retryAfterMs`, async (t) => {
        const room = newRoom(event === 'component:typing' ? 'component' : 'channel')
        const alice = await listen(t, server, person('alice'), { mode })
        await done(alice.socket, 'subscribe', { room })
        let ends = 0
        alice.socket.on('disconnect', () => { ends++ })
        const retryAfterMs = await burst(figure, () => ask(alice.socket, event, payload(room)))
        // The limit is the user's: another socket has it too, another user has one of his own.
        const [second, bob] = [await connect(t, server, alice.who, { mode }), await connect(t, server, person('bob'), { mode })]
        for (const socket of [second, bob]) await done(socket, 'subscribe', { room })
        await burst(figure, () => ask(bob, event, payload(room)))
        await windowOf(retryAfterMs)
        await done(alice.socket, event, payload(room))
        assert.equal(ends, 0, 'nobody is disconnected for hurry')
        assert.equal((await untilRefused(second, event, payload(room))).code, 'RATE_LIMITED')
      })
    }
  }

  test('the figures are settings, and 0 is no limit', async (t) => {
    const figures = { MESSAGES: '4', TYPING: '3', PRESENCE: '0' }
    const env = Object.fromEntries(Object.entries(figures).map(([name, figure]) => [`SYNCLINE_LIMITS__${name}_PER_MINUTE`, figure]))
    const own = await Server.start(t, { dev: false, env })
    for (const [, name, , event, payload] of RATES) {
      const figure = Number(figures[name])
      const room = newRoom(event === 'component:typing' ? 'component' : 'channel')
      const { socket } = await listen(t, own, person('alice'))
      await done(socket, 'subscribe', { room })
      if (figure > 0) await burst(figure, () => ask(socket, event, payload(room)))
      else await Promise.all(Array.from({ length: 100 }, () => done(socket, event, payload(room))))
    }
  })

  test('a refused message does nothing else: nobody hears it, and it is sent later by its clientId', async (t) => {
    const channelId = newRoom('channel')
    const bob = await listen(t, server, person('bob'))
    await done(bob.socket, 'subscribe', { room: channelId })
    const alice = await listen(t, server, person('alice'))
    const sent = await Promise.all(Array.from({ length: 70 }, async (_, n) => {
      const message = { channelId, text: `${n}`, clientId: `m${n}` }
      const { success, code, data } = await ask(alice.socket, 'message:send', message)
      return { message, success, code, data }
    }))
    await fence(server, operator, channelId, bob)
    const heard = () => bob.heard.of('message:sent').map(({ text }) => text)
    assert.deepEqual(heard(), sent.filter(({ success }) => success).map(({ message }) => message.text))
    const [{ message, code, data }] = sent.filter(({ success }) => !success)
    assert.equal(code, 'RATE_LIMITED')
    await windowOf(data.retryAfterMs)
    await done(alice.socket, 'message:send', message)
    await bob.heard.heard('message:sent', ({ text }) => text === message.text)
    assert.deepEqual(alice.heard.of('error:conflict', 'error:permission'), [])
  })

  test('cursors and selections are coalesced, never refused', async (t) => {
    const room = newRoom()
    const [alice, bob] = [await listen(t, server, person('alice')), await listen(t, server, person('bob'))]
    for (const { socket } of [alice, bob]) await done(socket, 'subscribe', { room })
    await Promise.all(Array.from({ length: 500 }, (_, n) => done(alice.socket, 'user:cursor-move', { room, position: n })))
    await bob.heard.heard('user:cursor-moved', ({ position }) => position === 499)
    const positions = bob.heard.of('user:cursor-moved').map(({ position }) => position)
    assert.deepEqual(positions, positions.toSorted((a, b) => a - b))
  })
})

describe('limits of connections', { concurrency: 4 }, () => {
  for (const mode of MODES) {
    test(`10 failed connects a minute from one address, then RATE_LIMITED, and a good one after retryAfterMs (${mode.name})`, async (t) => {
      const own = await Server.start(t, { dev: false })
      for (let n = 0; n < 12; n++) await connect(t, own, person('alice'), { mode })
      const fail = async () => {
        const socket = dial(t, own, undefined, { mode, auth: { token: 'bad' } })
        const { code, data } = await refusal(socket)
        socket.disconnect()
        return { code, data }
      }
      for (let n = 0; n < 10; n++) assert.equal((await fail()).code, 'AUTH_FAILED', `attempt ${n + 1}`)
      const { code, data } = await fail()
      assert.equal(code, 'RATE_LIMITED')
      assert.ok(data.retryAfterMs > 0 && data.retryAfterMs <= 60_000, JSON.stringify(data))
      await windowOf(data.retryAfterMs)
      const { socket } = await listen(t, own, person('bob'), { mode })
      await done(socket, 'subscribe', { room: newRoom() })
    })

    test(`a user has so many connections, and the next when one of them is gone (${mode.name})`, async (t) => {
      const own = await Server.start(t, { dev: false, env: { SYNCLINE_LIMITS__CONNECTIONS_PER_USER: '2' } })
      const alice = person('alice')
      const [first] = [await connect(t, own, alice, { mode }), await connect(t, own, alice, { mode })]
      const third = dial(t, own, alice, { mode })
      assert.equal((await refusal(third)).code, 'RATE_LIMITED')
      await connect(t, own, person('bob'), { mode })
      first.disconnect()
      await until(() => {
        if (!third.active) third.connect()
        return third.connected
      }, 'the place that is free')
    })

    test(`a message beyond limits.message_bytes ends the connection that brings it, and no other (${mode.name})`, async (t) => {
      const own = await Server.start(t, { dev: false, env: { SYNCLINE_LIMITS__MESSAGE_BYTES: '65536' } })
      const room = newRoom('channel')
      const [alice, bob] = [await listen(t, own, person('alice'), { mode }), await listen(t, own, person('bob'), { mode })]
      for (const { socket } of [alice, bob]) await done(socket, 'subscribe', { room })
      let [ends, returns, others] = [0, 0, 0]
      alice.socket.on('disconnect', () => { ends++ })
      alice.socket.on('connect', () => { returns++ })
      bob.socket.on('disconnect', () => { others++ })
      alice.socket.emit('message:send', { channelId: room, text: 'x'.repeat(70_000) })
      await until(() => ends === 1 && returns === 1, () => `an end and a return, saw ${[ends, returns]}`)
      await done(alice.socket, 'message:send', { channelId: room, text: 'smaller' })
      assert.equal((await bob.heard.heard('message:sent')).text, 'smaller')
      assert.equal(others, 0)
    })

    test(`beyond the ceiling one waits in a queue, hears its place, and enters in order (${mode.name})`, async (t) => {
      const env = { SYNCLINE_LIMITS__CONNECTIONS: '2', SYNCLINE_LIMITS__QUEUE_WAITING: '3' }
      const own = await Server.start(t, { dev: false, env })
      const room = newRoom('channel')
      const inside = [await listen(t, own, person('in'), { mode }), await listen(t, own, person('in'), { mode })]
      for (const { socket } of inside) await done(socket, 'subscribe', { room })

      const order = []
      const waiting = []
      for (let n = 0; n < 3; n++) {
        const socket = dial(t, own, person(`waiting${n}`), { mode })
        const waiter = { socket, places: [], queued: [] }
        socket.on('queue:status', (told) => {
          waiter.queued.push(told)
          waiter.places.push(told.position)
        })
        waiting.push(waiter)
        await until(() => waiter.places.at(-1) === n + 1, () => `place ${n + 1}, heard ${JSON.stringify(waiter.queued)}`)
        assert.ok(waiter.queued.every(({ estimatedWaitMs }) => Number.isFinite(estimatedWaitMs) && estimatedWaitMs >= 0))
        // What is asked while waiting is carried out when there is a place, in its order.
        waiter.admitted = Promise.all([
          done(socket, 'subscribe', { room }),
          ...['a', 'b', 'c'].map((text) => done(socket, 'message:send', { channelId: room, text: `${n}${text}` }))
        ]).then(() => order.push(n))
        waiter.admitted.catch(() => {})
      }
      const overflow = dial(t, own, person('late'), { mode })
      const told = await refusal(overflow)
      assert.equal(told.code, 'OVERLOADED')
      assert.ok(told.data.estimatedWaitMs >= 0, JSON.stringify(told.data))
      assert.equal(overflow.connected, false)

      assert.deepEqual(order, [], 'nobody enters while there is no place')
      inside[0].socket.disconnect()
      await waiting[0].admitted
      assert.deepEqual([waiting[0].places.at(-1), waiting[0].queued.at(-1).estimatedWaitMs], [0, 0])
      await until(() => waiting[1].places.at(-1) === 1 && waiting[2].places.at(-1) === 2, 'the others move up')
      // One who gives up makes room in the queue, not in front.
      waiting[1].socket.disconnect()
      await until(() => waiting[2].places.at(-1) === 1, 'the last one is first')
      await until(() => inside[1].heard.of('message:sent').length === 3, 'what the first one had to say')
      inside[1].socket.disconnect()
      await waiting[2].admitted
      assert.deepEqual(order, [0, 2])
      assert.deepEqual(inside[1].heard.of('message:sent').map(({ text }) => text), ['0a', '0b', '0c'])
      overflow.connect()
      await until(() => overflow.connected || overflow.active, 'a place in the queue')
    })
  }
})

describe('limits of rooms', { concurrency: true }, () => {
  for (const mode of MODES) {
    for (const [how, settle] of [
      ['by a request', async (room) => {
        const { status } = await rest(server, operator, 'PUT', `/v1/rooms/${encodeURIComponent(room)}`, { maxClients: 2 })
        assert.ok(status < 300)
      }],
      ['by a pattern of the configuration', async () => {}]
    ]) {
      test(`a room for two is full for the third, who enters when one leaves, is set ${how} (${mode.name})`, async (t) => {
        const room = newRoom(how.includes('pattern') ? 'project:small' : 'project')
        await settle(room)
        const ears = []
        for (let n = 0; n < 3; n++) ears.push(await listen(t, server, person('guest'), { mode }))
        for (const { socket } of ears.slice(0, 2)) await done(socket, 'subscribe', { room })
        const [first, second, third] = ears
        // Asking twice takes one place.
        await done(first.socket, 'subscribe', { room })
        await refused(third.socket, 'subscribe', { room }, 'ROOM_FULL')
        await publish(server, operator, room, 'task_created', {})
        for (const { heard } of [first, second]) await heard.heard('task_created')
        await done(first.socket, 'unsubscribe', { room })
        await done(third.socket, 'subscribe', { room })
        await refused(first.socket, 'subscribe', { room }, 'ROOM_FULL')
        second.socket.io.engine.close()
        await until(async () => (await ask(first.socket, 'subscribe', { room })).success, 'the place of one who died')
        await fence(server, operator, room, first, third)
        assert.deepEqual(third.heard.of('task_created'), [])
      })
    }
  }

  test('a room that is full is full for Yjs clients too, and a place of theirs is free when they leave', async (t) => {
    const room = newRoom('table')
    const { status } = await rest(server, operator, 'PUT', `/v1/rooms/${encodeURIComponent(room)}`, { maxClients: 1 })
    assert.ok(status < 300)
    const { socket } = await listen(t, server, person('page'))
    await done(socket, 'subscribe', { room })
    const grid = new Peer(t, v310, server, room, { params: { token: person('grid').token } })
    await until(() => grid.closes.length > 0, 'a refusal')
    assert.equal(grid.closes[0], 4509)
    await done(socket, 'unsubscribe', { room })
    await grid.synced()
    await refused(socket, 'subscribe', { room }, 'ROOM_FULL')
    grid.leave()
    await until(async () => (await ask(socket, 'subscribe', { room })).success, 'the place of the grid')
  })

  test('who may not administer a room does not set it, and settings that are none are refused', async () => {
    const room = newRoom()
    const put = (who, body) => rest(server, who, 'PUT', `/v1/rooms/${encodeURIComponent(room)}`, body)
    assert.deepEqual((await put(person('writer'), { maxClients: 1 })).body.code, 'FORBIDDEN')
    for (const body of [{ maxClients: -1 }, { maxClients: 'two' }, { ttlSeconds: 1.5 }, { historyEvents: null, no: 1 }]) {
      const { status, body: told } = await put(operator, body)
      assert.ok([400, 422].includes(status) && told.code === 'INVALID_PAYLOAD', JSON.stringify([body, status, told]))
    }
  })
})
