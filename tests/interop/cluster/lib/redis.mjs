// A Redis of a test's own, which remembers nothing when it is started again.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort, Program, run } from './program.mjs'

export class Redis {
  #dir
  #program

  /** It ends with `t`. */
  static async start (t) {
    const redis = new Redis()
    redis.#dir = await mkdtemp(join(tmpdir(), 'syncline-redis-'))
    t.after(() => redis.#discard())
    redis.port = await freePort()
    await redis.resume()
    return redis
  }

  /** Starts it again, empty, on the same port. */
  async resume () {
    const argv = ['redis-server', '--port', String(this.port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', this.#dir]
    this.#program = await Program.start(argv, { ready: /Ready to accept connections/ })
  }

  get pid () { return this.#program.pid }

  async kill () { await this.#program.stop('SIGKILL') }

  /** How often each command was called since the start, by its name in small letters. */
  async calls () {
    const { stdout } = await run('redis-cli', ['-p', String(this.port), 'info', 'commandstats'])
    return Object.fromEntries([...stdout.matchAll(/cmdstat_([^:]+):calls=(\d+)/g)].map(([, name, calls]) => [name, Number(calls)]))
  }

  async #discard () {
    await this.kill()
    await rm(this.#dir, { recursive: true, force: true })
  }
}
