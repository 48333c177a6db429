// An edit is published once, however many nodes there are. Redis itself counts.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { Peer, v310 } from '../lib/clients.mjs'
import { Editor, v4 } from '../lib/collab.mjs'
import { until, windowOf } from '../lib/until.mjs'
import { Cluster, params, shows } from './lib/cluster.mjs'
import { agreed } from './lib/compare.mjs'
import { Postgres } from './lib/postgres.mjs'

const postgres = await Postgres.start({ after })
const SIZES = [2, 3, 6]
const EDITS = 1000
/** What nodes compare now and then is among what is counted: more of it the slower the machine. Growth would be 2 and 5. */
const SLACK = 0.5
/** Heartbeats are not what is counted: let them be few. */
const env = { SYNCLINE_BUS__HEARTBEAT_SECONDS: '5' }

/** Every way to publish. */
const published = async (redis) => {
  const calls = await redis.calls()
  return (calls.publish ?? 0) + (calls.spublish ?? 0) + (calls.xadd ?? 0)
}

/** Publishes while `act` runs, and how long it took. */
const during = async (redis, act) => {
  const [before, began] = [await published(redis), performance.now()]
  await act()
  return { count: await published(redis) - before, ms: performance.now() - began }
}

/** Resolves when the writer is told that its edit is saved. */
const told = ({ provider }) => new Promise((resolve) => {
  const look = () => {
    if (provider.hasUnsyncedChanges) return
    provider.off('unsyncedChanges', look)
    resolve()
  }
  provider.on('unsyncedChanges', look)
  look()
})

/** Publishes for each of `EDITS` edits, each acknowledged before the next, without what happens anyhow in that time. */
const perEdit = async (t, size) => {
  const cluster = await Cluster.start(t, { nodes: size, postgres, env })
  const copies = await Promise.all(cluster.nodes.map((node, n) => n % 2 === 0
    ? new Editor(t, [v4, node], 'counted', { awareness: null, ...shows(`editor${n}`) }).synced()
    : new Peer(t, v310, node, 'counted', params(`peer${n}`)).synced()))
  for (const { awareness } of copies) awareness?.setLocalState(null)
  const [writer] = copies
  writer.type('the first one is not counted')
  await writer.saved()
  await agreed(copies.map(({ doc }) => doc))
  const edits = await during(cluster.redis, async () => {
    for (let n = 0; n < EDITS; n++) {
      writer.doc.getMap('edits').set(`${n}`, n)
      await told(writer)
    }
    await until(() => copies.every(({ doc }) => doc.getMap('edits').size === EDITS), 'all edits everywhere')
  })
  const rest = await during(cluster.redis, () => windowOf(edits.ms))
  for (const node of cluster.nodes) await node.stop('SIGKILL')
  t.diagnostic(`${size} nodes: ${edits.count} publishes for ${EDITS} edits in ${edits.ms.toFixed(0)} ms, ${rest.count} in as long a rest`)
  return (edits.count - rest.count) / EDITS
}

test('publishes for each acknowledged edit do not grow with the number of nodes', async (t) => {
  const ratios = []
  for (const size of SIZES) ratios.push(await perEdit(t, size))
  t.diagnostic(SIZES.map((size, n) => `${size} nodes: ${ratios[n].toFixed(2)} publishes per edit`).join(', '))
  for (const ratio of ratios) {
    assert.ok(ratio > 0.5 && ratio <= 1 + SLACK, `publishes per edit: ${ratios}`)
    assert.ok(Math.abs(ratio - ratios[0]) <= SLACK, `publishes per edit: ${ratios}`)
  }
})
