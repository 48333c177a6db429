// Rooms under a crowd that joins, leaves, dies and comes back: what each subscriber hears is what its room said. It is 200 in 20
// rooms for some seconds, or with SYNCLINE_ROOMS_FULL=1 1 000 in 100 rooms for a minute.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { draws } from '../lib/draws.mjs'
import { Server } from '../lib/server.mjs'
import { connected, dial, membersOf, metric, MODES, operator, person, publish, rest } from '../lib/socketio.mjs'
import { until } from '../lib/until.mjs'

const SEED = Number(process.env.INTEROP_SEED ?? Date.now() % 2 ** 32)
const FULL = process.env.SYNCLINE_ROOMS_FULL === '1'
const [SOCKETS, ROOMS, SECONDS] = FULL ? [1000, 100, 60] : [200, 20, 8]
const ROOMS_EACH_MAX = 5
const PUBLISHERS = 6
const MOVERS = 8
const [WATCHERS, CUTS_EACH] = [20, 10]
/** Events of a short history. A room keeps 100 in any case, for readers that are a moment late. */
const SHORT = 120
/** Of the cuts with a short history, every so manieth lasts longer than that. */
const AWAY_EVERY = 3
/** Told to one who was too slow for what the room keeps: from here on it goes on live. */
const FELL_BEHIND = 'room:recovered'
const SETTLE_MS = 60_000

/** Draws that the seed determines; how they meet is still the machine's. */
class Chance {
  #draw = draws(SEED)

  constructor (t) { t.diagnostic(`INTEROP_SEED=${SEED}`) }

  below (n) { return Math.floor(this.#draw() * n) }
  of (list) { return list[this.below(list.length)] }
}

/** What was told in a room, in its order. */
class Log {
  ids = []
  #sorted = null

  constructor (server, room) { Object.assign(this, { server, room }) }

  async tell () {
    this.ids.push(await publish(this.server, operator, this.room, 'tick', {}))
    this.#sorted = null
  }

  get all () { return (this.#sorted ??= this.ids.toSorted()) }

  /** What was told behind `eventId`, at most `count` of it. */
  behind (eventId, count = Infinity) {
    const at = this.all.findIndex((id) => id > eventId)
    return at < 0 ? [] : this.all.slice(at, at + count)
  }
}

/** One who listens in a room: what was heard since the answer to the subscription, which names where that begins. */
class Stay {
  heard = []

  constructor (log, answer) { Object.assign(this, { log, from: answer.eventId, last: answer.eventId }) }

  hear ({ event, eventId }) {
    if (event === 'tick') this.heard.push(eventId)
    if (eventId > this.last) this.last = eventId
  }

  /** What was heard is a piece of what was told: from where it began, without a gap, nothing twice. */
  check (what) {
    assert.deepEqual(this.heard, this.log.behind(this.from, this.heard.length), `${what} in ${this.log.room}, from ${this.from}`)
  }

  get isWhole () { return this.heard.length === this.log.behind(this.from).length }
}

/** A socket, and the rooms that it is in. */
class Guest {
  stays = new Map()
  former = []
  strays = []
  busy = false

  constructor (t, server, number) {
    this.who = person(`guest${number}`)
    this.mode = MODES[number % 10 < 8 ? 0 : number % 10 - 7]
    Object.assign(this, { t, server })
  }

  async arrive () {
    const socket = dial(this.t, this.server, this.who, { mode: this.mode, reconnection: false })
    this.socket = socket
    socket.onAny((event, payload) => {
      const stay = this.stays.get(payload.room)
      if (event === FELL_BEHIND) this.#begin(stay.log, payload)
      else if (stay !== undefined) stay.hear({ ...payload, event })
      else if (event === 'tick') this.strays.push(payload)
    })
    await connected(socket)
  }

  /** The subscription begins with the answer: whatever comes behind it, also in the same packet, belongs to it. */
  join (log) {
    return new Promise((resolve, reject) => this.socket.emit('subscribe', { room: log.room }, (answer) => {
      if (answer.success !== true) return reject(new Error(JSON.stringify(answer)))
      this.#begin(log, answer)
      resolve()
    }))
  }

  #begin (log, answer) {
    const before = this.stays.get(log.room)
    if (before !== undefined) this.former.push(before)
    this.stays.set(log.room, new Stay(log, answer))
  }

  leave (room) {
    return new Promise((resolve, reject) => this.socket.emit('unsubscribe', { room }, (answer) => {
      if (answer.success !== true) return reject(new Error(JSON.stringify(answer)))
      this.former.push(this.stays.get(room))
      this.stays.delete(room)
      resolve()
    }))
  }

  /** Politely, or with a connection that just ends. */
  async go (how) {
    const { engine } = this.socket.io
    if (how === 'die' && engine.transport.ws !== undefined) engine.transport.ws.terminate()
    else if (how === 'die') engine.close()
    else this.socket.disconnect()
    await until(() => !this.socket.connected, 'the end')
    this.former.push(...this.stays.values())
    this.stays.clear()
  }
}

describe('rooms', { concurrency: 1 }, () => {
  test('a crowd joins, leaves and dies: everybody hears what its rooms say, lists are right, and nothing is left', { timeout: 600_000 }, async (t) => {
    const config = ['project', 'table'].map((kind) => `[rooms."${kind}:crowd*"]\nttl_seconds = 1\n`).join('')
    const server = await Server.start(t, { dev: false, env: { SYNCLINE_DOCS__IDLE_SECONDS: '1' }, config })
    const chance = new Chance(t)
    const logs = []
    for (let n = 0; n < ROOMS; n++) {
      // Every fifth is the room of a document.
      const room = n % 5 === 0 ? `table:crowd${n}` : `project:crowd${n}`
      logs.push(new Log(server, room))
    }
    const guests = Array.from({ length: SOCKETS }, (_, n) => new Guest(t, server, n))
    for (let n = 0; n < SOCKETS; n += 20) await Promise.all(guests.slice(n, n + 20).map((guest) => guest.arrive()))

    const end = Date.now() + SECONDS * 1000
    let [joins, leaves, kills] = [0, 0, 0]
    const move = async () => {
      const guest = chance.of(guests.filter(({ busy }) => !busy))
      guest.busy = true
      const draw = chance.below(100)
      const rooms = [...guest.stays.keys()]
      if (draw < 4) {
        await guest.go(draw < 2 ? 'die' : 'politely')
        await guest.arrive()
        kills++
      } else if (rooms.length > 0 && (draw < 40 || rooms.length === ROOMS_EACH_MAX)) {
        await guest.leave(chance.of(rooms))
        leaves++
      } else {
        await guest.join(chance.of(logs.filter(({ room }) => !rooms.includes(room))))
        joins++
      }
      guest.busy = false
    }
    await Promise.all([
      ...Array.from({ length: PUBLISHERS }, async () => { while (Date.now() < end) await chance.of(logs).tell() }),
      ...Array.from({ length: MOVERS }, async () => { while (Date.now() < end) await move() })
    ])

    for (const log of logs) await log.tell()
    const stays = guests.flatMap((guest) => [...guest.stays.values()])
    await until(() => stays.every(({ isWhole }) => isWhole),
      () => `${stays.filter(({ isWhole }) => !isWhole).length} of ${stays.length} subscriptions are behind`, SETTLE_MS)
    for (const { who, stays, former, strays } of guests) {
      for (const stay of [...stays.values(), ...former]) stay.check(who.sub)
      assert.deepEqual(strays, [], `${who.sub} hears rooms that it is not in`)
    }
    for (const { room } of logs) {
      const right = guests.filter(({ stays }) => stays.has(room)).map(({ who }) => who.sub).sort()
      const listed = async () => (await membersOf(server, operator, room)).map(({ userId }) => userId).sort()
      await until(async () => JSON.stringify(await listed()) === JSON.stringify(right), `the members of ${room}`)
    }
    const told = logs.reduce((sum, { ids }) => sum + ids.length, 0)
    t.diagnostic(`${told} events, ${joins} joins, ${leaves} leaves, ${kills} ends`)

    guests.forEach(({ socket }) => socket.disconnect())
    for (const { room } of logs) await until(async () => (await membersOf(server, operator, room)).length === 0, `nobody in ${room}`)
    const left = async () => {
      const { body } = await rest(server, operator, 'GET', '/v1/admin/stats')
      const rooms = await metric(server, 'syncline_rooms')
      const connections = await metric(server, 'syncline_connections', 'socket_io')
      const { readers, documents, roomMembers, roomListeners } = body
      return { rooms, connections, readers, documents, roomMembers, roomListeners }
    }
    let last
    await until(async () => Object.values(last = await left()).every((count) => count === 0), () => `nothing, is ${JSON.stringify(last)}`, SETTLE_MS)
  })

  /** Watchers whose lines are cut while a room talks; each asks for what it missed. */
  const cuts = async (t, server, log, { pauses }) => {
    const chance = new Chance(t)
    let [returns, lost] = [0, 0]
    const watchers = Array.from({ length: WATCHERS }, (_, n) => {
      const mode = MODES[n % MODES.length]
      const watcher = { stays: [], returns: 0, socket: dial(t, server, person(`watcher${n}`), { mode, reconnectionDelay: 10, reconnectionDelayMax: 50 }) }
      const { socket } = watcher
      watcher.stay = null
      const begin = (answer) => {
        if (watcher.stay !== null) lost++
        watcher.stay = new Stay(log, answer)
        watcher.stays.push(watcher.stay)
      }
      socket.onAny((event, payload) => {
        if (event === FELL_BEHIND) begin(payload)
        else if (payload.room === log.room) watcher.stay?.hear({ ...payload, event })
      })
      socket.on('connect', () => {
        const since = watcher.stay?.last
        socket.emit('subscribe', { room: log.room, ...(since === undefined ? {} : { since }) }, (answer) => {
          watcher.answer = answer
          if (answer.success !== true) return
          watcher.returns++
          if (answer.recovered && watcher.stay !== null) return
          begin(answer)
        })
      })
      return watcher
    })
    await until(() => watchers.every(({ stay }) => stay !== null), () => `all subscribed: ${JSON.stringify(watchers.map(({ answer }) => answer))}`)
    let cutting = true
    const talk = async () => { while (cutting) await log.tell() }
    const cut = async (watcher) => {
      for (let n = 0; n < CUTS_EACH; n++) {
        const before = watcher.returns
        const heard = watcher.stay.heard.length + chance.below(10)
        await until(() => watcher.stay.heard.length >= heard, 'something to hear')
        const { engine } = watcher.socket.io
        if (n % 2 === 0 && engine.transport.ws !== undefined) engine.transport.ws.terminate()
        else engine.close()
        // Long enough away to fall out of a small history, now and then.
        if (pauses && n % AWAY_EVERY === 0) {
          watcher.socket.io.reconnection(false)
          watcher.socket.disconnect()
          const told = log.ids.length
          await until(() => log.ids.length > told + SHORT, 'more than the room keeps')
          watcher.socket.io.reconnection(true)
          watcher.socket.connect()
        }
        await until(() => watcher.returns > before, () => `the way back, was answered ${JSON.stringify(watcher.answer)}`)
        returns++
      }
    }
    await Promise.all([talk(), talk(), talk(), Promise.all(watchers.map(cut)).finally(() => { cutting = false })])
    await log.tell()
    await until(() => watchers.every(({ stay }) => stay.isWhole),
      () => JSON.stringify(watchers.map(({ stay }) => [stay.heard.length, log.behind(stay.from).length])), SETTLE_MS)
    watchers.forEach(({ stays }, n) => stays.forEach((stay) => stay.check(`watcher ${n}`)))
    t.diagnostic(`${log.ids.length} events, ${returns} returns, ${lost} of them told that something is lost`)
    assert.equal(returns, WATCHERS * CUTS_EACH)
    return lost
  }

  test('200 cut lines with a long history: everything missed comes, once and in order', async (t) => {
    const server = await Server.start(t, { dev: false, env: { SYNCLINE_HISTORY__EVENTS: '100000' } })
    assert.equal(await cuts(t, server, new Log(server, 'project:long'), { pauses: false }), 0)
  })

  test('200 cut lines with a short history: whoever missed too much is told so, and there is no silent gap', async (t) => {
    const server = await Server.start(t, { dev: false, env: { SYNCLINE_HISTORY__EVENTS: `${SHORT}` } })
    const lost = await cuts(t, server, new Log(server, 'project:short'), { pauses: true })
    const away = WATCHERS * Math.ceil(CUTS_EACH / AWAY_EVERY)
    assert.ok(lost >= away, `${lost} returns were told that something is lost, ${away} were`)
  })
})
