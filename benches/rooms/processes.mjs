// The processes of a run: a fresh server alone on one processor, and workers that do the clients' part on another.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { SECRET } from '../../tests/interop/lib/token.mjs'

const here = (name) => fileURLToPath(new URL(name, import.meta.url))
const DATA = here('../../target/bench-rooms')
const START_MS = 20_000
const LOG_LINES_MAX = 100
/** What the kernel counts processor time in, for programs. */
const TICK_MS = 10
/** With one processor everybody shares it. */
const pinned = (processor, argv) => (cpus().length > 1 ? ['taskset', '-c', String(processor), ...argv] : argv)
const SERVERS_PROCESSOR = 0
const LOAD_PROCESSOR = 1

/** A server process, and what it takes. */
export class Server {
  #log = []

  /** Resolves when it listens. `env` is beside this process's own. */
  static async start (argv, env = {}) {
    const server = new Server()
    const [program, ...rest] = pinned(SERVERS_PROCESSOR, argv)
    const child = spawn(program, rest, { env: { ...inherited(), ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    server.child = child
    process.once('exit', () => child.kill('SIGKILL'))
    server.url = await new Promise((resolve, reject) => {
      server.#keep(child.stderr)
      server.#keep(child.stdout, (line) => {
        const url = /listening on (http:\/\/127\.0\.0\.1:\d+)/.exec(line)?.[1]
        if (url !== undefined) resolve(url)
      })
      child.once('error', reject)
      child.once('exit', (code, signal) => reject(new Error(`${argv[0]} ended (${code ?? signal}):\n${server.log}`)))
      setTimeout(() => reject(new Error(`no address within ${START_MS} ms:\n${server.log}`)), START_MS).unref()
    })
    return server
  }

  #keep (stream, line = () => {}) {
    createInterface({ input: stream }).on('line', (text) => {
      this.#log.push(text)
      if (this.#log.length > LOG_LINES_MAX) this.#log.shift()
      line(text)
    })
  }

  get log () { return this.#log.join('\n') }

  /** Processor time so far, user and kernel, in milliseconds. */
  get processorMs () {
    const after = readFileSync(`/proc/${this.child.pid}/stat`, 'utf8').split(') ').at(-1).split(' ')
    return (Number(after[11]) + Number(after[12])) * TICK_MS
  }

  /** Resident memory in bytes: now, and the most that it was. */
  get memory () {
    const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8')
    const bytes = (name) => Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)[1]) * 1024
    return { now: bytes('VmRSS'), most: bytes('VmHWM') }
  }

  async stop () {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const gone = once(this.child, 'exit')
    this.child.kill('SIGKILL')
    await gone
    if (this.dataDir !== undefined) rmSync(this.dataDir, { recursive: true, force: true })
  }
}

/** The server refuses settings that it does not know, and this process has some that are not for it. */
const inherited = () => Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SYNCLINE_')))

export const BIN = process.env.SYNCLINE_BIN ?? here('../../target/release/syncline')

/** Syncline as it comes, asking for tokens, with an empty data directory of its own. */
export const startSyncline = async (env = {}) => {
  mkdirSync(DATA, { recursive: true })
  const dataDir = mkdtempSync(join(DATA, 'data-'))
  const argv = [BIN, 'serve', '--listen', '127.0.0.1:0', '--data-dir', dataDir]
  const server = await Server.start(argv, { SYNCLINE_AUTH__SECRET: SECRET, ...env })
  server.dataDir = dataDir
  return server
}

export const startNpm = () => Server.start([process.execPath, here('npm-server.mjs')])

/** A worker of ours that is asked things and answers. It ends when it is done or this process is. */
export class Worker {
  #child

  /** `nice` is how much it steps back for others on its processor. */
  constructor (file, { nice = 0 } = {}) {
    const [program, ...rest] = pinned(LOAD_PROCESSOR, ['nice', '-n', String(nice), process.execPath, here(file)])
    this.#child = spawn(program, rest, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  }

  /** One question at a time. */
  async ask (what, details = {}) {
    this.#child.send({ what, ...details })
    const ended = once(this.#child, 'exit').then(([code]) => { throw new Error(`${what}: the worker ended (${code})`) })
    ended.catch(() => {})
    const [{ error, answer }] = await Promise.race([once(this.#child, 'message'), ended])
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

/** The worker's side: `answers` has a function for each question. */
export const answer = (answers) => {
  process.on('message', async ({ what, ...details }) => {
    try {
      process.send({ answer: await answers[what](details) })
    } catch (error) {
      process.send({ error: error.stack })
    }
  })
  process.on('disconnect', () => process.exit())
}
