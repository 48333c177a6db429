// Specification 002, the chat platform: as its frontend would speak, over each transport.

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { Server } from '../lib/server.mjs'
import {
  connect, dial, done, fence, listen, membersOf, metric, MODES, operator, person, publish, refusal, refused, rest, shaped
} from '../lib/socketio.mjs'
import { until } from '../lib/until.mjs'

const server = await Server.start({ after }, {
  dev: false, env: { SYNCLINE_LIMITS__FAILED_CONNECTS_PER_MINUTE: '0', SYNCLINE_LOG__LEVEL: 'debug' }
})

let channels = 0
const newId = () => `chan${++channels}`
const PUBLIC = { 'channel:*': 'write', 'thread:*': 'write', 'presence:*': 'write' }

/** Somebody in a channel. */
const member = async (t, channelId, name, mode) => {
  const ear = await listen(t, server, person(name, PUBLIC), { mode })
  ear.room = `channel:${channelId}`
  await done(ear.socket, 'subscribe', { room: ear.room })
  return ear
}

const two = async (t, channelId, mode) => [await member(t, channelId, 'alice', mode), await member(t, channelId, 'bob', mode)]

for (const mode of MODES) {
  describe(`specification 002 over ${mode.name}`, { concurrency: 4 }, () => {
    test('a message reaches everybody in the channel, its sender too, and nobody outside', async (t) => {
      const channelId = newId()
      const [alice, bob] = await two(t, channelId, mode)
      const other = await member(t, newId(), 'other', mode)
      const { messageId, version } = await done(alice.socket, 'message:send', { channelId, text: 'hello, wörld 👋', clientId: 'c1' })
      assert.equal(version, 1)
      for (const { heard } of [alice, bob]) {
        const sent = await heard.heard('message:sent')
        const { authorId, text, clientId } = sent
        assert.deepEqual({ channelId: sent.channelId, messageId: sent.messageId, authorId, text, clientId, userId: sent.userId }, {
          channelId, messageId, authorId: alice.who.sub, text: 'hello, wörld 👋', clientId: 'c1', userId: alice.who.sub
        })
        assert.equal(sent.room, `channel:${channelId}`)
      }
      await fence(server, operator, other.room, other)
      assert.deepEqual(other.heard.of('message:sent'), [])
    })

    test('messages come in one order for everybody', async (t) => {
      const channelId = newId()
      const members = [...await two(t, channelId, mode), await member(t, channelId, 'carol', mode)]
      await Promise.all(members.flatMap(({ socket }, who) => Array.from({ length: 15 }, (_, n) =>
        done(socket, 'message:send', { channelId, text: `${who}.${n}` }))))
      const texts = ({ heard }) => heard.of('message:sent').map(({ text }) => text)
      for (const member of members) await until(() => texts(member).length === 45, () => `45, heard ${texts(member).length}`)
      for (const member of members) assert.deepEqual(texts(member), texts(members[0]))
      members.forEach((_, who) => assert.deepEqual(texts(members[0]).filter((text) => text.startsWith(`${who}.`)),
        Array.from({ length: 15 }, (_, n) => `${who}.${n}`)))
    })

    test('the same message sent again is one message', async (t) => {
      const channelId = newId()
      const [alice, bob] = await two(t, channelId, mode)
      const message = { channelId, text: 'once', clientId: 'key-1' }
      const answers = await Promise.all([0, 1, 2].map(() => done(alice.socket, 'message:send', message)))
      answers.push(await done(await connect(t, server, alice.who, { mode }), 'message:send', message))
      assert.equal(new Set(answers.map(({ messageId }) => messageId)).size, 1)
      const { messageId } = await done(bob.socket, 'message:send', message)
      assert.notEqual(messageId, answers[0].messageId)
      await alice.heard.heard('message:sent', (sent) => sent.messageId === messageId)
      assert.equal(alice.heard.of('message:sent').length, 2)
    })

    test('a message in a thread reaches the channel and the thread, once', async (t) => {
      const channelId = newId()
      const threadId = `thread-of-${channelId}`
      const [alice, bob] = await two(t, channelId, mode)
      const reader = await listen(t, server, person('reader', PUBLIC), { mode })
      for (const { socket } of [bob, reader]) await done(socket, 'subscribe', { room: `thread:${threadId}` })
      await done(alice.socket, 'message:send', { channelId, threadId, text: 'in a thread' })
      for (const { heard } of [alice, bob, reader]) {
        const sent = await heard.heard('message:sent')
        assert.deepEqual([sent.threadId, sent.channelId, sent.text], [threadId, channelId, 'in a thread'])
      }
      await fence(server, operator, `thread:${threadId}`, bob, reader)
      await fence(server, operator, `channel:${channelId}`, bob)
      assert.equal(bob.heard.of('message:sent').length, 1)
    })

    test('a message is edited and deleted by its author, and by nobody else', async (t) => {
      const channelId = newId()
      const [alice, bob] = await two(t, channelId, mode)
      const { messageId } = await done(alice.socket, 'message:send', { channelId, text: 'first' })
      await refused(bob.socket, 'message:edit', { channelId, messageId, text: 'hijacked' }, 'FORBIDDEN')
      await refused(bob.socket, 'message:delete', { channelId, messageId }, 'FORBIDDEN')
      const { version } = await done(alice.socket, 'message:edit', { channelId, messageId, text: 'second', expectedVersion: 1 })
      assert.equal(version, 2)
      await refused(alice.socket, 'message:edit', { channelId, messageId, text: 'stale', expectedVersion: 1 }, 'CONCURRENT_EDIT')
      await done(alice.socket, 'message:delete', { channelId, messageId })
      await refused(alice.socket, 'message:edit', { channelId, messageId, text: 'late' }, 'RECORD_DELETED')
      await refused(alice.socket, 'message:edit', { channelId, messageId: 'nobody', text: 'x' }, 'NOT_FOUND')
      for (const { heard } of [alice, bob]) {
        const deleted = await heard.heard('message:deleted')
        const edited = heard.of('message:edited')
        assert.deepEqual([deleted.messageId, deleted.channelId, deleted.userId], [messageId, channelId, alice.who.sub])
        assert.deepEqual(edited.map(({ messageId, text, version }) => [messageId, text, version]), [[messageId, 'second', 2]])
        assert.ok(edited[0].editedAt !== undefined)
      }
    })

    test('delivered and read are told to everybody, once for each reader', async (t) => {
      const channelId = newId()
      const [alice, bob] = await two(t, channelId, mode)
      const { messageId } = await done(alice.socket, 'message:send', { channelId, text: 'read me' })
      for (const status of ['delivered', 'read', 'read']) {
        await done(bob.socket, 'message:status', { channelId, messageId, status })
      }
      await refused(bob.socket, 'message:status', { channelId, messageId, status: 'eaten' }, 'INVALID_PAYLOAD')
      for (const { heard } of [alice, bob]) {
        await heard.heard('message:status', ({ status }) => status === 'read')
        await fence(server, operator, `channel:${channelId}`, { heard })
        assert.deepEqual(heard.of('message:status').map(({ messageId, status, userId }) => [messageId, status, userId]),
          [[messageId, 'delivered', bob.who.sub], [messageId, 'read', bob.who.sub]])
      }
    })

    test('typing reaches the others, and ends when it is said or by itself', async (t) => {
      const channelId = newId()
      const [alice, bob] = await two(t, channelId, mode)
      await done(alice.socket, 'user:typing', { channelId })
      const first = await bob.heard.heard('user:typing')
      assert.deepEqual([first.userId, first.typing, first.channelId], [alice.who.sub, true, channelId])
      await done(alice.socket, 'user:typing', { channelId, typing: false })
      await until(() => bob.heard.of('user:typing').at(-1).typing === false, 'the end of it')
      await done(alice.socket, 'user:typing', { channelId, typing: true })
      await until(() => bob.heard.of('user:typing').at(-1).typing === true, 'typing again')
      await until(() => bob.heard.of('user:typing').at(-1).typing === false, 'its end by itself')
      await fence(server, operator, `channel:${channelId}`, alice)
      assert.deepEqual(alice.heard.of('user:typing'), [])
    })

    test('a status reaches every room shared with its sender and presence:global, once', async (t) => {
      const channelId = newId()
      const [alice, bob] = await two(t, channelId, mode)
      const second = newId()
      for (const { socket } of [alice, bob]) await done(socket, 'subscribe', { room: `channel:${second}` })
      const lobby = await listen(t, server, person('lobby', PUBLIC), { mode })
      const apart = await member(t, newId(), 'apart', mode)
      for (const { socket } of [lobby, bob]) await done(socket, 'subscribe', { room: 'presence:global' })
      const mine = ({ userId }) => userId === alice.who.sub
      await done(alice.socket, 'presence:update', { status: 'away', data: { until: 'noon' } })
      for (const { heard } of [bob, lobby]) {
        const told = await heard.heard('presence:updated', mine)
        assert.deepEqual([told.status, told.data.data ?? told.data], ['away', { until: 'noon' }])
      }
      await done(alice.socket, 'presence:update', { status: 'online' })
      for (const { heard } of [bob, lobby]) {
        await heard.heard('presence:updated', (told) => mine(told) && told.status === 'online')
        assert.equal(heard.of('presence:updated').filter(mine).length, 2)
      }
      await fence(server, operator, `channel:${second}`, bob)
      await fence(server, operator, apart.room, apart)
      assert.deepEqual(apart.heard.of('presence:updated').filter(mine), [])
      const [{ state }] = (await membersOf(server, operator, `channel:${channelId}`)).filter(mine)
      assert.equal(state.status, 'online')
    })

    test('who comes and goes is told in the channel, and the list of members is right', async (t) => {
      const channelId = newId()
      const room = `channel:${channelId}`
      const [alice, bob] = await two(t, channelId, mode)
      const members = async () => (await membersOf(server, operator, room)).map(({ userId }) => userId).sort()
      assert.deepEqual(await members(), [alice.who.sub, bob.who.sub].sort())
      await alice.heard.heard('user:joined', ({ userId, userName }) => userId === bob.who.sub && userName === bob.who.name)
      bob.socket.disconnect()
      await alice.heard.heard('user:left', ({ userId }) => userId === bob.who.sub)
      assert.deepEqual(await members(), [alice.who.sub])
      await done(alice.socket, 'unsubscribe', { room })
      assert.deepEqual(await members(), [])
    })

    test('a token is validated before anything else, and its user is in the room of its own', async (t) => {
      const stranger = dial(t, server, undefined, { mode, auth: { token: 'made up' } })
      assert.equal((await refusal(stranger)).code, 'AUTH_FAILED')
      assert.equal(stranger.connected, false)
      const alice = await listen(t, server, person('alice'), { mode })
      await publish(server, alice.who, `user:${alice.who.sub}`, 'channel:invited', { channelId: 'c9' })
      assert.equal((await alice.heard.heard('channel:invited')).channelId, 'c9')
    })

    test('an error has one shape, and reaches the one who made it alone', async (t) => {
      const channelId = newId()
      const [alice, bob] = await two(t, channelId, mode)
      for (const payload of [
        { channelId }, { text: 'where' }, { channelId, text: 7 }, { channelId: '', text: 'x' }, { channelId, text: 'x', threadId: 7 },
        { channelId: 'x'.repeat(300), text: 'x' }, { channelId: 'a\nb', text: 'x' }, null, 'text', ['a', 'list'], 7
      ]) await refused(alice.socket, 'message:send', payload, 'INVALID_PAYLOAD')
      await refused(alice.socket, 'message:send', { channelId, text: 'x'.repeat(40_000) }, 'PAYLOAD_TOO_LARGE')
      const { who, socket } = await listen(t, server, person('stranger', { 'channel:else': 'write' }), { mode })
      shaped(await refused(socket, 'message:send', { channelId, text: `by ${who.name}` }, 'FORBIDDEN'))
      await fence(server, operator, `channel:${channelId}`, bob)
      assert.deepEqual(bob.heard.events.filter(({ event }) => event.includes('error') || event === 'message:sent'), [])
    })

    test('what one shows in a channel where one is not is a CHANNEL_ERROR', async (t) => {
      const channelId = newId()
      const [, bob] = await two(t, channelId, mode)
      const { socket } = await listen(t, server, person('apart', PUBLIC), { mode })
      await refused(socket, 'user:typing', { channelId }, 'CHANNEL_ERROR')
      await refused(socket, 'user:cursor-move', { room: bob.room, position: 1 }, 'CHANNEL_ERROR')
      await fence(server, operator, bob.room, bob)
      assert.deepEqual(bob.heard.of('user:typing', 'user:cursor-moved'), [])
    })

    test("a channel's end is told to its members, as an error for what they then do in it", async (t) => {
      const channelId = newId()
      const [alice, bob] = await two(t, channelId, mode)
      await done(alice.socket, 'message:send', { channelId, text: 'last words' })
      const { status } = await rest(server, operator, 'DELETE', `/v1/docs/${encodeURIComponent(`channel:${channelId}`)}`)
      assert.ok(status < 300)
      for (const { heard } of [alice, bob]) assert.equal((await heard.heard('document:deleted')).channelId, channelId)
    })

    test('a channel is told by an application over HTTP, and heard over the socket', async (t) => {
      const channelId = newId()
      const [alice, bob] = await two(t, channelId, mode)
      await publish(server, operator, `channel:${channelId}`, 'channel:renamed', { channelId, name: 'new' }, { correlationId: 'job 1' })
      for (const { heard } of [alice, bob]) {
        const told = await heard.heard('channel:renamed')
        assert.deepEqual([told.channelId, told.data.name, told.source, told.correlationId], [channelId, 'new', 'api', 'job 1'])
      }
    })
  })
}

describe('specification 002: monitoring', () => {
  test('connections, messages, errors, latency and members of rooms are measured', async (t) => {
    const channelId = newId()
    const [alice, bob] = await two(t, channelId, MODES[0])
    const before = await metric(server, 'syncline_messages_in_total')
    await done(alice.socket, 'message:send', { channelId, text: 'counted' })
    await bob.heard.heard('message:sent')
    await refused(alice.socket, 'message:send', { channelId }, 'INVALID_PAYLOAD')
    assert.ok(await metric(server, 'syncline_connections', 'socket_io') >= 2)
    assert.ok(await metric(server, 'syncline_messages_in_total') > before)
    assert.ok(await metric(server, 'syncline_messages_out_total') > 0)
    assert.ok(await metric(server, 'syncline_errors_total', 'INVALID_PAYLOAD') >= 1)
    assert.ok(await metric(server, 'syncline_update_deliver_seconds_count') >= 1)
    assert.ok(await metric(server, 'syncline_room_members', 'channel') >= 2)
    const text = await (await server.get('/metrics')).text()
    assert.ok(![alice.who.sub, bob.who.sub, channelId].some((name) => text.includes(name)), 'no metric names users or rooms')
  })

  test('a log line is JSON with timestamp, level and event, and no token is in any of them', async (t) => {
    const secret = person('logged')
    const socket = await connect(t, server, secret)
    await refused(socket, 'message:send', { channelId: 7 }, 'INVALID_PAYLOAD')
    assert.equal((await refusal(dial(t, server, undefined, { auth: { token: 'wrong-and-secret' } }))).code, 'AUTH_FAILED')
    const lines = await until(() => {
      const lines = server.log.split('\n').filter((line) => line.startsWith('{'))
      return lines.some((line) => line.includes('connection_refused')) && lines
    }, 'the refusal in the log')
    for (const line of lines.map((line) => JSON.parse(line))) {
      assert.ok(Date.parse(line.timestamp) > 0)
      assert.match(line.level, /^(info|warn|error|debug)$/)
      assert.equal(typeof line.event, 'string')
    }
    assert.ok(![secret.token, 'wrong-and-secret', operator.token].some((token) => server.log.includes(token)))
  })
})
