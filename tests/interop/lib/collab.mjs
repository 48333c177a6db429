// The Hocuspocus providers of three generations, unmodified, behind one small face: sockets, and the editors on them.

import * as Provider215 from '@hocuspocus/provider-2.15.3'
import * as Provider34 from '@hocuspocus/provider-3.4.4'
import * as Provider48 from '@hocuspocus/provider-4.8.0'
import { readFileSync } from 'node:fs'
import * as decoding from 'lib0/decoding'
import { WebSocket } from 'ws'
import * as Y from 'yjs'
import { until } from './until.mjs'

const generation = (folder, module) => {
  const about = new URL(`../node_modules/@hocuspocus/${folder}/package.json`, import.meta.url)
  const { version } = JSON.parse(readFileSync(about))
  return { name: `@hocuspocus/provider ${version}`, major: Number(version.split('.')[0]), module }
}

export const v4 = generation('provider-4.8.0', Provider48)
export const v3 = generation('provider-3.4.4', Provider34)
export const v2 = generation('provider-2.15.3', Provider215)
export const generations = [v4, v3, v2]

/** Every editor of this process also listens for its end. */
process.setMaxListeners(0)

/** For tests with many reconnections: the providers' own first pause is a second, and doubles. */
export const HASTY = { delay: 50, minDelay: 50, maxDelay: 400 }

const SYNC_STATUS = 8

/** One WebSocket of one client, for any number of documents. */
export class Line {
  dials = 0
  closes = []
  /** How often the socket ended, as the provider tells it. */
  ends = 0

  /** Taken down at the end of `t`. `where` is a server or anything with a `collabUrl`. */
  constructor (t, { major, module }, where, options = {}) {
    this.major = major
    this.module = module
    const dialled = (socket) => {
      this.dials++
      socket.once('close', (code, reason) => this.closes.push([code, reason.toString()]))
    }
    class Socket extends WebSocket {
      constructor (url) {
        super(url, { perMessageDeflate: false, maxPayload: 256 << 20 })
        // One that is closed while it opens says so; nobody else listens by then.
        this.on('error', () => {})
        dialled(this)
      }
    }
    this.socket = new module.HocuspocusProviderWebsocket({ url: where.collabUrl, WebSocketPolyfill: Socket, ...options })
    this.socket.on('close', () => { this.ends++ })
    t.after(() => this.close())
  }

  /** Opens a document here. */
  open (t, name, options) { return new Editor(t, this, name, options) }

  /** Where to dial from now on. */
  aim (where) { this.socket.configuration.url = where.collabUrl }

  /** The connection breaks, and the client may come back. */
  break () { this.socket.webSocket?.terminate() }

  /** As if the process had been killed: no farewell, and no return. */
  die () {
    this.socket.shouldConnect = false
    this.socket.webSocket?.terminate()
  }

  close () {
    this.socket.destroy()
    // 3.x would dial for ever if this is the pause before its next attempt.
    this.socket.connect = async () => {}
  }
}

/** One document in one client: a provider, and a record of what it was told. */
export class Editor {
  /** Each count of unsaved changes that the provider announced. */
  counts = []
  /** The rights with each "authenticated". */
  scopes = []
  /** The reason of each "authenticationFailed". */
  refusals = []
  /** Stateless messages. */
  letters = []
  /** Each acknowledgement: 1 for saved, 0 for refused. */
  statuses = []

  /** `line` is a [`Line`], or what a new one is made of: `[generation, server, options]`. Dev servers ask for no token. */
  constructor (t, line, name, { doc = new Y.Doc(), token = 'any', ...options } = {}) {
    this.line = Array.isArray(line) ? new Line(t, ...line) : line
    this.doc = doc
    const { module, major, socket } = this.line
    // A channel between tabs would join the editors of this process behind the server's back.
    this.provider = new module.HocuspocusProvider({
      websocketProvider: socket, name, document: doc, token, ...(major < 3 ? { broadcast: false } : {}), ...options
    })
    this.#listen()
    t.after(() => this.leave())
    if (major >= 3) this.provider.attach()
  }

  #listen () {
    const { provider } = this
    provider.on('unsyncedChanges', (told) => this.counts.push(told.number ?? told))
    provider.on('authenticated', (told) => this.scopes.push(told?.scope ?? provider.authorizedScope))
    provider.on('authenticationFailed', ({ reason }) => this.refusals.push(reason))
    provider.on('stateless', ({ payload }) => this.letters.push(payload))
    provider.on('message', ({ event }) => {
      const decoder = decoding.createDecoder(new Uint8Array(event.data))
      decoding.readVarString(decoder)
      if (decoding.readVarUint(decoder) === SYNC_STATUS) this.statuses.push(decoding.readVarUint(decoder))
    })
  }

  get awareness () { return this.provider.awareness }
  get stateVector () { return Y.decodeStateVector(Y.encodeStateVector(this.doc)) }
  get text () { return this.doc.getText('text').toString() }
  /** What the application would show as "saved". */
  get isSaved () { return this.provider.synced && !this.provider.hasUnsyncedChanges }

  async synced (timeoutMs) {
    await until(() => this.provider.synced, () => `synced: ${this.#story()}`, timeoutMs)
    return this
  }

  /** Resolves when the provider believes that everything is on the server's disk. */
  async saved (timeoutMs) {
    await until(() => this.isSaved, () => `saved: ${this.#story()}`, timeoutMs)
    return this
  }

  async refused (timeoutMs) {
    await until(() => this.refusals.length > 0, () => `refused: ${this.#story()}`, timeoutMs)
    return this.refusals.at(-1)
  }

  #story () {
    const { provider, line } = this
    return JSON.stringify({
      name: provider.configuration.name,
      synced: provider.synced,
      authenticated: provider.isAuthenticated,
      counts: this.counts.slice(-8),
      refusals: this.refusals,
      dials: line.dials,
      closes: line.closes
    })
  }

  type (text, at = this.doc.getText('text').length) { this.doc.getText('text').insert(at, text) }

  set token (token) { this.provider.configuration.token = token }

  /** Shows the token again, in the way of this generation. 2.x can only do it together with a whole synchronisation. */
  showToken () {
    return this.line.major < 3 ? this.provider.connect() : this.provider.sendToken()
  }

  /** Goes away from the document and leaves the socket open. 2.x does not tell the server. */
  detach () {
    if (this.line.major < 3) this.provider.disconnect()
    else this.provider.detach()
  }

  attach () {
    if (this.line.major < 3) this.provider.connect()
    else this.provider.attach()
  }

  leave () { this.provider.destroy() }

  /** The presence of the others, by what they call themselves. */
  others (field = 'name') {
    return [...this.awareness.getStates()]
      .filter(([id]) => id !== this.doc.clientID)
      .map(([, state]) => state[field])
      .sort()
  }
}

/** Waits until `editor` sees exactly the others of these names. */
export const sees = (editor, names, timeoutMs) => until(
  () => JSON.stringify(editor.others()) === JSON.stringify(names.toSorted()),
  () => `others ${JSON.stringify(names)}, sees ${JSON.stringify(editor.others())}`, timeoutMs
)
