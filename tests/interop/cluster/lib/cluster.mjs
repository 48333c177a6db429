// Several nodes as real processes, each with a line of its own to one Redis, on one PostgreSQL (or each with its own disk).

import { test } from 'node:test'
import { Server } from '../../lib/server.mjs'
import { token } from '../../lib/token.mjs'
import { Gate } from './gate.mjs'
import { Postgres } from './postgres.mjs'
import { Redis } from './redis.mjs'

export const HEARTBEAT_SECONDS = 1
const LOG_LINES = 25

/** May do everything, on every node. */
export const operator = { authorization: `Bearer ${token({ '*': 'admin' }, { sub: 'operator' })}` }
/** What somebody shows to write everywhere. */
export const writer = (sub) => token({ '*': 'write' }, { sub })
/** Options of a provider of the y-websocket family, for somebody who may write everywhere. */
export const params = (sub) => ({ params: { token: writer(sub) } })
/** Options of a Hocuspocus provider, for the same. */
export const shows = (sub) => ({ token: writer(sub) })

const ENV = {
  SYNCLINE_BUS__HEARTBEAT_SECONDS: String(HEARTBEAT_SECONDS),
  // Everybody comes from one address here.
  SYNCLINE_LIMITS__FAILED_CONNECTS_PER_MINUTE: '0',
  SYNCLINE_LOG__FORMAT: 'json'
}

export class Cluster {
  nodes = []
  /** The address of the one database; undefined where each node has a disk of its own. */
  storeUrl
  #t
  #env

  /** It is there until the end of `t`. `postgres` is one to share with other tests; `apart` goes without. */
  static async start (t, { nodes = 2, apart = false, postgres, env = {} } = {}) {
    const cluster = new Cluster()
    cluster.#t = t
    cluster.#env = env
    cluster.redis = await Redis.start(t)
    if (!apart) {
      cluster.postgres = postgres ?? await Postgres.start(t)
      cluster.storeUrl = await cluster.postgres.database()
    }
    for (let n = 0; n < nodes; n++) await cluster.join()
    return cluster
  }

  /** One more node. */
  async join () {
    const gate = await Gate.open(this.#t, this.redis.port)
    const node = await this.#start({ SYNCLINE_BUS__URL: `redis://127.0.0.1:${gate.port}/` })
    node.gate = gate
    this.nodes.push(node)
    return node
  }

  /** A node on the same store that talks to nobody. */
  async lone () { return this.#start({}) }

  async #start (env) {
    const store = this.storeUrl === undefined ? {} : { SYNCLINE_STORE__URL: this.storeUrl }
    return Server.start(this.#t, { dev: false, env: { ...ENV, ...store, ...env, ...this.#env } })
  }

  /** The end of what every node has logged. */
  get log () {
    return this.nodes.map(({ log }, n) => `-- node ${n}:\n${log.split('\n').slice(-LOG_LINES).join('\n')}`).join('\n')
  }
}

/** A test with a cluster of its own. When it fails, what the nodes logged last is told with it. */
export const story = (name, options, act) => test(name, async (t) => {
  const cluster = await Cluster.start(t, options)
  try {
    await act(t, cluster)
  } catch (error) {
    error.message += `\n${cluster.log}`
    throw error
  }
})

/** A request of the operator: `{status, body}`, whatever it is. */
export const admin = async (node, method, path, body) => {
  const response = await fetch(node.url + path, {
    method,
    headers: { ...operator, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(30_000)
  })
  const text = await response.text()
  return { status: response.status, body: text === '' ? null : JSON.parse(text) }
}
