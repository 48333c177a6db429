// Specification 003, the task dashboard: subscriptions with filters, progress streams, and its five kinds of failure.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { after, describe, test } from 'node:test'
import { Polling } from '../lib/polling.mjs'
import { Server } from '../lib/server.mjs'
import {
  ask, connect, connected, dial, done, fence, Heard, listen, membersOf, metric, MODES, operator, person, publish, refusal, refused,
  rest
} from '../lib/socketio.mjs'
import { token } from '../lib/token.mjs'
import { until } from '../lib/until.mjs'

const env = { SYNCLINE_LIMITS__FAILED_CONNECTS_PER_MINUTE: '0', SYNCLINE_AUTH__GRACE_SECONDS: '1', SYNCLINE_AUTH__LEEWAY_SECONDS: '0' }
const server = await Server.start({ after }, { dev: false, env })

let projects = 0
const newProject = () => `project:p${++projects}`

const subscribed = async (t, room, name, mode, more = {}) => {
  const ear = await listen(t, server, person(name), { mode })
  ear.answer = await done(ear.socket, 'subscribe', { room, ...more })
  return ear
}

const tell = (room, event, data, more) => publish(server, operator, room, event, data, more)

const settings = async (room, rule) => {
  const { status, body } = await rest(server, operator, 'PUT', `/v1/rooms/${encodeURIComponent(room)}`, rule)
  assert.ok(status < 300, JSON.stringify(body))
}

for (const mode of MODES) {
  describe(`specification 003 over ${mode.name}`, { concurrency: 4 }, () => {
    test('task and system events carry type, timestamp and data, and reach every client of the project', async (t) => {
      const room = newProject()
      const clients = await Promise.all(Array.from({ length: 5 }, (_, n) => subscribed(t, room, `client${n}`, mode)))
      const task = { id: 't1', title: 'Write it down' }
      await tell(room, 'task_created', { task, createdBy: { id: 'u1' } })
      await tell(room, 'task_updated', { taskId: 't1', changes: { title: 'Written' }, updatedBy: { id: 'u1' } }, { source: 'system' })
      await tell(room, 'system_status', { status: 'healthy', metrics: { queue: 3 } }, { correlationId: 'check-1' })
      for (const { heard } of clients) {
        const last = await heard.heard('system_status')
        assert.deepEqual([last.type, last.data.status, last.correlationId], ['system_status', 'healthy', 'check-1'])
        const told = heard.of('task_created', 'task_updated', 'system_status')
        assert.deepEqual(told.map(({ type }) => type), ['task_created', 'task_updated', 'system_status'])
        assert.deepEqual(told[0].data, { task, createdBy: { id: 'u1' } })
        assert.deepEqual([told[1].taskId, told[1].source], ['t1', 'system'])
        for (const { timestamp, userId, room: at } of told) {
          assert.ok(Date.parse(timestamp) > 0)
          assert.deepEqual([userId, at], [operator.sub, room])
        }
        assert.deepEqual(told.map(({ eventId }) => eventId), told.map(({ eventId }) => eventId).toSorted())
      }
    })

    test('the type that an application gives stands in place of the name', async (t) => {
      const room = newProject()
      const { heard } = await subscribed(t, room, 'alice', mode)
      await tell(room, 'task_updated', { type: 'task_renamed', taskId: 't1' })
      assert.deepEqual([(await heard.heard('task_updated')).type, heard.of('task_updated')[0].data.type], ['task_renamed', 'task_renamed'])
    })

    test('a subscription lets through the events that it names, and the beginnings of names', async (t) => {
      const room = newProject()
      const exact = await subscribed(t, room, 'exact', mode, { events: ['task_created', 'system_status'] })
      const prefix = await subscribed(t, room, 'prefix', mode, { events: ['task_*'] })
      const all = await subscribed(t, room, 'all', mode)
      const names = ['task_created', 'task_updated', 'task_progress', 'system_status', 'tasks', 'done']
      for (const name of names) await tell(room, name, {})
      await all.heard.heard('done')
      await prefix.heard.heard('task_progress')
      await exact.heard.heard('system_status')
      // A second subscription replaces what the first let through.
      for (const { socket } of [exact, prefix]) await done(socket, 'subscribe', { room })
      await fence(server, operator, room, exact, prefix)
      const heard = (ear) => ear.heard.of(...names).map(({ event }) => event)
      assert.deepEqual(heard(exact), ['task_created', 'system_status'])
      assert.deepEqual(heard(prefix), ['task_created', 'task_updated', 'task_progress'])
      assert.deepEqual(heard(all), names)
      await refused(all.socket, 'subscribe', { room, events: 'task_created' }, 'INVALID_PAYLOAD')
    })

    test('a progress stream is throttled: the first at once, the last always, and not one log line is lost', async (t) => {
      const room = newProject()
      const { heard } = await subscribed(t, room, 'alice', mode)
      const STEPS = 120
      for (let step = 1; step <= STEPS; step++) {
        await tell(room, 'task_progress', {
          taskId: 't1', executionId: 'e1', progress: step / STEPS, stage: 'run', logs: [{ n: step, line: `step ${step}` }]
        }, { coalesceKey: 't1', append: ['logs'] })
      }
      await heard.heard('task_progress', ({ data }) => data.progress === 1)
      const told = heard.of('task_progress')
      assert.ok(told.length < STEPS, `${told.length} events for ${STEPS} steps`)
      assert.equal(told[0].data.logs[0].n, 1)
      const progress = told.map(({ data }) => data.progress)
      assert.deepEqual(progress, progress.toSorted((a, b) => a - b))
      assert.deepEqual(told.flatMap(({ data }) => data.logs.map(({ n }) => n)), Array.from({ length: STEPS }, (_, n) => n + 1))
      assert.ok(told.every(({ taskId, data }) => taskId === 't1' && data.executionId === 'e1'))
    })

    test('streams of different keys do not hold each other back', async (t) => {
      const room = newProject()
      const { heard } = await subscribed(t, room, 'alice', mode)
      const KEYS = ['a', 'b', 'c', 'd']
      for (let step = 1; step <= 20; step++) {
        await Promise.all(KEYS.map((key) => tell(room, 'task_progress', { taskId: key, progress: step / 20 }, { coalesceKey: key })))
      }
      for (const key of KEYS) await heard.heard('task_progress', ({ data }) => data.taskId === key && data.progress === 1)
    })

    test('failure 1, authentication: the reason is clear, and a fresh token lets the same socket in again', async (t) => {
      const who = person('alice')
      const socket = dial(t, server, undefined, { mode, auth: { token: token({ '*': 'write' }, { ...who.claims, ttlSeconds: -600 }) } })
      const told = await refusal(socket)
      assert.equal(told.code, 'AUTH_EXPIRED')
      assert.equal(socket.active, false, 'a refused socket does not dial again by itself')
      socket.auth = { token: who.token }
      await connected(socket.connect())
      await done(socket, 'subscribe', { room: newProject() })
    })

    test('failure 1, authentication: a token that runs out is announced, then ends the connection as AUTH_EXPIRED', async (t) => {
      const who = person('alice')
      const room = newProject()
      let fresh = token({ '*': 'write' }, { ...who.claims, ttlSeconds: 4 })
      const socket = dial(t, server, undefined, { mode, auth: (show) => show({ token: fresh }) })
      const heard = new Heard(socket)
      await connected(socket)
      await done(socket, 'subscribe', { room })
      const eventId = await tell(room, 'task_updated', { taskId: 'before' })
      const expiring = await heard.heard('token:expiring')
      assert.ok(Date.parse(expiring.expiresAt) > 0 || expiring.expiresAt > 0)
      let returns = 0
      socket.on('connect', () => { returns++ })
      // The client shows at once what the page then has.
      socket.on('disconnect', () => { fresh = who.token })
      await heard.until(({ code }) => code === 'AUTH_EXPIRED', 'AUTH_EXPIRED')
      await until(() => returns === 1, 'the way back')
      await tell(room, 'task_created', { task: { id: 'missed' } })
      assert.equal((await done(socket, 'subscribe', { room, since: eventId })).recovered, true)
      assert.equal((await heard.heard('task_created')).data.task.id, 'missed')
    })

    test('failure 1, authentication: a token is renewed in time on the live connection, which goes on', async (t) => {
      const who = person('alice')
      const room = newProject()
      const short = { sub: who.sub, token: token({ [room]: 'read' }, { ...who.claims, ttlSeconds: 4 }) }
      const ends = Date.now() + 4_000 + 1_000
      const { socket, heard } = await listen(t, server, short, { mode })
      await done(socket, 'subscribe', { room })
      let broken = 0
      socket.on('disconnect', () => { broken++ })
      await heard.heard('token:expiring')
      await refused(socket, 'token:renew', { token: 'made up' }, 'AUTH_FAILED')
      await refused(socket, 'token:renew', {}, 'INVALID_PAYLOAD')
      await refused(socket, 'token:renew', { token: person('somebody-else').token }, 'FORBIDDEN')
      const { expiresAt } = await done(socket, 'token:renew', { token: who.token })
      assert.ok(expiresAt !== undefined)
      await until(() => Date.now() > ends + 1_000, 'a time at which the former token does not hold any more')
      await fence(server, operator, room, { heard })
      assert.equal(broken, 0)
      // The rights are those of the new token.
      await done(socket, 'subscribe', { room: newProject() })
    })

    test('failure 2, delivery: what is sent while the line is cut arrives once, and what was missed is heard once', async (t) => {
      const room = newProject()
      const channelId = `of-${room}`
      const bob = await subscribed(t, `channel:${channelId}`, 'bob', mode)
      const writer = await connect(t, server, person('alice'), { mode, retries: 20, ackTimeout: 5_000 })
      const reader = await listen(t, server, person('alice'), { mode })
      let { eventId } = await done(reader.socket, 'subscribe', { room })
      reader.socket.onAny((_, told) => { if (told.room === room && told.eventId > eventId) eventId = told.eventId })
      let recovered = true
      reader.socket.on('connect', () => {
        reader.socket.emit('subscribe', { room, since: eventId }, (answer) => { recovered = answer.recovered })
      })
      const SENT = 20
      let acknowledged = 0
      for (let n = 0; n < SENT; n++) {
        if (n % 5 === 2) {
          // Closed before it is open, the client would wait for ever.
          await until(() => writer.connected && reader.socket.connected && recovered, 'two that are connected')
          recovered = null
          for (const { io } of [writer, reader.socket]) io.engine.close()
        }
        writer.emit('message:send', { channelId, text: `${n}`, clientId: `n${n}` }, () => { acknowledged++ })
        await tell(room, 'task_updated', { taskId: `${n}` })
      }
      await until(() => acknowledged === SENT, () => `${SENT} acknowledged, ${acknowledged}`)
      await until(() => recovered, 'the way back')
      await fence(server, operator, `channel:${channelId}`, bob)
      await fence(server, operator, room, reader)
      const numbers = Array.from({ length: SENT }, (_, n) => `${n}`)
      assert.deepEqual(bob.heard.of('message:sent').map(({ text }) => text), numbers)
      assert.deepEqual(reader.heard.of('task_updated').map(({ taskId }) => taskId), numbers)
    })

    test('failure 2, delivery: what a user must acknowledge is kept while he is away, and comes again until it is acknowledged', async (t) => {
      const who = person('alice')
      const hand = (n) => publish(server, who, `user:${who.sub}`, 'task_assigned', { n }, { requireAck: true })
      for (const n of [1, 2]) await hand(n)
      // A page that takes what is odd, and dies of the rest.
      const open = async (takes) => {
        const got = []
        const socket = dial(t, server, who, { mode })
        socket.on('task_assigned', ({ data }, acknowledge) => {
          got.push(data.n)
          if (takes(data.n)) acknowledge()
        })
        return { socket: await connected(socket), got }
      }
      const first = await open((n) => n % 2 === 1)
      await hand(3)
      await until(() => first.got.length === 3, () => `three, got ${first.got}`)
      assert.deepEqual(first.got, [1, 2, 3])
      // What it acknowledged before this answer has been taken from the list.
      await done(first.socket, 'subscribe', { room: newProject() })
      first.socket.disconnect()
      const second = await open(() => true)
      await until(() => second.got.length > 0, 'what is left')
      await hand(4)
      await until(() => second.got.includes(4), 'the next')
      assert.deepEqual(second.got, [2, 4])
      await done(second.socket, 'subscribe', { room: newProject() })
      const third = await open(() => true)
      await hand(5)
      await until(() => third.got.length > 0 || second.got.length > 2, 'the last')
      assert.deepEqual(third.got.filter((n) => n !== 5), [])
    })

    test('failure 3, rates: the one who hurries is slowed and stays connected, the others notice nothing', async (t) => {
      const room = newProject()
      const channelId = `rate-${room}`
      const [hasty, calm] = [await subscribed(t, room, 'hasty', mode), await subscribed(t, room, 'calm', mode)]
      const answers = await Promise.all(Array.from({ length: 80 }, (_, n) =>
        ask(hasty.socket, 'message:send', { channelId, text: `${n}` })))
      const slowed = answers.filter(({ success }) => !success)
      assert.ok(slowed.length > 0)
      for (const { code, data } of slowed) assert.ok(code === 'RATE_LIMITED' && data.retryAfterMs > 0, JSON.stringify({ code, data }))
      await done(calm.socket, 'message:send', { channelId, text: 'calm' })
      await tell(room, 'task_created', { task: { id: 'urgent' } })
      await hasty.heard.heard('task_created')
      await until(async () => (await ask(hasty.socket, 'message:send', { channelId, text: 'slower' })).success, 'its turn')
      assert.equal(hasty.socket.connected, true)
    })

    test('failure 4, permission: a room that is not allowed is refused, and one that is taken away is left with a word', async (t) => {
      const room = newProject()
      const other = newProject()
      const alice = await subscribed(t, room, 'alice', mode)
      await done(alice.socket, 'subscribe', { room: other })
      const bob = await subscribed(t, other, 'bob', mode)
      const stranger = await listen(t, server, person('stranger', { [other]: 'read' }), { mode })
      const answer = await refused(stranger.socket, 'subscribe', { room }, 'FORBIDDEN')
      assert.ok(answer.message.length > 0)
      await done(stranger.socket, 'subscribe', { room: other })

      const revoked = await rest(server, operator, 'POST', '/v1/admin/revoke', { room, mode: 'disconnect' })
      assert.equal(revoked.status, 200, JSON.stringify(revoked.body))
      const told = await alice.heard.heard('permission')
      assert.deepEqual([told.room, told.role], [room, 'none'])
      await until(async () => (await membersOf(server, operator, room)).length === 0, 'an empty room')
      await tell(room, 'task_created', { task: { id: 'secret' } })
      await fence(server, operator, other, alice, bob, stranger)
      assert.deepEqual(alice.heard.of('task_created'), [])
      assert.equal(alice.socket.connected, true)
    })

    test('failure 4, permission: rights that the application lowers are told, and hold from then on', async (t) => {
      const rights = { alice: 'write' }
      const application = createServer(async (request, response) => {
        const { sub } = JSON.parse(Buffer.concat(await request.toArray()))
        response.setHeader('content-type', 'application/json').end(JSON.stringify({ access: rights[sub.split('-')[0]] ?? 'admin' }))
      })
      application.listen(0, '127.0.0.1')
      await once(application, 'listening')
      t.after(() => application.close())
      const callback = `http://127.0.0.1:${application.address().port}/rights`
      const own = await Server.start(t, { dev: false, env: { ...env, SYNCLINE_AUTH__CALLBACK_URL: callback } })
      const room = 'channel:lowered'
      const [alice, bob] = [await listen(t, own, person('alice'), { mode }), await listen(t, own, person('bob'), { mode })]
      for (const { socket } of [alice, bob]) await done(socket, 'subscribe', { room })
      const message = { channelId: room, text: 'x' }
      await done(alice.socket, 'message:send', message)
      for (const role of ['read', 'none']) {
        rights.alice = role
        const { status } = await rest(own, operator, 'POST', '/v1/admin/revoke', { sub: alice.who.sub })
        assert.equal(status, 200)
        await alice.heard.heard('permission', (told) => told.room === room && told.role === role)
        await refused(alice.socket, 'message:send', message, 'FORBIDDEN')
        await done(bob.socket, 'message:send', { ...message, text: role })
      }
      await bob.heard.heard('user:left', ({ userId }) => userId === alice.who.sub)
      await refused(alice.socket, 'subscribe', { room }, 'FORBIDDEN')
      assert.deepEqual(alice.heard.of('message:sent').map(({ text }) => text), ['x', 'read'])
      assert.equal(alice.socket.connected, true)
    })

    test('failure 4, permission: a user whose tokens are revoked is out, and his token does not come back', async (t) => {
      const room = newProject()
      const [alice, bob] = [await subscribed(t, room, 'alice', mode), await subscribed(t, room, 'bob', mode)]
      let reason = null
      alice.socket.on('disconnect', (why) => { reason = why })
      const { status } = await rest(server, operator, 'POST', '/v1/admin/revoke', { sub: alice.who.sub, mode: 'disconnect' })
      assert.equal(status, 200)
      await until(() => reason !== null, 'the end')
      await bob.heard.heard('user:left', ({ userId }) => userId === alice.who.sub)
      assert.match((await refusal(dial(t, server, alice.who, { mode }))).code, /^(AUTH_FAILED|FORBIDDEN)$/)
      await fence(server, operator, room, bob)
    })

    test('a room takes as many clients as it is set to, and the next one when somebody left', async (t) => {
      const room = newProject()
      await settings(room, { maxClients: 2 })
      const [alice, bob] = [await subscribed(t, room, 'alice', mode), await subscribed(t, room, 'bob', mode)]
      const carol = await listen(t, server, person('carol'), { mode })
      await refused(carol.socket, 'subscribe', { room }, 'ROOM_FULL')
      await tell(room, 'task_created', {})
      await alice.heard.heard('task_created')
      bob.socket.disconnect()
      await alice.heard.heard('user:left', ({ userId }) => userId === bob.who.sub)
      await until(async () => (await ask(carol.socket, 'subscribe', { room })).success, 'the free place')
      assert.deepEqual(carol.heard.of('task_created'), [])
    })
  })
}

describe('specification 003: a connection that is slow to read', { concurrency: 2 }, () => {
  test('low priority is coalesced first, nothing of normal and high is dropped', async (t) => {
    const room = newProject()
    const who = person('slow')
    const slow = await Polling.open(t, server, who.token)
    await slow.ask('subscribe', { room })
    const mover = await subscribed(t, room, 'mover', MODES[0])
    const [MOVES, TASKS] = [600, 50]
    for (let n = 1; n <= MOVES; n++) {
      await done(mover.socket, 'user:cursor-move', { room, position: n })
      if (n % (MOVES / TASKS) === 0) await tell(room, 'task_updated', { taskId: `${n}` })
    }
    await slow.send('grid:cell-edit', { tableId: 'none', recordId: 'r', fieldId: 'f', value: 1, expectedVersion: 1 })
    await slow.until((events) => events.some(({ position }) => position === MOVES), 'the last position')
    await slow.until((events) => events.some(({ status }) => status === 'error'), 'the error')
    const tasks = slow.events.filter(({ event }) => event === 'task_updated').map(({ taskId }) => Number(taskId))
    assert.deepEqual(tasks, Array.from({ length: TASKS }, (_, n) => (n + 1) * (MOVES / TASKS)))
    const moves = slow.events.filter(({ event }) => event === 'user:cursor-moved').map(({ position }) => position)
    assert.deepEqual(moves, moves.toSorted((a, b) => a - b))
    assert.equal(moves.at(-1), MOVES)
  })

  test('one who does not read falls behind what the room keeps, is told so, and goes on from there', async (t) => {
    const room = newProject()
    await settings(room, { historyEvents: 100 })
    const slow = await Polling.open(t, server, person('slow').token)
    const { eventId } = await slow.ask('subscribe', { room })
    const TOLD = 300
    const ids = []
    for (let n = 0; n < TOLD; n++) ids.push(await tell(room, 'task_progress', { n, log: 'x'.repeat(20_000) }))
    await slow.until((events) => events.some(({ event }) => event === 'room:recovered'), 'room:recovered')
    ids.push(await tell(room, 'task_updated', { n: TOLD }))
    await slow.until((events) => events.some(({ data }) => data?.n === TOLD), 'the last event')
    let last = eventId
    for (const told of slow.events) {
      if (told.event === 'room:recovered') {
        assert.deepEqual([told.room, told.recovered], [room, false])
        last = told.eventId
      } else if (told.room === room && ids.includes(told.eventId)) {
        assert.equal(told.eventId, ids.find((id) => id > last), 'no gap without a word')
        last = told.eventId
      }
    }
  })

  test('a room that is given a time to live forgets what happened when everybody has left it', async (t) => {
    const own = await Server.start(t, { dev: false, env })
    const room = newProject()
    const { status } = await rest(own, operator, 'PUT', `/v1/rooms/${encodeURIComponent(room)}`, { ttlSeconds: 1, maxClients: 1 })
    assert.ok(status < 300)
    const rooms = () => metric(own, 'syncline_rooms', 'project')
    const [alice, bob] = [await listen(t, own, person('alice')), await listen(t, own, person('bob'))]
    const { eventId } = await done(alice.socket, 'subscribe', { room })
    await publish(own, operator, room, 'task_created')
    await alice.heard.heard('task_created')
    assert.equal(await rooms(), 1)
    alice.socket.disconnect()
    await until(async () => await rooms() === 0, 'no room')
    // Its history is gone, and so are its settings.
    assert.equal((await done(bob.socket, 'subscribe', { room, since: eventId })).recovered, false)
    await connect(t, own, person('carol')).then((socket) => done(socket, 'subscribe', { room }))
    assert.deepEqual(bob.heard.of('task_created'), [])
  })

  test('one who comes back after more than the room keeps is told so', async (t) => {
    const room = newProject()
    await settings(room, { historyEvents: 100 })
    const alice = await subscribed(t, room, 'alice', MODES[0])
    for (let n = 0; n < 4; n++) await tell(room, 'task_updated', { taskId: `${n}` })
    assert.equal((await done(alice.socket, 'subscribe', { room, since: alice.answer.eventId })).recovered, true)
    for (let n = 4; n < 120; n++) await tell(room, 'task_updated', { taskId: `${n}` })
    const bob = await listen(t, server, person('bob'))
    const late = await done(bob.socket, 'subscribe', { room, since: alice.answer.eventId })
    assert.equal(late.recovered, false)
    await fence(server, operator, room, bob)
    assert.deepEqual(bob.heard.of('task_updated'), [])
    for (const since of ['', 'nonsense', 7]) {
      const answer = await ask(bob.socket, 'subscribe', { room, since })
      assert.ok(answer.code === 'INVALID_PAYLOAD' || answer.recovered === false, JSON.stringify(answer))
    }
  })

  test('many messages at once reach many clients, each once and in order', async (t) => {
    const room = newProject()
    const clients = await Promise.all(Array.from({ length: 20 }, (_, n) => subscribed(t, room, `client${n}`, MODES[n % MODES.length])))
    const WRITERS = 4
    const EACH = 50
    await Promise.all(Array.from({ length: WRITERS }, async (_, writer) => {
      for (let n = 0; n < EACH; n++) await tell(room, 'task_updated', { taskId: `${writer}.${n}` })
    }))
    await fence(server, operator, room, ...clients)
    const [first, ...others] = clients.map(({ heard }) => heard.of('task_updated').map(({ taskId }) => taskId))
    assert.equal(new Set(first).size, WRITERS * EACH)
    assert.equal(first.length, WRITERS * EACH)
    for (const other of others) assert.deepEqual(other, first)
  })
})
