// A real server process on a port and a data directory of its own.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { SECRET } from './token.mjs'

export const BIN = process.env.SYNCLINE_BIN ?? fileURLToPath(new URL('../../../target/debug/syncline', import.meta.url))

// The server refuses settings that it does not know, and this process has some of its own.
const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SYNCLINE_')))

// A write beyond the limit on the size of files then fails, and does not end the process; see `failWrites`. And no server
// outlives a test process that was killed itself.
const EXEC = 'trap "" XFSZ; exec setpriv --pdeathsig KILL -- "$0" "$@"'

const START_MS = 20_000
const LOG_LINES_MAX = 200

export class Server {
  #process = null
  #log = []
  #dev
  #env
  #config

  /** `dev: false` asks for tokens signed with SECRET, `config` is the text of a configuration file. The server is stopped and
   * its data removed after test `t`. */
  static async start (t, { dev = true, env = {}, config } = {}) {
    const server = new Server()
    server.#dev = dev
    server.#env = env
    server.dataDir = await mkdtemp(join(tmpdir(), 'syncline-interop-'))
    server.port = 0
    t.after(() => server.#discard())
    if (config !== undefined) {
      server.#config = `${server.dataDir}.toml`
      await writeFile(server.#config, config)
    }
    await server.resume()
    return server
  }

  /** Starts the process again, on the same port and data. */
  async resume () {
    const args = ['serve', '--listen', `127.0.0.1:${this.port}`, '--data-dir', this.dataDir]
    if (this.#dev) args.push('--dev')
    if (this.#config !== undefined) args.push('--config', this.#config)
    const env = { ...inherited, ...(this.#dev ? {} : { SYNCLINE_AUTH__SECRET: SECRET }), ...this.#env }
    const child = spawn('sh', ['-c', EXEC, BIN, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
    this.#process = child
    this.#keep(child.stderr)
    const address = new Promise((resolve, reject) => {
      this.#keep(child.stdout, (line) => {
        const port = /listening on http:\/\/127\.0\.0\.1:(\d+)/.exec(line)?.[1]
        if (port !== undefined) resolve(Number(port))
      })
      child.once('error', (error) => reject(new Error(`${BIN}: ${error.message}`)))
      child.once('exit', (code, signal) => reject(new Error(`server ended (${code ?? signal}) at start:\n${this.log}`)))
      setTimeout(() => reject(new Error(`no address printed within ${START_MS} ms:\n${this.log}`)), START_MS).unref()
    })
    this.port = await address
  }

  #keep (stream, line = () => {}) {
    createInterface({ input: stream }).on('line', (text) => {
      this.#log.push(text)
      if (this.#log.length > LOG_LINES_MAX) this.#log.shift()
      line(text)
    })
  }

  get log () { return this.#log.join('\n') }
  get isRunning () { return this.#process.exitCode === null && this.#process.signalCode === null }
  get pid () { return this.#process.pid }
  get url () { return `http://127.0.0.1:${this.port}` }
  get syncUrl () { return `ws://127.0.0.1:${this.port}/sync` }
  get collabUrl () { return `ws://127.0.0.1:${this.port}/collab` }

  /** Sends a signal and resolves with `{code, signal}` when the process is gone. */
  async stop (signal = 'SIGTERM') {
    const child = this.#process
    if (this.isRunning) {
      const gone = once(child, 'exit')
      child.kill(signal)
      await gone
    }
    return { code: child.exitCode, signal: child.signalCode }
  }

  /** From now on every write to a file fails (EFBIG), as on a disk that gave up. Reads, sockets and pipes work. */
  async failWrites () { await this.#limitFiles('0') }

  /** Ends `failWrites`. */
  async allowWrites () { await this.#limitFiles('unlimited') }

  async #limitFiles (bytes) {
    // The soft limit alone: that needs no rights, also not to take it back.
    await promisify(execFile)('prlimit', ['--pid', String(this.#process.pid), `--fsize=${bytes}:`])
  }

  /** What the server has of a document, as one update; `null` if there is no such document. */
  async state (name, headers) {
    const response = await this.get(`/v1/docs/${encodeURIComponent(name)}/state`, headers)
    if (response.status === 404) return null
    if (!response.ok) throw new Error(`${name}: ${response.status} ${await response.text()}`)
    return new Uint8Array(await response.arrayBuffer())
  }

  /** Resident memory in bytes. */
  async residentBytes () {
    const status = await readFile(`/proc/${this.#process.pid}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)[1]) * 1024
  }

  async get (path, headers = {}) {
    return fetch(this.url + path, { headers, signal: AbortSignal.timeout(20_000) })
  }

  async #discard () {
    await this.stop('SIGKILL')
    await rm(this.dataDir, { recursive: true, force: true, maxRetries: 5 })
    if (this.#config !== undefined) await rm(this.#config, { force: true })
  }
}

/** Runs a subcommand of the server binary and returns what it printed. */
export const command = async (...args) => {
  const { stdout } = await promisify(execFile)(BIN, args, { env: { ...inherited, SYNCLINE_AUTH__SECRET: SECRET } })
  return stdout.trim()
}
