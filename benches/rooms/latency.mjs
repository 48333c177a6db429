// 500 events a second told over HTTP to ten rooms of fifty listeners: on Syncline, and on the npm server.

import { Agent, request } from 'node:http'
import { token } from '../../tests/interop/lib/token.mjs'
import { figure, nowUs, quantiles, ratio, table } from './figures.mjs'
import { Worker, startNpm, startSyncline } from './processes.mjs'

const RATE = 500
const [ROOMS, EACH] = [10, 50]
const WARM_SECONDS = 2
/** What an application may have to say. */
const TEXT = 'A line of some ninety characters stands for what an application tells those who look on.'

const rooms = Array.from({ length: ROOMS }, (_, n) => `project:room${n}`)
const SIDES = {
  syncline: { start: startSyncline, path: (room) => `/v1/rooms/${encodeURIComponent(room)}/events` },
  npm: { start: startNpm, path: (room) => `/rooms/${encodeURIComponent(room)}` }
}

/** Tells, over connections that stay open, at a steady pace that waits for nobody. */
class Publisher {
  // In turn: a connection that nobody used for a while may be closed by its server just when it is.
  #agent = new Agent({ keepAlive: true, maxSockets: 32, scheduling: 'fifo' })
  #authorization = `Bearer ${token({ '*': 'write' }, { sub: 'publisher' })}`

  constructor (url, path) { Object.assign(this, { url, path }) }

  /** Microseconds until it was answered. */
  #tell (room, at) {
    return new Promise((resolve, reject) => {
      const began = nowUs()
      const body = JSON.stringify({ event: 'tick', data: { at: at ? began : 0, text: TEXT } })
      const headers = {
        authorization: this.#authorization,
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body)
      }
      const asked = request(this.url + this.path(room), { method: 'POST', agent: this.#agent, headers }, (response) => {
        response.resume()
        response.on('end', () => {
          if (response.statusCode === 202) resolve(nowUs() - began)
          else reject(new Error(`${room}: ${response.statusCode}`))
        })
      })
      asked.on('error', reject)
      asked.end(body)
    })
  }

  /** Tells the rooms in turn for so long, and resolves with the times of the answers. */
  async tell (seconds, { counts }) {
    const total = RATE * seconds
    const began = nowUs()
    const answers = []
    while (answers.length < total) {
      const due = Math.min(total, Math.floor((nowUs() - began) * RATE / 1e6) + 1)
      while (answers.length < due) answers.push(this.#tell(rooms[answers.length % ROOMS], counts))
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    return Promise.all(answers)
  }

  close () { this.#agent.destroy() }
}

/** One server, from its start to its end. */
const measure = async ({ start, path }, seconds) => {
  const server = await start()
  const listeners = new Worker('listeners.mjs')
  const publisher = new Publisher(server.url, path)
  try {
    await listeners.ask('connect', { url: server.url, rooms, each: EACH })
    await publisher.tell(WARM_SECONDS, { counts: false })
    const before = server.processorMs
    const answers = await publisher.tell(seconds, { counts: true })
    const told = Object.fromEntries(rooms.map((room) => [room, answers.length / ROOMS]))
    const heard = await listeners.ask('results', { told })
    const processor = (server.processorMs - before) * 1000 / heard.deliveries
    const [answer50, answer99] = quantiles(answers, 0.5, 0.99)
    return { ...heard, answer50, answer99, processor, memory: server.memory.most }
  } finally {
    publisher.close()
    await listeners.stop()
    await server.stop()
  }
}

/** Rounds of both, each in the other order than the one before. */
export const latency = async ({ rounds, seconds, say }) => {
  const results = []
  for (let n = 0; n < rounds; n++) {
    const names = n % 2 === 0 ? ['syncline', 'npm'] : ['npm', 'syncline']
    const round = {}
    for (const name of names) {
      round[name] = await measure(SIDES[name], seconds)
      say(`latency, round ${n + 1}, ${name}: ${JSON.stringify(round[name])}`)
    }
    results.push(round)
  }
  return results
}

const LINES = [
  ['delivered, p50', 'p50', 'ms', 1e3],
  ['delivered, p99', 'p99', 'ms', 1e3],
  ['delivered, longest', 'max', 'ms', 1e3],
  ['answered, p50', 'answer50', 'ms', 1e3],
  ['answered, p99', 'answer99', 'ms', 1e3],
  ['processor per delivery', 'processor', 'µs', 1],
  ['memory at most', 'memory', 'MiB', 1 << 20]
]

export const latencyReport = (results, seconds) => {
  const side = (name, key, unit, of) => figure(results.map((round) => round[name][key] / of), unit)
  const rows = LINES.map(([what, key, unit, of]) => [
    what,
    ratio(results, ({ syncline }) => syncline[key], ({ npm }) => npm[key]),
    side('syncline', key, unit, of),
    side('npm', key, unit, of)
  ])
  const deliveries = results[0].npm.deliveries.toLocaleString('en').replaceAll(',', ' ')
  return [
    `### ${RATE} events a second to ${ROOMS} rooms of ${EACH}`, '',
    `${RATE * EACH} deliveries a second for ${seconds} s; rounds: ${results.length}. All ${deliveries} of each arrived.`, '',
    table([['', 'Syncline to npm', 'Syncline', 'npm `socket.io`'], ...rows])
  ].join('\n')
}
