// Edits that are saved in a second, in many documents: three nodes against one, on the same machine.

import { figure, ratio, table } from '../rooms/figures.mjs'
import { Author } from './edits.mjs'
import { processorMs, withCluster } from './engines.mjs'
import { Line } from './line.mjs'

const DOCUMENTS = 300
/** So many edits of a document are on their way at once. */
const WINDOW = 8
const SIZES = [1, 3]
const WARM_MS = 1000

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** Writes into one document and keeps `WINDOW` edits on their way; counts what came back saved. */
class Writer {
  saved = 0
  #author = new Author()
  #isWriting = true

  static async open (port, name) {
    const writer = new Writer()
    writer.line = await Line.open(port, name, { update: () => writer.#next() })
    return writer
  }

  start () { for (let n = 0; n < WINDOW; n++) this.line.send(this.#author.next()) }

  #next () {
    this.saved++
    if (this.#isWriting) this.line.send(this.#author.next())
  }

  stop () {
    this.#isWriting = false
    this.line.close()
  }
}

const measure = (size, seconds) => withCluster(size, async ({ nodes }) => {
  // As a balancer that hashes the path would do it: one document, one node.
  const writers = await Promise.all(Array.from({ length: DOCUMENTS }, (_, n) => Writer.open(nodes[n % size].port, `busy${n}`)))
  for (const writer of writers) writer.start()
  await pause(WARM_MS)
  const count = () => writers.reduce((sum, { saved }) => sum + saved, 0)
  const busy = () => nodes.reduce((sum, { pid }) => sum + processorMs(pid), 0)
  const [before, busyBefore, own, began] = [count(), busy(), processorMs('self'), performance.now()]
  await pause(seconds * 1000)
  const tookMs = performance.now() - began
  const result = {
    rate: (count() - before) / (tookMs / 1000),
    nodes: (busy() - busyBefore) / tookMs,
    clients: (processorMs('self') - own) / tookMs
  }
  for (const writer of writers) writer.stop()
  return result
})

/** Rounds of both sizes, each in the other order than the one before. */
export const throughput = async ({ rounds, seconds, say }) => {
  const results = []
  for (let n = 0; n < rounds; n++) {
    const round = {}
    for (const size of n % 2 === 0 ? SIZES : SIZES.toReversed()) {
      round[size] = await measure(size, seconds)
      say(`throughput, round ${n + 1}, ${size} nodes: ${JSON.stringify(round[size])}`)
    }
    results.push(round)
  }
  return results
}

export const throughputReport = (results, seconds) => {
  const line = (what, key, unit, of = 1) => [
    what,
    ratio(results, (round) => round[3][key], (round) => round[1][key]),
    ...SIZES.map((size) => figure(results.map((round) => round[size][key] * of), unit))
  ]
  return [
    `### Saved edits in ${DOCUMENTS} documents: three nodes against one`, '',
    `${WINDOW} edits of each document on their way at once, for ${seconds} s; rounds: ${results.length}. One PostgreSQL, one Redis.`, '',
    table([
      ['', 'three to one', 'one node', 'three nodes'],
      line('edits saved in a second', 'rate', ''),
      line('processors that the nodes keep busy', 'nodes', ''),
      line('processors that the clients keep busy', 'clients', '')
    ])
  ].join('\n')
}
