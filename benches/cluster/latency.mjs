// How long an edit takes to a reader of the same node and to one of another node: the same edit, in the same run.

import { figure, nowUs, quantiles, ratio, table } from '../rooms/figures.mjs'
import { Author } from './edits.mjs'
import { withCluster } from './engines.mjs'
import { Line } from './line.mjs'

const DOCUMENTS = 20
const RATE = 100
const WARM = 100
const SETTLE_MS = 20_000

/** One document: its writer, a reader beside it and one on the other node, and when each heard of the edit that is on its way. */
class Paper {
  #author = new Author()
  #sent = 0
  heard = { saved: [], here: [], there: [] }

  static async open (name, here, there) {
    const paper = new Paper()
    const note = (who) => () => paper.heard[who].push(nowUs() - paper.#sent)
    paper.lines = await Promise.all([
      Line.open(here.port, name, { update: note('saved') }),
      Line.open(here.port, name, { update: note('here') }),
      Line.open(there.port, name, { update: note('there') })
    ])
    return paper
  }

  /** Whether all have heard of all edits so far. */
  isQuiet (count) { return Object.values(this.heard).every(({ length }) => length >= count) }

  write () {
    const frame = this.#author.next()
    this.#sent = nowUs()
    this.lines[0].send(frame)
  }

  close () { for (const line of this.lines) line.close() }
}

const until = async (condition) => {
  const deadline = Date.now() + SETTLE_MS
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('an edit did not arrive')
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

/** Edits at a steady pace, one at a time in each document; who is not done yet is passed over until it is. */
const write = async (papers, counts, total) => {
  const began = nowUs()
  for (let edit = 0; edit < total; edit++) {
    const n = edit % papers.length
    await until(() => nowUs() >= began + edit * 1e6 / RATE && papers[n].isQuiet(counts[n]))
    counts[n]++
    papers[n].write()
  }
  await until(() => papers.every((paper, n) => paper.isQuiet(counts[n])))
}

const measure = (seconds, flipped) => withCluster(2, async ({ nodes }) => {
  const [here, there] = flipped ? nodes.toReversed() : nodes
  const papers = await Promise.all(Array.from({ length: DOCUMENTS }, (_, n) => Paper.open(`latency${n}`, here, there)))
  const counts = papers.map(() => 0)
  await write(papers, counts, WARM)
  for (const { heard } of papers) for (const times of Object.values(heard)) times.length = 0
  await write(papers, papers.map(() => 0), RATE * seconds)
  const result = {}
  for (const who of ['here', 'saved', 'there']) {
    const [p50, p99] = quantiles(papers.flatMap(({ heard }) => heard[who]), 0.5, 0.99)
    Object.assign(result, { [`${who}50`]: p50, [`${who}99`]: p99 })
  }
  for (const paper of papers) paper.close()
  return result
})

/** Each round with fresh nodes; who writes changes places. */
export const latency = async ({ rounds, seconds, say }) => {
  const results = []
  for (let n = 0; n < rounds; n++) {
    results.push(await measure(seconds, n % 2 === 1))
    say(`latency, round ${n + 1}: ${JSON.stringify(results.at(-1))}`)
  }
  return results
}

export const latencyReport = (results, seconds) => {
  const line = (what, key) => [what, ...[50, 99].flatMap((share) => [
    figure(results.map((round) => round[`${key}${share}`] / 1000), 'ms'),
    key === 'here' ? '1' : ratio(results, (round) => round[`${key}${share}`], (round) => round[`here${share}`])
  ])]
  return [
    `### ${RATE} edits a second in ${DOCUMENTS} documents on two nodes`, '',
    `Each edit is heard by a reader of the writer's node and by one of the other node, and comes back to its writer when it is`,
    `saved. ${seconds} s; rounds: ${results.length}.`, '',
    table([
      ['from sending to', 'p50', 'to the same node', 'p99', 'to the same node'],
      line('a reader of the same node', 'here'),
      line('its writer, as saved', 'saved'),
      line('a reader of the other node', 'there')
    ])
  ].join('\n')
}
