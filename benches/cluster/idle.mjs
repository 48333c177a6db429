// Ninety thousand connections at rest on six nodes: what they take, and how long an edit takes to five thousand of them.

import { figure, nowUs, table } from '../rooms/figures.mjs'
import { Author } from './edits.mjs'
import { processorMs, withCluster, Worker } from './engines.mjs'
import { Line } from './line.mjs'

const NODES = 6
/** Who is not in the one large document is in one of so many people. */
const COMPANY = 10
const BROADCASTS = 10
const WARM = 100
const LARGE = 'everybody'
const MIB = 1 << 20

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const sum = (values) => values.reduce((sum, value) => sum + value, 0)

/** What the connections of one node open: their share of the large document, and of small ones that are on this node alone. */
const namesOf = (node, each, large) => [
  ...Array.from({ length: large }, () => LARGE),
  ...Array.from({ length: each - large }, (_, n) => `node${node}-${Math.floor(n / COMPANY)}`)
]

const measure = async ({ connections, large, seconds, say }) => withCluster(NODES, async ({ nodes, redis }) => {
  const each = Math.floor(connections / NODES)
  const share = Math.floor(large / NODES)
  const crowd = nodes.map(() => new Worker('crowd.mjs'))
  const all = (what, details = () => ({})) => Promise.all(crowd.map((worker, n) => worker.ask(what, details(n))))
  const memory = async () => sum(await Promise.all(nodes.map((node) => node.residentBytes())))
  const busy = () => sum(nodes.map(({ pid }) => processorMs(pid)))
  const from = (n) => `127.0.0.${n + 2}`
  try {
    // What a node loads with its first connections is no cost of the others.
    await all('connect', (n) => ({ port: nodes[n].port, names: namesOf(`warm${n}`, WARM, 0), from: from(n) }))
    const [before, busyBefore, began] = [await memory(), busy(), performance.now()]
    const open = await all('connect', (n) => ({ port: nodes[n].port, names: namesOf(n, each, share), watched: LARGE, from: from(n) }))
    const connectMs = performance.now() - began
    say(`idle: ${sum(open)} connections in ${(connectMs / 1000).toFixed(1)} s`)
    const connectBusy = busy() - busyBefore
    await pause(5000)
    const [restBegan, restBusy, redisBusy] = [performance.now(), busy(), processorMs(redis.pid)]
    await pause(seconds * 1000)
    const restMs = performance.now() - restBegan
    const [restCpu, redisCpu] = [(busy() - restBusy) / restMs, (processorMs(redis.pid) - redisBusy) / restMs]
    const after = await memory()
    const broadcasts = await broadcast(nodes[0], share, all)
    const still = sum(await all('open'))
    if (still !== sum(open)) throw new Error(`${still} of ${sum(open)} are still open`)
    return {
      connections: sum(open) - NODES * WARM, connectMs, connectBusy, restCpu, redisCpu,
      perConnection: (after - before) / (sum(open) - NODES * WARM), memory: after, broadcasts
    }
  } finally {
    await Promise.all(crowd.map((worker) => worker.stop()))
  }
})

/** Edits of the large document, one after the other: the time to half of its readers and to the last. */
const broadcast = async (node, share, all) => {
  const author = new Author()
  const line = await Line.open(node.port, LARGE)
  const times = []
  for (let n = 0; n < BROADCASTS; n++) {
    const frame = author.next()
    const sentUs = nowUs()
    line.send(frame)
    const heard = await all('heard', () => ({ count: share, sentUs }))
    times.push({ own: heard[0].max, others: Math.max(...heard.slice(1).map(({ max }) => max)), p50: heard.map(({ p50 }) => p50).sort((a, b) => a - b)[heard.length >> 1] })
  }
  line.close()
  return times
}

export const idle = async ({ connections, large, seconds, say }) => {
  const result = await measure({ connections, large, seconds, say })
  say(`idle: ${JSON.stringify(result)}`)
  return result
}

export const idleReport = (result, { large, seconds }) => {
  const ms = (key) => figure(result.broadcasts.map((round) => round[key] / 1000), 'ms')
  return [
    `### ${result.connections} connections at rest on ${NODES} nodes`, '',
    `${large - large % NODES} of them have one document open, ${large / NODES | 0} on each node; the others one of ${COMPANY} people. At rest for ${seconds} s,`,
    'keep-alives included.', '',
    table([
      ['', ''],
      ['memory of the nodes for each', `${(result.perConnection / 1024).toFixed(2)} KiB`],
      ['memory of all nodes', `${(result.memory / MIB).toFixed(0)} MiB`],
      ['processors that the nodes keep busy at rest', result.restCpu.toFixed(3)],
      ['processors that Redis keeps busy at rest', result.redisCpu.toFixed(3)],
      ['connections opened in a second', (result.connections / result.connectMs * 1000).toFixed(0)],
      ['processor time of the nodes to open one', `${(result.connectBusy / result.connections * 1000).toFixed(0)} µs`],
      [`an edit at half of the ${large}`, ms('p50')],
      ["an edit at the last of the writer's node", ms('own')],
      ['an edit at the last of the other nodes', ms('others')]
    ])
  ].join('\n')
}
