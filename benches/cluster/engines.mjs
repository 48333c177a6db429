// The processes of a run: nodes, Redis and PostgreSQL, fresh each time, and what they take.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Cluster } from '../../tests/interop/cluster/lib/cluster.mjs'

/** What the kernel counts processor time in, for programs. */
const TICK_MS = 10

/** Nobody is refused for being many. */
const ENV = {
  SYNCLINE_BUS__HEARTBEAT_SECONDS: '5',
  SYNCLINE_LIMITS__CONNECTIONS: '0',
  SYNCLINE_LIMITS__CONNECTIONS_PER_USER: '0',
  SYNCLINE_LIMITS__UPDATES_PER_SECOND: '0',
  SYNCLINE_LOG__LEVEL: 'warn'
}

/** Runs `act` with a cluster, and takes it down again. */
export const withCluster = async (nodes, act) => {
  const ends = []
  const t = { after: (end) => ends.push(end) }
  try {
    return await act(await Cluster.start(t, { nodes, env: ENV }))
  } finally {
    for (const end of ends.reverse()) await end()
  }
}

/** Processor time of a process so far, user and kernel, in milliseconds. */
export const processorMs = (pid) => {
  const after = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1).split(' ')
  return (Number(after[11]) + Number(after[12])) * TICK_MS
}

/** A process of ours that is asked things and answers; the other side is `answer` of `benches/rooms/processes.mjs`. */
export class Worker {
  #child
  #ended

  constructor (file) {
    this.#child = fork(fileURLToPath(new URL(file, import.meta.url)))
    this.#ended = once(this.#child, 'exit').then(([code]) => { throw new Error(`the worker ended (${code})`) })
    this.#ended.catch(() => {})
    process.once('exit', () => this.#child.kill('SIGKILL'))
  }

  /** One question at a time. */
  async ask (what, details = {}) {
    this.#child.send({ what, ...details })
    const [{ error, answer }] = await Promise.race([once(this.#child, 'message'), this.#ended])
    if (error !== undefined) throw new Error(`${what}: ${error}`)
    return answer
  }

  async stop () {
    if (this.#child.exitCode !== null) return
    const gone = once(this.#child, 'exit')
    this.#child.disconnect()
    await gone
  }
}
