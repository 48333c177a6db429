// A node is killed in the middle of edits, and those who wrote them never come back: whatever they were told is saved is there.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { classic } from '../lib/clients.mjs'
import { generations, HASTY } from '../lib/collab.mjs'
import { draws } from '../lib/draws.mjs'
import { until } from '../lib/until.mjs'
import { story } from './lib/cluster.mjs'
import { allAgree, shownBy } from './lib/compare.mjs'
import { agreedByName, audit, Counted, Echoed, losses, promises, quiet } from './lib/crowd.mjs'

const ROUNDS = Number(process.env.CLUSTER_KILL_ROUNDS ?? 10)
const SEED = Number(process.env.CLUSTER_SEED ?? randomInt(2 ** 31))
const ENOUGH = 30
const env = { SYNCLINE_STORE__COMPACT_BYTES: '4096' }

/** One of each kind of client, in a document each. */
const writers = (t, node, round, own) => [
  ...classic.map((client, n) => new Echoed(t, client, node, `echoed ${round}.${n}`, `e${round}.${n}`, own())),
  ...generations.map((generation, n) => new Counted(t, [generation, node, HASTY], `counted ${round}.${n}`, `c${round}.${n}`, own()))
]

const written = (authors, of) => authors.reduce((sum, author) => sum + author[of], 0)

story(`${ROUNDS} times killed, and no writer returns`, { nodes: 2, env }, async (t, cluster) => {
  t.diagnostic(`CLUSTER_SEED=${SEED}`)
  const draw = draws(SEED)
  const own = () => draws(draw() * 2 ** 32)
  const [doomed, other] = cluster.nodes
  let [edits, promised] = [0, 0]
  for (let round = 0; round < ROUNDS; round++) {
    const authors = writers(t, doomed, round, own)
    await quiet(authors, 'everybody is in')
    const write = setInterval(() => authors.forEach((author) => author.write()), 2)
    t.after(() => clearInterval(write))
    await until(() => authors.every((author) => author.written > ENOUGH && author.promised > 0), 'everybody was told something is saved')
    await pause(draw() * 30)
    const killed = doomed.stop('SIGKILL')
    clearInterval(write)
    // Taken before anything can come back: the writers' memory of the rest must not help.
    for (const author of authors) author.leave()
    await killed
    const kept = promises(authors)
    const contents = {}
    for (const { name } of authors) contents[name] = await shownBy(other, name)
    assert.deepEqual(losses(kept, contents), [], `round ${round}, CLUSTER_SEED=${SEED}`)
    edits += written(authors, 'written')
    promised += written(authors, 'promised')
    await doomed.resume()
    // The database may store what the dead node had under way after the other one has read.
    await allAgree([other, doomed], Object.keys(contents))
  }
  t.diagnostic(`${edits} edits, ${promised} of them called saved, all there`)
})

story('a node is killed while others have the same documents: nobody misses what was called saved', { nodes: 2, env }, async (t, cluster) => {
  const draw = draws(SEED)
  const own = () => draws(draw() * 2 ** 32)
  const [doomed, other] = cluster.nodes
  const here = generations.map((generation, n) => new Counted(t, [generation, doomed, HASTY], `paper ${n}`, `here${n}`, own()))
  const there = classic.map((client, n) => new Echoed(t, client, other, `paper ${n}`, `there${n}`, own()))
  const authors = [...here, ...there]
  await quiet(authors, 'everybody is in')
  for (const author of authors) author.start({ breaks: 0 })
  await until(() => authors.every((author) => author.promised > 3), 'everybody was told something is saved')
  const killed = doomed.stop('SIGKILL')
  for (const author of here) {
    author.stop()
    author.leave()
  }
  await killed
  const kept = promises(here)
  assert.deepEqual(await audit(cluster, there), [])
  for (const author of there) author.stop()
  await quiet(there, 'those of the other node')
  // The other node may have missed the last words of the dead one, and finds them in the store.
  let lost = []
  await until(async () => {
    lost = losses(kept, await agreedByName(there))
    return lost.length === 0
  }, () => `nothing is missed: ${lost}`)
})
