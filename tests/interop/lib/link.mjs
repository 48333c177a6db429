// A TCP link between client and server with a speed, to be a slow line in a test.

import { createServer, connect } from 'node:net'
import { once } from 'node:events'

const TICK_MS = 20

/** A proxy to `server` that lets `bytesPerSecond` through towards the client, and everything the other way. */
export class Link {
  connections = 0

  static async open (t, server, bytesPerSecond) {
    const link = new Link()
    const sockets = new Set()
    const listener = createServer((near) => {
      link.connections++
      const far = connect(server.port, '127.0.0.1')
      for (const socket of [near, far]) {
        sockets.add(socket)
        socket.setNoDelay(true)
        socket.on('error', () => {})
        socket.on('close', () => sockets.delete(socket))
      }
      near.pipe(far)
      near.on('close', () => far.destroy())
      trickle(far, near, bytesPerSecond)
    })
    listener.listen(0, '127.0.0.1')
    await once(listener, 'listening')
    link.syncUrl = `ws://127.0.0.1:${listener.address().port}/sync`
    t.after(() => {
      listener.close()
      for (const socket of sockets) socket.destroy()
    })
    return link
  }
}

// Reads only as much as may pass, so that the backlog stays in the server's socket as it would on a real line.
const trickle = (from, to, bytesPerSecond) => {
  let allowance = 0
  let last = Date.now()
  const timer = setInterval(() => {
    const now = Date.now()
    allowance = Math.min(allowance + (now - last) / 1000 * bytesPerSecond, bytesPerSecond / 4)
    last = now
    while (allowance >= 1) {
      const available = Math.min(Math.floor(allowance), from.readableLength)
      const chunk = available > 0 ? from.read(available) : from.read(0)
      if (chunk === null) break
      allowance -= chunk.length
      to.write(chunk)
    }
  }, TICK_MS)
  from.on('readable', () => {})
  from.on('end', () => to.end())
  from.on('close', () => {
    clearInterval(timer)
    to.destroy()
  })
}
