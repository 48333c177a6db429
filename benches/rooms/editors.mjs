// Worker: people inside, with the unmodified client, who edit a cell every 200 ms whatever happens, and when each edit is
// acknowledged.

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { io } from 'socket.io-client'
import { token } from '../../tests/interop/lib/token.mjs'
import { nowUs, quantiles } from './figures.mjs'
import { answer } from './processes.mjs'

const EVERY_MS = 200
const ACK_MS = 30_000

const people = []
let latencies = []
let failures = []
let lost = 0
let running = null
/** How late this process itself comes to what it should do, in nanoseconds. */
const lateness = monitorEventLoopDelay({ resolution: 1 })

const connected = (socket) => new Promise((resolve, reject) => {
  socket.once('connect', resolve)
  socket.once('connect_error', reject)
})

const edit = async ({ socket, cell }, value) => {
  const began = nowUs()
  try {
    const { success, code } = await socket.timeout(ACK_MS).emitWithAck('grid:cell-edit', { ...cell, value })
    if (success) latencies.push(nowUs() - began)
    else failures.push(code)
  } catch (error) {
    failures.push(error.message)
  }
}

/** Everybody in turn, one of them every few milliseconds, until `stop`. */
const work = async (stop) => {
  const edits = []
  const began = nowUs()
  while (!stop.aborted) {
    const due = Math.floor((nowUs() - began) / 1000 / EVERY_MS * people.length) + 1
    while (edits.length < due) edits.push(edit(people[edits.length % people.length], edits.length))
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  await Promise.all(edits)
}

answer({
  /** One for each of `cells`, {tableId, recordId, fieldId}. Those beyond them are inside and do nothing. */
  async connect ({ url, cells, idle }) {
    for (let n = 0; n < cells.length + idle; n++) {
      const auth = { token: token({ '*': 'write' }, { sub: `inside${n}` }) }
      const socket = io(url, { auth, transports: ['websocket'], forceNew: true, reconnection: false })
      await connected(socket)
      socket.on('disconnect', () => { lost++ })
      if (n >= cells.length) continue
      const { success, code } = await socket.timeout(ACK_MS).emitWithAck('grid:join-table', { tableId: cells[n].tableId })
      if (!success) throw new Error(`join: ${code}`)
      people.push({ socket, cell: cells[n] })
    }
  },

  start () {
    const stop = new AbortController()
    running = { stop, done: work(stop.signal) }
    lateness.reset()
    lateness.enable()
  },

  /** What was measured since `start`. */
  async stop () {
    running.stop.abort()
    await running.done
    lateness.disable()
    const edits = latencies.length
    const [p50, p99, max] = quantiles(latencies, 0.5, 0.99, 1)
    const measured = { edits, p50, p99, max, late99: lateness.percentile(99) / 1000, failures, lost }
    latencies = []
    failures = []
    return measured
  }
})
