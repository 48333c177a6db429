// Records what real @hocuspocus/provider clients say, and what they are told, frame by frame. See capture.mjs.
//
// The other end is written here, byte by byte: what it proves is that every version takes it, and what every version makes
// of it. Whatever a version would throw on stops the recording.

import { writeFileSync } from 'node:fs'
import * as awarenessProtocol from 'y-protocols/awareness'
import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'
import * as syncProtocol from 'y-protocols/sync'
import * as Y from 'yjs'
import { WebSocket, WebSocketServer } from 'ws'

const VERSIONS = ['2.15.3', '3.4.4', '4.8.0']
const [SYNC, AWARENESS, AUTH, QUERY_AWARENESS, , STATELESS, , CLOSE, SYNC_STATUS, PING] = Array(10).keys()
const [TOKEN, PERMISSION_DENIED, AUTHENTICATED] = [0, 1, 2]
const SERVER_ID = 2 ** 53 - 2

const hex = (bytes) => Buffer.from(bytes).toString('hex')

const equal = (found, expected, what) => {
  if (JSON.stringify(found) !== JSON.stringify(expected)) throw new Error(`${what}: ${found} instead of ${expected}`)
}

const until = async (condition, what) => {
  for (let waited = 0; !condition(); waited += 5) {
    if (waited > 5000) throw new Error(`never happened: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** Long enough for an answer that should not come. */
const pause = () => new Promise((resolve) => setTimeout(resolve, 100))

/** A server that keeps every frame of both directions, named by `step`. */
class Recorder {
  frames = []
  step = 'connect'
  doc = new Y.Doc()
  socket = null

  constructor() {
    this.doc.clientID = SERVER_ID
    this.doc.getText('text').insert(0, 'here before')
    this.server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
    this.server.on('connection', (socket) => {
      this.socket = socket
      socket.on('message', (data) => this.frames.push(this.frame('client', new Uint8Array(data))))
    })
  }

  frame(direction, bytes, says) {
    return { name: this.step, direction, ...(says && { says }), hex: hex(bytes) }
  }

  get heard() {
    return this.frames.filter((frame) => frame.direction === 'client')
  }

  /** Sends a frame; `says` is what it means, for whoever reads the recording. */
  send(address, says, write) {
    const encoder = encoding.createEncoder()
    if (address !== null) encoding.writeVarString(encoder, address)
    write(encoder)
    const bytes = encoding.toUint8Array(encoder)
    this.frames.push(this.frame('server', bytes, says))
    this.socket.send(bytes)
  }

  numbers(address, says, ...numbers) {
    this.send(address, says, (e) => numbers.forEach((number) => encoding.writeVarUint(e, number)))
  }

  text(address, says, ...numbers) {
    this.send(address, says, (e) => {
      numbers.forEach((number) => encoding.writeVarUint(e, number))
      encoding.writeVarString(e, says[1])
    })
  }

  /** Both steps, in the order in which clients expect them. */
  sync(address) {
    this.send(address, ['step 1'], (e) => {
      encoding.writeVarUint(e, SYNC)
      syncProtocol.writeSyncStep1(e, this.doc)
    })
    this.send(address, ['step 2'], (e) => {
      encoding.writeVarUint(e, SYNC)
      syncProtocol.writeSyncStep2(e, this.doc)
    })
  }

  /** Takes the change in the newest frame. */
  take() {
    const decoder = decoding.createDecoder(Buffer.from(this.heard.at(-1).hex, 'hex'))
    decoding.readVarString(decoder)
    equal(decoding.readVarUint(decoder), SYNC, 'a change')
    syncProtocol.readSyncMessage(decoder, encoding.createEncoder(), this.doc, 'client')
  }
}

const kindOf = (frame) => {
  if (frame.hex === '0a') return 'pong'
  const decoder = decoding.createDecoder(Buffer.from(frame.hex, 'hex'))
  decoding.readVarString(decoder)
  return decoding.readVarUint(decoder)
}

const capture = async (version) => {
  const major = Number(version.split('.')[0])
  const { HocuspocusProvider, HocuspocusProviderWebsocket } = await import(`hocuspocus-${version}`)
  const recorder = new Recorder()
  await until(() => recorder.server.address(), 'listening')
  const url = `ws://127.0.0.1:${recorder.server.address().port}`
  const websocketProvider = new HocuspocusProviderWebsocket({ url, WebSocketPolyfill: WebSocket })
  const events = []
  const open = (name, clientID, session) => {
    const document = new Y.Doc()
    document.clientID = clientID
    const provider = new HocuspocusProvider({
      websocketProvider, name, document, token: async () => 'a token', broadcast: false, preserveConnection: true,
      onAuthenticated: () => events.push(`${name} authenticated`),
      onAuthenticationFailed: ({ reason }) => events.push(`${name} failed: ${reason}`),
      onStateless: ({ payload }) => events.push(`${name} stateless: ${payload}`),
      sessionAwareness: session !== undefined
    })
    if (session !== undefined) provider.sessionId = session
    if (major >= 3) provider.attach()
    return provider
  }
  const heard = (count, what) => until(() => recorder.heard.length >= count, what)
  let count = 0
  const step = async (name, act, kinds) => {
    recorder.step = name
    act()
    await heard(count + kinds.length, name)
    await pause()
    equal(recorder.heard.slice(count).map(kindOf), kinds, name)
    count += kinds.length
  }
  const saved = () => recorder.numbers('doc', ['sync status', 1], SYNC_STATUS, 1)

  let provider
  await step('connect', () => { provider = open('doc', 1001) }, [AUTH, SYNC, AWARENESS])
  await step('let in', () => {
    recorder.text('doc', ['authenticated', 'read-write'], AUTH, AUTHENTICATED)
    recorder.sync('doc')
  }, [SYNC])
  equal([provider.synced, provider.unsyncedChanges], [true, 1], 'before the first acknowledgement')
  recorder.step = 'acknowledged'
  saved()
  await until(() => provider.unsyncedChanges === 0, 'everything saved')
  await step('insert text', () => provider.document.getText('text').insert(11, ', and after ✓'), [SYNC])
  equal(provider.unsyncedChanges, 1, 'an edit under way')
  recorder.take()
  saved()
  await until(() => provider.unsyncedChanges === 0, 'the edit saved')
  await step('refused', () => provider.document.getText('text').insert(0, 'x'), [SYNC])
  recorder.numbers('doc', ['sync status', 0], SYNC_STATUS, 0)
  await pause()
  equal(provider.unsyncedChanges, 1, 'an edit that was refused')
  await step('force sync', () => provider.forceSync(), [SYNC])
  await step('answered', () => recorder.sync('doc'), [SYNC])
  saved()
  await until(() => provider.unsyncedChanges === 0, 'saved after all')
  await step('presence', () => provider.awareness.setLocalState({ user: { name: 'Ada' } }), [AWARENESS])
  await step('query awareness', () => recorder.numbers('doc', ['query'], QUERY_AWARENESS), [AWARENESS])
  await step('no presence', () => provider.awareness.setLocalState(null), [AWARENESS])
  await step('stateless', () => provider.sendStateless('hé'), [STATELESS])
  recorder.text('doc', ['stateless', 'hó'], STATELESS)
  await until(() => events.includes('doc stateless: hó'), 'stateless')
  await step('token request', () => recorder.numbers('doc', ['token request'], AUTH, TOKEN), major >= 3 ? [AUTH] : [])
  await step('keep-alive', () => recorder.numbers('doc', ['keep-alive'], AWARENESS, 1, 0), [])
  if (major >= 4) await step('ping', () => recorder.numbers(null, ['ping'], PING), ['pong'])
  recorder.step = 'demoted'
  recorder.text('doc', ['authenticated', 'readonly'], AUTH, AUTHENTICATED)
  await until(() => provider.authorizedScope === 'readonly', 'the new scope')

  let other
  await step('another document', () => { other = open('other', 1002) }, [AUTH, SYNC, AWARENESS])
  const afterDenial = major >= 3 ? [] : [AWARENESS]
  await step('denied', () => recorder.text('other', ['denied', 'FORBIDDEN'], AUTH, PERMISSION_DENIED), afterDenial)
  equal(events.at(-1), 'other failed: FORBIDDEN', 'the reason')
  await step('goes on', () => other.document.getText('text').insert(0, 'deaf'), major >= 3 ? [SYNC] : [])
  await step('gives up', () => other.destroy(), major >= 3 ? [AWARENESS, CLOSE] : [])
  await step('tries again', () => { other = open('other', 1003) }, [AUTH, SYNC, AWARENESS])
  if (major >= 3) {
    await step('evicted', () => recorder.text('other', ['close', 'NOT_FOUND'], CLOSE), [])
    equal(other.synced, false, 'out of step')
    await step('goes on', () => other.document.getText('text').insert(0, 'deaf'), [SYNC])
  }
  if (major >= 4) {
    let third
    await step('session', () => { third = open('doc', 1004, 'gxt1hlozcid') }, [AUTH, SYNC, AWARENESS])
    await step('let in', () => recorder.text(third.effectiveName, ['authenticated', 'readonly'], AUTH, AUTHENTICATED), [])
    equal(third.authorizedScope, 'readonly', 'the scope of the session')
  }
  await step('leave', () => provider.destroy(), major >= 3 ? [CLOSE] : [CLOSE, AWARENESS])
  websocketProvider.destroy()
  recorder.server.close()
  const file = new URL(`../hocuspocus-${version}.json`, import.meta.url)
  const client = `@hocuspocus/provider ${version}`
  writeFileSync(file, `${JSON.stringify({ client, events, frames: recorder.frames }, null, 1)}\n`)
  console.log(`${recorder.frames.length} frames of ${client}`)
}

for (const version of VERSIONS) await capture(version)
process.exit(0)
