// Worker: connections attempted as fast as one process can, over bare TCP: the upgrade and the client's CONNECT in one write, and
// of what comes back only what kind it is. Who is refused hangs up, who may wait does.

import { connect } from 'node:net'
import { token } from '../../tests/interop/lib/token.mjs'
import { answer } from './processes.mjs'

const AT_ONCE = 250
const GIVE_UP_MS = 30_000

/** One text frame of a client. Its mask is all zeros, which changes nothing and is allowed. */
const frame = (text) => {
  const payload = Buffer.from(text)
  const head = Buffer.from([0x81, 0x80 | 126, payload.length >> 8, payload.length & 0xff, 0, 0, 0, 0])
  return Buffer.concat([head, payload])
}

const UPGRADE = [
  'GET /socket.io/?EIO=4&transport=websocket HTTP/1.1', 'host: 127.0.0.1', 'connection: Upgrade', 'upgrade: websocket',
  'sec-websocket-version: 13', 'sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==', '', ''
].join('\r\n')

/** What a connection sends: somebody who is nobody else, with a good token. */
const opening = (sub) => {
  const connecting = `40${JSON.stringify({ token: token({ '*': 'write' }, { sub }) })}`
  return Buffer.concat([Buffer.from(UPGRADE), frame(connecting)])
}

const waiting = new Set()
let openings = []

/** Resolves with what became of it: `waits`, `refused`, or in other words. */
const attempt = (port, bytes) => new Promise((resolve) => {
  const socket = connect({ port, host: '127.0.0.1' })
  let heard = ''
  let known = false
  const settle = (what) => {
    if (known) return
    known = true
    if (what === 'waits') waiting.add(socket)
    else socket.destroy()
    resolve(what)
  }
  socket.setTimeout(GIVE_UP_MS, () => settle('silence'))
  socket.on('connect', () => socket.write(bytes))
  socket.on('data', (data) => {
    if (known) return
    heard += data.toString('latin1')
    if (heard.includes('"queue:status"')) settle('waits')
    else if (heard.includes('"OVERLOADED"')) settle('refused')
    else if (heard.includes('44{')) settle(`refused otherwise: ${heard.slice(heard.indexOf('44{')).slice(0, 200)}`)
  })
  socket.on('error', (error) => settle(error.code))
  socket.on('close', () => {
    waiting.delete(socket)
    settle('closed without a word')
  })
})

answer({
  /** Signs the tokens beforehand. */
  prepare ({ attempts }) {
    openings = Array.from({ length: attempts }, (_, n) => opening(`crowd${process.pid}-${n}`))
  },

  /** How often what became of an attempt. */
  async run ({ url }) {
    const port = Number(new URL(url).port)
    const outcomes = {}
    let next = 0
    const one = async () => {
      while (next < openings.length) {
        const outcome = await attempt(port, openings[next++])
        outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, one))
    return outcomes
  },

  /** How many still wait; then nobody does. */
  leave () {
    const count = waiting.size
    for (const socket of waiting) socket.destroy()
    return count
  }
})
