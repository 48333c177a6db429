// Worker: sockets that listen in rooms, and when each of them hears what. They speak the protocol themselves and read no more of a
// packet than its send time: fifty clients of the usual kind would be slower than what they are to measure.

import { WebSocket } from 'ws'
import { token } from '../../tests/interop/lib/token.mjs'
import { nowUs, quantiles } from './figures.mjs'
import { answer } from './processes.mjs'

const AT_ONCE = 50
const SETTLE_MS = 20_000
const MARK = '"at":'

const listeners = []
let latencies = []

const hear = (listener, text) => {
  const now = nowUs()
  if (!text.startsWith('42["tick"')) return
  const at = Number.parseInt(text.slice(text.indexOf(MARK) + MARK.length), 10)
  if (at === 0) return // To warm up.
  listener.heard++
  latencies.push(now - at)
}

const address = (url) => `${url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`
const auth = (number) => JSON.stringify({ token: token({ '*': 'read' }, { sub: `listener${number}` }) })

/** Resolves when the room has said that one is in it. */
const listen = (url, room, number) => new Promise((resolve, reject) => {
  const socket = new WebSocket(address(url), { perMessageDeflate: false })
  const listener = { room, heard: 0, socket }
  socket.on('error', reject)
  socket.on('close', () => reject(new Error(`a listener of ${room} was closed`)))
  socket.on('message', (bytes) => {
    const text = bytes.toString()
    if (text.startsWith('42')) hear(listener, text)
    else if (text === '2') socket.send('3')
    else if (text.startsWith('0')) socket.send(`40${auth(number)}`)
    else if (text.startsWith('40')) socket.send(`421${JSON.stringify(['subscribe', { room }])}`)
    else if (text.startsWith('431') && text.includes('"success":true')) resolve(listener)
    else reject(new Error(text))
  })
})

answer({
  async connect ({ url, rooms, each }) {
    const wanted = rooms.flatMap((room) => Array.from({ length: each }, () => room))
    for (let n = 0; n < wanted.length; n += AT_ONCE) {
      const some = wanted.slice(n, n + AT_ONCE).map((room, place) => listen(url, room, n + place))
      listeners.push(...await Promise.all(some))
    }
  },

  /** `told` has how many events each room was told. Everybody must have heard each one once. */
  async results ({ told }) {
    const expected = listeners.reduce((sum, { room }) => sum + told[room], 0)
    const deadline = Date.now() + SETTLE_MS
    while (latencies.length < expected && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20))
    const wrong = listeners.filter(({ room, heard }) => heard !== told[room])
    if (wrong.length > 0) throw new Error(`${wrong.length} listeners have not heard their room's events once each`)
    const [p50, p99, max] = quantiles(latencies, 0.5, 0.99, 1)
    latencies = []
    return { deliveries: expected, p50, p99, max }
  }
})
