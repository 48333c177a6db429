// A PostgreSQL of a test's own, in a directory of its own, which writes to disk like any other.

import { readdirSync, readFileSync } from 'node:fs'
import { chown, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort, Program, run, somebodyElse, tied } from './program.mjs'

/** Where distributions put what belongs to a server and not into everybody's PATH; the newest first. */
const VERSIONS = '/usr/lib/postgresql'
/** Room for several nodes with a pool each. */
const CONNECTIONS_MAX = 200

/** The path of one of its programs. */
export const found = (name) => {
  try {
    const [newest] = readdirSync(VERSIONS).sort((a, b) => Number(b) - Number(a))
    return join(VERSIONS, newest, 'bin', name)
  } catch {
    return name
  }
}

export class Postgres {
  #dir
  #program
  #user = somebodyElse()
  #databases = 0

  /** It ends with `t`. */
  static async start (t) {
    const postgres = new Postgres()
    await postgres.#create(t)
    await postgres.resume()
    return postgres
  }

  async #create (t) {
    this.#dir = await mkdtemp(join(tmpdir(), 'syncline-postgres-'))
    t.after(() => this.#discard())
    if (this.#user !== undefined) await chown(this.#dir, this.#user.uid, this.#user.gid)
    const initdb = [found('initdb'), '-D', this.#dir, '-U', 'postgres', '--auth=trust', '--encoding=UTF8', '--locale=C', '--no-sync']
    const [file, ...args] = tied(initdb, { user: this.#user })
    await run(file, args, { cwd: tmpdir() })
    this.port = await freePort()
  }

  /** Starts it (again), on the same port and data. */
  async resume () {
    const settings = { listen_addresses: '127.0.0.1', unix_socket_directories: '', max_connections: CONNECTIONS_MAX, fsync: 'on' }
    const argv = [found('postgres'), '-D', this.#dir, '-p', String(this.port),
      ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])]
    this.#program = await Program.start(argv, { ready: /ready to accept connections/, user: this.#user, parting: 'QUIT' })
  }

  /** Ends it in the middle of everything, as a crash would: nothing is finished first. */
  async crash () { await this.#program.stop('SIGQUIT') }

  /** From now on it holds every connection and answers none, as on a machine that hangs. */
  async freeze () { this.#signal('SIGSTOP') }

  /** Ends `freeze`. */
  async thaw () { this.#signal('SIGCONT') }

  /** The one that accepts connections, and those that serve them. */
  #signal (signal) {
    const { pid } = this.#program
    process.kill(pid, signal)
    const served = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter((child) => child !== '')
    for (const child of served) process.kill(Number(child), signal)
  }

  /** A new database; its address. */
  async database () {
    const name = `syncline${++this.#databases}`
    await this.query('postgres', `create database ${name}`)
    return `postgres://postgres@127.0.0.1:${this.port}/${name}`
  }

  /** What psql answers, bare. */
  async query (database, sql) {
    const { stdout } = await run(found('psql'), ['-h', '127.0.0.1', '-p', String(this.port), '-U', 'postgres', '-d', database, '-qAtc', sql])
    return stdout.trim()
  }

  async #discard () {
    await this.#program?.stop('SIGQUIT')
    await rm(this.#dir, { recursive: true, force: true, maxRetries: 5 })
  }
}
