// Records what real y-websocket clients say, and what the reference library answers, frame by frame.
//
//   npm ci && npm run capture        writes ../y-websocket-<version>.json
//
// Everything that clients choose at random is fixed, so that a second run writes the same files.

import { writeFileSync } from 'node:fs'
import * as authProtocol from 'y-protocols/auth'
import * as awarenessProtocol from 'y-protocols/awareness'
import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'
import * as syncProtocol from 'y-protocols/sync'
import * as Y from 'yjs'
import { WebSocket, WebSocketServer } from 'ws'

const VERSIONS = ['2.1.0', '3.0.0', '3.1.0']
const [SYNC, AWARENESS, AUTH, QUERY_AWARENESS] = [0, 1, 2, 3]
const SERVER_ID = 2 ** 53 - 2

const hex = (bytes) => Buffer.from(bytes).toString('hex')

const frame = (type, write) => {
  const encoder = encoding.createEncoder()
  encoding.writeVarUint(encoder, type)
  write(encoder)
  return encoding.toUint8Array(encoder)
}

/** A server on the reference library that keeps every frame of both directions, named by `step`. */
class Recorder {
  frames = []
  step = 'connect'
  doc = new Y.Doc()
  socket = null

  constructor() {
    this.doc.clientID = SERVER_ID
    this.doc.getText('text').insert(0, 'here before')
    this.awareness = new awarenessProtocol.Awareness(this.doc)
    clearInterval(this.awareness._checkInterval)
    this.awareness.setLocalState({ user: { name: 'Zoë 🦀' } })
    this.server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
    this.server.on('connection', (socket) => this.accept(socket))
    this.doc.on('update', (update, origin) => {
      if (origin !== 'client') this.send(frame(SYNC, (e) => syncProtocol.writeUpdate(e, update)))
    })
  }

  accept(socket) {
    this.socket = socket
    socket.on('message', (data) => this.hear(new Uint8Array(data)))
    this.send(frame(SYNC, (e) => syncProtocol.writeSyncStep1(e, this.doc)))
    this.sendAwareness([SERVER_ID])
  }

  record(direction, bytes) {
    this.frames.push({ name: this.step, direction, hex: hex(bytes) })
  }

  send(bytes) {
    this.record('server', bytes)
    this.socket.send(bytes)
  }

  sendAwareness(ids) {
    const entries = awarenessProtocol.encodeAwarenessUpdate(this.awareness, ids)
    this.send(frame(AWARENESS, (e) => encoding.writeVarUint8Array(e, entries)))
  }

  hear(bytes) {
    this.record('client', bytes)
    const decoder = decoding.createDecoder(bytes)
    if (decoding.readVarUint(decoder) !== SYNC) return
    const reply = frame(SYNC, (e) => syncProtocol.readSyncMessage(decoder, e, this.doc, 'client'))
    if (reply.length > 1) this.send(reply)
  }
}

const until = async (condition, what) => {
  for (let waited = 0; !condition(); waited += 5) {
    if (waited > 5000) throw new Error(`never happened: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

const capture = async (version) => {
  const { WebsocketProvider } = await import(`y-websocket-${version}`)
  const recorder = new Recorder()
  await until(() => recorder.server.address(), 'listening')
  const doc = new Y.Doc()
  doc.clientID = 1001
  const provider = new WebsocketProvider(`ws://127.0.0.1:${recorder.server.address().port}`, 'room', doc, {
    WebSocketPolyfill: WebSocket,
    disableBc: true
  })
  const heard = (count, what) => until(() => recorder.frames.filter((f) => f.direction === 'client').length >= count, what)
  let count = 0
  const step = async (name, act, frames = 1) => {
    recorder.step = name
    act()
    await heard((count += frames), name)
  }

  // Step 1, own presence, the answer to our step 1, and our presence, repeated to us.
  await until(() => provider.synced, 'synced')
  await heard((count = 4), 'the greeting')
  await step('insert text', () => doc.getText('text').insert(11, ', and after ✓'))
  await step('delete text', () => doc.getText('text').delete(0, 5))
  await step('set map', () => doc.getMap('map').set('key', { deep: [1, 2.5, null, true, 'x'], bytes: 'no' }))
  await step('push array', () => doc.getArray('array').push([1, 'two', new Y.Map([['three', 3]])]))
  await step('xml', () => doc.getXmlFragment('xml').insert(0, [new Y.XmlElement('p')]))
  await step('format text', () => doc.getText('text').format(0, 3, { bold: true }))
  await step('presence', () => provider.awareness.setLocalState({ user: { name: 'Ada' }, cursor: { anchor: 3 } }))
  await step('no presence', () => provider.awareness.setLocalState(null))
  await step('presence again', () => provider.awareness.setLocalState({ back: true }))

  await step('query awareness', () => recorder.send(frame(QUERY_AWARENESS, () => {})))
  recorder.step = 'server edits'
  recorder.doc.getMap('map').set('server', 'said')
  await until(() => doc.getMap('map').get('server') === 'said', 'the server edit')
  recorder.step = 'server leaves'
  recorder.awareness.setLocalState(null)
  await step('server leaves', () => recorder.sendAwareness([SERVER_ID]))
  recorder.step = 'keep-alive'
  recorder.sendAwareness([])
  recorder.step = 'denied'
  recorder.send(frame(AUTH, (e) => authProtocol.writePermissionDenied(e, 'FORBIDDEN')))
  recorder.step = 'offline edits'
  provider.disconnect()
  await until(() => recorder.server.clients.size === 0, 'disconnected')
  doc.getText('text').insert(0, 'offline ')
  provider.connect()
  await until(() => provider.synced && recorder.doc.getText('text').toString().includes('offline'), 'offline edits')
  await step('leave', () => provider.destroy(), 0)
  await until(() => recorder.server.clients.size === 0, 'left')
  recorder.server.close()
  doc.destroy()
  recorder.doc.destroy()
  const file = new URL(`../y-websocket-${version}.json`, import.meta.url)
  writeFileSync(file, `${JSON.stringify({ client: `y-websocket ${version}`, frames: recorder.frames }, null, 1)}\n`)
  console.log(`${recorder.frames.length} frames of y-websocket ${version}`)
}

for (const version of VERSIONS) await capture(version)
process.exit(0)
