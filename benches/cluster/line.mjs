// A client of `/sync` over bare TCP, which costs little more than its socket: tens of thousands of them fit into a process.

import { connect } from 'node:net'
import { encoding } from '../../tests/interop/lib/packages.mjs'
import { token } from '../../tests/interop/lib/token.mjs'

const BINARY = 0x82
const [SYNC, STEP_1, STEP_2, UPDATE] = [0, 0, 1, 2]
const GIVE_UP_MS = 120_000
const bearer = token({ '*': 'write' }, { sub: 'bench' })

const upgrade = (name) => Buffer.from([
  `GET /sync/${name} HTTP/1.1`, 'host: 127.0.0.1', 'connection: Upgrade', 'upgrade: websocket', `authorization: Bearer ${bearer}`,
  'sec-websocket-version: 13', 'sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==', '', ''
].join('\r\n'))

/** One frame of a client. Its mask is all zeros, which changes nothing and is allowed. */
const frame = (payload) => {
  const head = payload.length < 126 ? [BINARY, 0x80 | payload.length] : [BINARY, 0x80 | 126, payload.length >> 8, payload.length & 0xff]
  return Buffer.concat([Buffer.from([...head, 0, 0, 0, 0]), payload])
}

/** The frame of an edit. */
export const editFrame = (update) => {
  const encoder = encoding.createEncoder()
  encoding.writeVarUint(encoder, SYNC)
  encoding.writeVarUint(encoder, UPDATE)
  encoding.writeVarUint8Array(encoder, update)
  return frame(encoding.toUint8Array(encoder))
}

/** Asks for everything, of a copy that is empty. */
const FIRST = frame(Buffer.from([SYNC, STEP_1, 1, 0]))

export class Line {
  #rest = null
  #upgraded = false
  #update
  #synced

  /** Resolves when the document was sent. `update` hears each edit that comes afterwards. */
  static open (port, name, { update = () => {}, from } = {}) {
    const line = new Line()
    line.#update = update
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', localAddress: from })
      const fail = (why) => reject(new Error(`${name}: ${why}`))
      const timer = setTimeout(() => fail('no answer'), GIVE_UP_MS)
      line.socket = socket
      line.#synced = () => {
        clearTimeout(timer)
        resolve(line)
      }
      socket.setNoDelay(true)
      socket.on('connect', () => socket.write(Buffer.concat([upgrade(name), FIRST])))
      socket.on('data', (data) => line.#read(data))
      socket.on('error', ({ code }) => fail(code))
      socket.on('close', () => {
        line.isClosed = true
        fail('closed')
      })
    })
  }

  send (frame) { this.socket.write(frame) }
  close () { this.socket.destroy() }

  #read (data) {
    let bytes = this.#rest === null ? data : Buffer.concat([this.#rest, data])
    if (!this.#upgraded) {
      const end = bytes.indexOf('\r\n\r\n')
      if (end < 0) return void (this.#rest = bytes)
      if (!bytes.subarray(0, 12).equals(Buffer.from('HTTP/1.1 101'))) return this.socket.destroy()
      this.#upgraded = true
      bytes = bytes.subarray(end + 4)
    }
    let at = 0
    for (;;) {
      const found = payloadAt(bytes, at)
      if (found === null) break
      this.#hear(bytes, found.from)
      at = found.to
    }
    this.#rest = at === bytes.length ? null : bytes.subarray(at)
  }

  #hear (bytes, at) {
    if (bytes[at] !== SYNC) return
    if (bytes[at + 1] === STEP_2) this.#synced()
    if (bytes[at + 1] === UPDATE) this.#update(this)
  }
}

/** Where the payload of the frame at `at` is; null when the frame is not complete. */
const payloadAt = (bytes, at) => {
  if (bytes.length < at + 2) return null
  const short = bytes[at + 1] & 0x7f
  const head = short < 126 ? 2 : short === 126 ? 4 : 10
  if (bytes.length < at + head) return null
  const length = short < 126 ? short : short === 126 ? bytes.readUInt16BE(at + 2) : Number(bytes.readBigUInt64BE(at + 2))
  const from = at + head
  return bytes.length < from + length ? null : { from, to: from + length }
}
