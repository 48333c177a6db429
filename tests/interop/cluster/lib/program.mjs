// Programs that tests start beside the server. They end with the test, and with its process, however that ends.

import { execFile, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'

const START_MS = 30_000
const LOG_LINES_MAX = 100

/** A port that was free a moment ago. */
export const freePort = async () => {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address()
  probe.close()
  await once(probe, 'close')
  return port
}

/** What runs `argv` as `user` (`{uid, gid}`) if given; it gets `parting` when this process is gone. */
export const tied = (argv, { user, parting = 'KILL' } = {}) => [
  'setpriv', '--pdeathsig', parting,
  ...(user === undefined ? [] : [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups']),
  '--', ...argv
]

/** Who does what root must not: null where this process is not root. */
export const somebodyElse = () => {
  if (process.getuid() !== 0) return undefined
  for (const name of ['postgres', 'nobody']) {
    try {
      const id = (what) => Number(execFileSync('id', [what, name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }))
      return { uid: id('-u'), gid: id('-g') }
    } catch {
      // The next one.
    }
  }
  throw new Error('neither "postgres" nor "nobody" is a user here')
}

export const run = promisify(execFile)

/** One process. */
export class Program {
  #log = []
  #child

  /** Resolves when a line fits `ready`. */
  static async start (argv, { ready, ...tie }) {
    const program = new Program()
    const [file, ...args] = tied(argv, tie)
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    program.#child = child
    await new Promise((resolve, reject) => {
      const keep = (line) => {
        program.#log.push(line)
        if (program.#log.length > LOG_LINES_MAX) program.#log.shift()
        if (ready.test(line)) resolve()
      }
      for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', keep)
      child.once('error', reject)
      child.once('exit', (code, signal) => reject(new Error(`${argv[0]} ended (${code ?? signal}):\n${program.log}`)))
      setTimeout(() => reject(new Error(`${argv[0]} is not ready within ${START_MS} ms:\n${program.log}`)), START_MS).unref()
    })
    return program
  }

  get pid () { return this.#child.pid }
  get log () { return this.#log.join('\n') }

  /** Resolves when it is gone. */
  async stop (signal) {
    const child = this.#child
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill(signal)
    await gone
  }
}
