// The npm clients, unmodified, behind one small face.

import * as Y14 from '@y/y'
import * as YWebsocket4 from '@y/websocket'
import * as Y from 'yjs'
import { readFileSync } from 'node:fs'
import { WebSocket } from 'ws'
import * as YWebsocket210 from 'y-websocket-2.1.0'
import * as YWebsocket300 from 'y-websocket-3.0.0'
import * as YWebsocket310 from 'y-websocket-3.1.0'
import * as decoding from 'lib0/decoding'
import { isDeepStrictEqual } from 'node:util'
import { until } from './until.mjs'

const versionOf = (name) =>
  JSON.parse(readFileSync(new URL(`../node_modules/${name}/package.json`, import.meta.url))).version

const client = (folder, module, yjs) => {
  const [provider, crdt] = yjs === Y14 ? ['@y/websocket', '@y/y'] : ['y-websocket', 'yjs']
  return {
    name: `${provider} ${versionOf(folder)} with ${crdt} ${versionOf(crdt)}`,
    Provider: module.WebsocketProvider,
    yjs
  }
}

export const v310 = client('y-websocket-3.1.0', YWebsocket310, Y)
export const v300 = client('y-websocket-3.0.0', YWebsocket300, Y)
export const v210 = client('y-websocket-2.1.0', YWebsocket210, Y)
export const v400 = client('@y/websocket', YWebsocket4, Y14)

/** Those with the classic types (Y.Map, Y.Text, …). */
export const classic = [v310, v300, v210]
export const all = [...classic, v400]

// Every provider listens for the end of the process; a test process holds many.
process.setMaxListeners(0)

const MESSAGE_SYNC = 0
const SYNC_STEP_1 = 0

/** One person: a document, a provider, and a record of what happened to the connection. */
export class Peer {
  dials = 0
  closes = []
  closed = null
  #echoed = 0

  /** `t` destroys the peer at its end. `where` is a server or anything with a `syncUrl`. */
  constructor (t, { Provider, yjs }, where, name, options = {}) {
    this.yjs = yjs
    this.doc = new yjs.Doc()
    const dialled = () => { this.dials++ }
    class Socket extends WebSocket {
      constructor (url, protocols) {
        super(url, protocols, { perMessageDeflate: false, maxPayload: 256 << 20 })
        dialled()
      }
    }
    // BroadcastChannel would join peers of this process behind the server's back.
    this.provider = new Provider(where.syncUrl, name, this.doc, {
      WebSocketPolyfill: Socket, disableBc: true, connect: false, ...options
    })
    this.awareness = this.provider.awareness
    this.provider.on('connection-close', (event) => this.closes.push(event?.code ?? null))
    this.provider.on('closed', (event) => { this.closed = event })
    this.#hear()
    t.after(() => this.leave())
    if (options.connect ?? true) this.provider.connect()
  }

  /** Follows which of our own structs the server has sent back: what it echoes, it has made durable. */
  #hear () {
    const handle = this.provider.messageHandlers[MESSAGE_SYNC]
    this.provider.messageHandlers[MESSAGE_SYNC] = (encoder, decoder, ...rest) => {
      const peek = { arr: decoder.arr, pos: decoder.pos }
      if (decoding.readVarUint(peek) !== SYNC_STEP_1) {
        for (const { id, length } of Y.decodeUpdate(decoding.readVarUint8Array(peek)).structs) {
          // Echoes come in the order written, so the highest end is a mark of everything below it.
          if (id.client === this.doc.clientID) this.#echoed = Math.max(this.#echoed, id.clock + length)
        }
      }
      handle(encoder, decoder, ...rest)
    }
  }

  get isSynced () { return this.provider.synced }
  get echoedClock () { return this.#echoed }
  get ownClock () { return this.stateVector.get(this.doc.clientID) ?? 0 }
  get stateVector () { return Y.decodeStateVector(this.yjs.encodeStateVector(this.doc)) }

  async synced (timeoutMs) {
    await until(() => this.isSynced, () => `synced (closes: ${this.closes})`, timeoutMs)
    return this
  }

  forgetEchoes () { this.#echoed = 0 }

  /** Resolves when everything written here has been echoed. */
  async acknowledged (timeoutMs) {
    await until(() => this.#echoed >= this.ownClock, () => `echo of ${this.ownClock}, got ${this.#echoed}`, timeoutMs)
  }

  connect () { this.provider.connect() }
  disconnect () { this.provider.disconnect() }

  /** As `disconnect`, and to the end: until the socket is closed, it still brings what others write. */
  async offline () {
    const { ws } = this.provider
    this.provider.disconnect()
    await until(() => !ws || ws.readyState === ws.CLOSED, 'the end of the connection')
  }

  /** As if the process had been killed: no farewell, the socket just ends. */
  die () {
    const { ws } = this.provider
    this.provider.shouldConnect = false
    ws.terminate()
  }

  leave () {
    this.awareness.destroy()
    this.provider.destroy()
  }

  /** The states of the others, by what they call themselves. */
  others (field = 'name') {
    return [...this.awareness.getStates()]
      .filter(([id]) => id !== this.doc.clientID)
      .map(([, state]) => state[field])
      .sort()
  }
}

/** Waits until all peers have the same state vector and the same content, as `read(doc)` tells it. */
export const converged = async (peers, read, timeoutMs) => {
  const [first, ...others] = peers
  const same = () => others.every((peer) =>
    isDeepStrictEqual(peer.stateVector, first.stateVector) && isDeepStrictEqual(read(peer.doc), read(first.doc)))
  await until(same, () => `equal replicas:\n${peers.map((peer) =>
    JSON.stringify([[...peer.stateVector], read(peer.doc)]).slice(0, 600)).join('\n')}`, timeoutMs)
  return read(first.doc)
}
