// A client without manners: sends whatever bytes it likes.

import { once } from 'node:events'
import { WebSocket } from 'ws'
import * as encoding from 'lib0/encoding'

/** The frame of a sync update that carries `update`, bytes or hex. */
export const updateFrame = (update, step = 2) => {
  const encoder = encoding.createEncoder()
  encoding.writeVarUint(encoder, 0)
  encoding.writeVarUint(encoder, step)
  encoding.writeVarUint8Array(encoder, typeof update === 'string' ? Buffer.from(update, 'hex') : update)
  return encoding.toUint8Array(encoder)
}

/** Connects, sends `frames` as far as the server lets it, and resolves when the socket is closed on either side. */
export const send = async (server, name, frames) => {
  const socket = new WebSocket(`${server.syncUrl}/${name.split('/').map(encodeURIComponent).join('/')}`, {
    perMessageDeflate: false
  })
  socket.on('error', () => {})
  const closed = once(socket, 'close')
  await Promise.race([once(socket, 'open'), closed])
  for (const frame of frames) {
    if (socket.readyState !== WebSocket.OPEN) break
    await new Promise((resolve) => socket.send(frame, resolve))
  }
  // A pong comes after the server has read all that was sent before it.
  if (socket.readyState === WebSocket.OPEN) {
    socket.ping()
    await Promise.race([once(socket, 'pong'), closed])
  }
  if (socket.readyState === WebSocket.OPEN) socket.close()
  await closed
}
