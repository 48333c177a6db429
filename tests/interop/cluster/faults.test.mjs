// Everything goes wrong once while sixty people write: in the end all copies, all nodes and the store are equal, and whatever
// somebody was told is saved is there. CLUSTER_SEED draws the same faults again.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { test } from 'node:test'
import { v210, v300, v310 } from '../lib/clients.mjs'
import { HASTY, v2, v3, v4 } from '../lib/collab.mjs'
import { draws } from '../lib/draws.mjs'
import { Cluster } from './lib/cluster.mjs'
import { allShow, disagrees } from './lib/compare.mjs'
import { agreedByName, audit, Counted, Echoed, losses, promises, quiet } from './lib/crowd.mjs'
import { play, schedule } from './lib/schedule.mjs'
import { Switchboard } from './lib/switchboard.mjs'

const SECONDS = Number(process.env.CLUSTER_SECONDS ?? 15)
const COUNT = Number(process.env.CLUSTER_SEEDS ?? 1)
const FIRST = Number(process.env.CLUSTER_SEED ?? randomInt(2 ** 31))
const NODES = 3
const DOCUMENTS = 20
const EACH = 30
const SETTLE_MS = 90_000
/** Small enough for compactions to be among what is interrupted. */
const env = { SYNCLINE_STORE__COMPACT_BYTES: '8192' }

/** Half of them come back to the node where they were, the others to any. */
const crowd = (t, cluster, board, draw) => {
  const where = (n) => n % 2 === 0 ? cluster.nodes[(n / 2) % NODES] : board
  const name = (n) => `paper ${n % DOCUMENTS}`
  const own = () => draws(draw() * 2 ** 32)
  return Array.from({ length: EACH }, (_, n) => [
    new Echoed(t, [v310, v300, v210][n % 3], where(n), name(n), `echoed${n}`, own()),
    new Counted(t, [[v4, v3, v2][n % 3], where(n + 1), HASTY], name(n), `counted${n}`, own())
  ]).flat()
}

/** Plays the faults; after each, while PostgreSQL is there, looks into the store for what was called saved. */
const suffer = async (t, cluster, authors, faults) => {
  let [isAway, outages, audits] = [false, 0, 0]
  const begins = (fault, atMs) => {
    t.diagnostic(`${atMs} ms: ${JSON.stringify(fault)}`)
    if (fault.what !== 'postgres') return
    isAway = true
    outages++
  }
  const over = async ({ what }, atMs) => {
    t.diagnostic(`${atMs} ms: ${what} is over`)
    if (what === 'postgres') isAway = false
    const [mayFail, before] = [isAway, outages]
    let lost = []
    try {
      lost = await audit(cluster, authors)
      audits++
    } catch (error) {
      if (!mayFail && outages === before) throw error
    }
    assert.deepEqual(lost, [], `called saved, and not in the store after ${what}`)
  }
  await play(cluster, faults, begins, over)
  t.diagnostic(`the store was looked into ${audits} times meanwhile`)
}

const run = async (t, cluster, draw, faults) => {
  const board = await Switchboard.open(t, cluster.nodes, draws(draw() * 2 ** 32))
  const authors = crowd(t, cluster, board, draw)
  await quiet(authors, 'everybody is in', SETTLE_MS)

  for (const author of authors) author.start()
  const ended = new Promise((resolve) => setTimeout(resolve, SECONDS * 1000))
  await suffer(t, cluster, authors, faults)
  await ended
  for (const author of authors) author.stop()

  await quiet(authors, 'everybody is back, and saved', SETTLE_MS)
  const wanted = await agreedByName(authors)
  await allShow(cluster.nodes, wanted)
  assert.deepEqual(losses(promises(authors), wanted), [], 'saved, and not there')

  for (const author of authors) author.leave()
  const ends = await Promise.all(cluster.nodes.map((node) => node.stop('SIGTERM')))
  assert.deepEqual(ends.map(({ code }) => code), cluster.nodes.map(() => 0))
  assert.equal(await disagrees(await cluster.lone(), wanted), null, 'the store')
  const sum = (of) => authors.reduce((sum, author) => sum + of(author), 0)
  t.diagnostic(`${sum(({ written }) => written)} edits, ${sum(({ promised }) => promised)} of them called saved, all there`)
}

for (let seed = FIRST; seed < FIRST + COUNT; seed++) {
  test(`seed ${seed}: three nodes, everything fails once in ${SECONDS} s`, { timeout: (SECONDS + 300) * 1000 }, async (t) => {
    const draw = draws(seed)
    const faults = schedule(draw, SECONDS, NODES)
    const cluster = await Cluster.start(t, { nodes: NODES, env })
    try {
      await run(t, cluster, draw, faults)
    } catch (error) {
      error.message += `\nCLUSTER_SEED=${seed} CLUSTER_SECONDS=${SECONDS}\n${faults.map((fault) => JSON.stringify(fault)).join('\n')}\n${cluster.log}`
      throw error
    }
  })
}
