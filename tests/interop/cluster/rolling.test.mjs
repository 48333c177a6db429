// One node after the other is restarted while people write: they are sent away gently, come back elsewhere, and lose nothing.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { v300, v310 } from '../lib/clients.mjs'
import { HASTY, v2, v3, v4 } from '../lib/collab.mjs'
import { draws } from '../lib/draws.mjs'
import { until } from '../lib/until.mjs'
import { story } from './lib/cluster.mjs'
import { allShow, disagrees } from './lib/compare.mjs'
import { agreedByName, Counted, Echoed, losses, promises, quiet } from './lib/crowd.mjs'
import { Switchboard } from './lib/switchboard.mjs'

const SEED = Number(process.env.CLUSTER_SEED ?? randomInt(2 ** 31))
const NODES = 3
const EACH = 12
const DOCUMENTS = 6
const RESTART = 1012

/** Whether a node takes more: 503 and no answer at all are a no. */
const isReady = async (node) => {
  try {
    return (await node.get('/readyz')).status === 200
  } catch {
    return false
  }
}

/** Sends a node away and waits until it is gone. It must have said that it is not ready when the first client is told. */
const restart = async (t, node, authors) => {
  const before = authors.map((author) => author.ends.length)
  const told = () => authors.filter((author, n) => author.ends.length > before[n]).length
  const times = []
  const count = setInterval(() => { while (times.length < told()) times.push(Date.now()) }, 1).unref()
  const stopped = node.stop('SIGTERM')
  let polls = 0
  while (told() === 0 && await isReady(node)) polls++
  assert.equal(await isReady(node), false, 'it calls itself ready, and sends clients away')
  const atFirst = told()
  assert.deepEqual(await stopped, { code: 0, signal: null })
  clearInterval(count)
  t.diagnostic(`not ready after ${polls} looks, ${atFirst} were gone by then; ${times.length} sent away within ${times.at(-1) - times[0]} ms`)
  assert.ok(times.length > 1 && times.at(-1) > times[0], 'all were sent away at once')
  await node.resume()
  await until(() => isReady(node), 'it is ready again')
}

story('a rolling restart under load', { nodes: NODES }, async (t, cluster) => {
  t.diagnostic(`CLUSTER_SEED=${SEED}`)
  const draw = draws(SEED)
  const own = () => draws(draw() * 2 ** 32)
  const board = await Switchboard.open(t, cluster.nodes, own())
  const authors = Array.from({ length: EACH }, (_, n) => [
    new Echoed(t, [v310, v300][n % 2], board, `paper ${n % DOCUMENTS}`, `echoed${n}`, own()),
    new Counted(t, [[v4, v3, v2][n % 3], board, HASTY], `paper ${n % DOCUMENTS}`, `counted${n}`, own())
  ]).flat()
  await quiet(authors, 'everybody is in')
  for (const author of authors) author.start({ breaks: 0 })
  for (const node of cluster.nodes) {
    await restart(t, node, authors)
    await quiet(authors, 'everybody is back')
  }
  for (const author of authors) author.stop()
  await quiet(authors, 'everything is saved')
  const codes = new Set(authors.flatMap(({ ends }) => ends))
  assert.deepEqual(codes, new Set([RESTART]))
  const wanted = await agreedByName(authors)
  await allShow(cluster.nodes, wanted)
  assert.deepEqual(losses(promises(authors), wanted), [], 'saved, and not there')
  for (const author of authors) author.leave()
  await Promise.all(cluster.nodes.map((node) => node.stop('SIGTERM')))
  assert.equal(await disagrees(await cluster.lone(), wanted), null)
  const sum = (of) => authors.reduce((sum, author) => sum + of(author), 0)
  t.diagnostic(`${sum(({ written }) => written)} edits, ${sum(({ promised }) => promised)} of them called saved, all there`)
})
