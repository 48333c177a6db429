// Worker: connections that do nothing but hear, and when each of them heard of an edit.

import { nowUs, quantiles } from '../rooms/figures.mjs'
import { answer } from '../rooms/processes.mjs'
import { Line } from './line.mjs'

const AT_ONCE = 64
const SETTLE_MS = 60_000

const lines = []
let heard = []

answer({
  /** Opens a connection for each name; those of `watched` note when they hear of an edit. Each process comes from an address of its own. */
  async connect ({ port, names, watched, from }) {
    let next = 0
    const one = async () => {
      while (next < names.length) {
        const name = names[next++]
        lines.push(await Line.open(port, name, { from, update: name === watched ? () => heard.push(nowUs()) : undefined }))
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, one))
    return lines.length
  },

  /** When `count` of ours had heard of the edit sent at `sentUs`: microseconds after it. */
  async heard ({ count, sentUs }) {
    const deadline = Date.now() + SETTLE_MS
    while (heard.length < count && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 2))
    if (heard.length !== count) throw new Error(`${heard.length} of ${count} have heard of it`)
    const [p50, max] = quantiles(heard.map((at) => at - sentUs), 0.5, 1)
    heard = []
    return { p50, max }
  },

  /** How many are open. */
  open () { return lines.filter(({ isClosed }) => isClosed !== true).length }
})
