// A load balancer: each connection goes to one of the nodes, whichever is drawn; where it does not answer, to the next.

import { connect, createServer } from 'node:net'
import { once } from 'node:events'

export class Switchboard {
  #nodes
  #draw
  /** How many connections each node was given. */
  given = new Map()

  /** `draw` tells numbers in [0, 1). It is there until the end of `t`. */
  static async open (t, nodes, draw) {
    const board = new Switchboard()
    board.#nodes = nodes
    board.#draw = draw
    const sockets = new Set()
    const listener = createServer({ pauseOnConnect: true }, (near) => {
      sockets.add(near)
      near.on('close', () => sockets.delete(near))
      near.on('error', () => {})
      board.#lead(near, board.#order())
    })
    listener.listen(0, '127.0.0.1')
    await once(listener, 'listening')
    board.port = listener.address().port
    t.after(() => {
      listener.close()
      for (const socket of sockets) socket.destroy()
    })
    return board
  }

  get url () { return `http://127.0.0.1:${this.port}` }
  get syncUrl () { return `ws://127.0.0.1:${this.port}/sync` }
  get collabUrl () { return `ws://127.0.0.1:${this.port}/collab` }

  /** All nodes, the drawn one first. */
  #order () {
    const first = Math.floor(this.#draw() * this.#nodes.length)
    return this.#nodes.map((_, n) => this.#nodes[(first + n) % this.#nodes.length])
  }

  #lead (near, [node, ...others]) {
    if (node === undefined || near.destroyed) return near.destroy()
    const far = connect(node.port, '127.0.0.1')
    const refused = () => this.#lead(near, others)
    far.once('error', refused)
    far.once('connect', () => {
      far.off('error', refused)
      this.given.set(node, (this.given.get(node) ?? 0) + 1)
      join(near, far)
    })
  }
}

const join = (near, far) => {
  for (const [from, to] of [[near, far], [far, near]]) {
    from.setNoDelay(true)
    from.on('error', () => {})
    from.on('close', () => to.destroy())
    from.pipe(to)
  }
  if (near.destroyed) far.destroy()
}
