// A line between two programs that can be cut: each node has one of its own to Redis.

import { connect, createServer } from 'node:net'
import { once } from 'node:events'

export class Gate {
  #state = 'open'
  #pairs = new Set()
  #listener

  /** Leads to `port` on this machine until the end of `t`. */
  static async open (t, port) {
    const gate = new Gate()
    gate.#listener = createServer({ pauseOnConnect: true }, (near) => gate.#join(near, port))
    gate.#listener.listen(0, '127.0.0.1')
    await once(gate.#listener, 'listening')
    gate.port = gate.#listener.address().port
    t.after(() => {
      gate.#listener.close()
      gate.#break()
    })
    return gate
  }

  #join (near, port) {
    if (this.#state === 'cut') return near.destroy()
    const far = connect(port, '127.0.0.1')
    const pair = [near, far]
    this.#pairs.add(pair)
    for (const socket of pair) {
      socket.setNoDelay(true)
      socket.on('error', () => {})
      socket.on('close', () => {
        this.#pairs.delete(pair)
        near.destroy()
        far.destroy()
      })
    }
    if (this.#state === 'open') flow(pair)
  }

  #break () { for (const [near] of this.#pairs) near.destroy() }

  /** Every connection breaks off, and no new one comes through. */
  cut () {
    this.#state = 'cut'
    this.#break()
  }

  /** Nothing comes through, and nobody is told: as when a cable is pulled. */
  stall () {
    this.#state = 'stalled'
    for (const [near, far] of this.#pairs) {
      for (const [from, to] of [[near, far], [far, near]]) {
        from.unpipe(to)
        from.pause()
      }
    }
  }

  /** Everything comes through again, also what waited. */
  heal () {
    this.#state = 'open'
    for (const pair of this.#pairs) flow(pair)
  }
}

const flow = ([near, far]) => {
  near.pipe(far)
  far.pipe(near)
}
