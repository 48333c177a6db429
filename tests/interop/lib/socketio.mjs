// The unmodified socket.io-client behind one small face: people, sockets of theirs, what they ask and what they hear.

import assert from 'node:assert/strict'
import { io } from 'socket.io-client'
import { token } from './token.mjs'
import { until } from './until.mjs'

/** The three ways in which frontends travel. In the last, commands meet the change from one transport to the other. */
export const MODES = [
  { name: 'websocket', transports: ['websocket'], arrives: 'websocket' },
  { name: 'polling', transports: ['polling'], arrives: 'polling' },
  { name: 'upgrading', transports: ['polling', 'websocket'], arrives: 'websocket' }
]

/** An acknowledgement comes after durability, on a machine that may be busy. */
const ACK_MS = 30_000

let people = 0

/** Somebody who is nobody else in this process, so that limits per user never meet. `access` as in a token. */
export const person = (name, access = { '*': 'write' }) => {
  const sub = `${name}-${++people}`
  const email = `${sub}@example.org`
  const claims = { sub, name, email }
  return { sub, name, email, claims, token: token(access, claims) }
}

/** Who may do everything, for the operators' side of a story. */
export const operator = person('operator', { '*': 'admin' })

/** A socket that dials, whatever comes of it. `who` is a person, or `undefined` for nobody; the rest are options of the client. */
export const dial = (t, server, who, { mode = MODES[0], ...options } = {}) => {
  const socket = io(server.url, {
    auth: who === undefined ? {} : { token: who.token },
    transports: mode.transports,
    forceNew: true,
    reconnectionDelay: 20,
    reconnectionDelayMax: 200,
    ...options
  })
  t.after(() => socket.disconnect())
  return socket
}

/** Resolves when a socket is connected; fails with the refusal if there is one. */
export const connected = async (socket) => {
  let refusal = null
  const refused = (error) => { refusal = error }
  socket.on('connect_error', refused)
  await until(() => socket.connected || refusal !== null, 'a connection')
  socket.off('connect_error', refused)
  if (!socket.connected) throw refusal
  return socket
}

/** A connected socket of `who`. */
export const connect = (t, server, who, options) => connected(dial(t, server, who, options))

/** What a refused socket is told: the error shape of every refusal. */
export const refusal = async (socket) => {
  let told = null
  socket.once('connect_error', (error) => { told = error })
  await until(() => told !== null, 'a refusal')
  assert.ok(told.message.length > 0)
  return shaped(told.data)
}

/** Sends and resolves with the acknowledgement, whatever it says. */
export const ask = (socket, event, payload = {}) => socket.timeout(ACK_MS).emitWithAck(event, payload)

/** As `ask`, and it must have been done. */
export const done = async (socket, event, payload) => {
  const answer = await ask(socket, event, payload)
  assert.equal(answer?.success, true, `${event}: ${JSON.stringify(answer)}`)
  return answer
}

/** As `ask`, and it must have been refused with this code, in the one shape of errors. */
export const refused = async (socket, event, payload, code) => {
  const answer = await ask(socket, event, payload)
  assert.equal(answer?.success, false, `${event}: ${JSON.stringify(answer)}`)
  assert.equal(shaped(answer).code, code, `${event}: ${JSON.stringify(answer)}`)
  return answer
}

/** Holds an error to the one shape of them all. */
export const shaped = (error) => {
  assert.equal(error?.status, 'error', JSON.stringify(error))
  assert.match(error.code, /^[A-Z][A-Z_]+$/)
  assert.ok(typeof error.message === 'string' && error.message.length > 0, JSON.stringify(error))
  return error
}

/** Everything that a socket hears, in order, from the moment it is made: each event with its name as `event`. */
export class Heard {
  events = []

  constructor (socket) {
    socket.onAny((event, payload) => this.events.push({ ...payload, event }))
  }

  of (...names) { return this.events.filter(({ event }) => names.includes(event)) }

  /** The first event for which `fits` holds, when it is there. */
  async until (fits, what = 'an event', timeoutMs) {
    return until(() => this.events.find(fits), () => `${what}; heard ${JSON.stringify(this.events.slice(-8))}`, timeoutMs)
  }

  /** The first event of this name for which `fits` holds, when it is there. */
  async heard (name, fits = () => true, timeoutMs) {
    return this.until((event) => event.event === name && fits(event), name, timeoutMs)
  }
}

/** A connected socket of `who`, and what it hears. */
export const listen = async (t, server, who, options) => {
  const socket = dial(t, server, who, options)
  const heard = new Heard(socket)
  await connected(socket)
  return { who, socket, heard }
}

/** A request of `who` over REST: `{status, body}`, whatever it is. */
export const rest = async (server, who, method, path, body) => {
  const response = await fetch(server.url + path, {
    method,
    headers: {
      authorization: `Bearer ${who.token}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' })
    },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(ACK_MS)
  })
  const text = await response.text()
  return { status: response.status, body: text === '' ? null : JSON.parse(text) }
}

/** Tells `event` in a room, as an application does; answers its id. */
export const publish = async (server, who, room, event, data = {}, more = {}) => {
  const { status, body } = await rest(server, who, 'POST', `/v1/rooms/${encodeURIComponent(room)}/events`, { event, data, ...more })
  assert.equal(status, 202, `${event} in ${room}: ${JSON.stringify(body)}`)
  return body.eventId
}

export const membersOf = async (server, who, room) => {
  const { status, body } = await rest(server, who, 'GET', `/v1/rooms/${encodeURIComponent(room)}/presence`)
  assert.equal(status, 200, `${room}: ${JSON.stringify(body)}`)
  return body.members
}

let fences = 0

/** Resolves when all of `ears` have heard an event told now: what happened in the room before is heard by then, or never. */
export const fence = async (server, who, room, ...ears) => {
  const fence = ++fences
  await publish(server, who, room, 'test:fence', { fence })
  for (const { heard } of ears) await heard.heard('test:fence', ({ data }) => data.fence === fence)
}

/** A number among the metrics: the sum over all lines of that name whose labels fit. */
export const metric = async (server, name, labels = '') => {
  const text = await (await server.get('/metrics')).text()
  const lines = text.split('\n').filter((line) => line.startsWith(name) && /[ {]/.test(line[name.length]) && line.includes(labels))
  return lines.length === 0 ? undefined : lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
}
