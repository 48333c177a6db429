// Measures several nodes and prints or writes the tables: `node main.mjs --help`.

import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { found } from '../../tests/interop/cluster/lib/postgres.mjs'
import { BIN } from '../../tests/interop/lib/server.mjs'
import { table } from '../rooms/figures.mjs'
import { idle, idleReport } from './idle.mjs'
import { latency, latencyReport } from './latency.mjs'
import { throughput, throughputReport } from './throughput.mjs'

const USAGE = 'main.mjs [--rounds N] [--only latency|throughput|idle] [--connections N] [--try] [--write FILE]'
const MARKS = ['<!-- measured: written by `make bench-cluster` -->', '<!-- end of measured -->']

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    only: { type: 'string' },
    connections: { type: 'string', default: '90000' },
    try: { type: 'boolean', default: false },
    write: { type: 'string' },
    help: { type: 'boolean', default: false }
  }
})
if (values.help) {
  console.log(USAGE)
  process.exit()
}
const rounds = values.try ? 1 : Number(values.rounds)
const seconds = values.try ? 1 : 10
const crowd = values.try
  ? { connections: 1200, large: 120, seconds: 1 }
  : { connections: Number(values.connections), large: Math.min(5000, Number(values.connections) / 6), seconds: 30 }
const say = (line) => console.error(line)

const first = (...argv) => execFileSync(argv[0], argv.slice(1), { encoding: 'utf8' }).trim().split('\n')[0]
const build = () => (/\/release\//.test(BIN) ? 'release build' : 'not known to be a release build: orders of magnitude only')

/** The state of the machine, taken before anything is measured. */
const place = [
  ['', ''],
  ['Processors', `${cpus().length}, ${cpus()[0].model}; nodes, PostgreSQL, Redis and clients share them`],
  ['Memory', `${Math.round(totalmem() / 2 ** 30)} GiB`],
  ['Kernel', release()],
  ['Load average at the start (1, 5, 15 minutes)', loadavg().map((load) => load.toFixed(2)).join(', ')],
  ['Syncline', `${first(BIN, '--version').split(' ').at(-1)}, commit ${first('git', 'describe', '--always', '--dirty')}, ${build()}`],
  ['Beside it', [first('redis-server', '--version').split(' sha')[0], first(found('postgres'), '--version'), `Node ${process.version}`].join(', ')]
]

const parts = {
  latency: async () => latencyReport(await latency({ rounds, seconds, say }), seconds),
  throughput: async () => throughputReport(await throughput({ rounds, seconds, say }), seconds),
  idle: async () => idleReport(await idle({ ...crowd, say }), crowd)
}
const reports = []
for (const [name, run] of Object.entries(parts)) {
  if (values.only === undefined || values.only === name) reports.push(await run())
}
if (reports.length === 0) throw new Error(USAGE)
const text = [...reports, `### Where it was measured\n\n${table(place)}`].join('\n\n')

if (values.write === undefined) {
  console.log(text)
} else {
  const page = readFileSync(values.write, 'utf8')
  const [from, to] = [page.indexOf(MARKS[0]), page.indexOf(MARKS[1])]
  if (from < 0 || to < from) throw new Error(`${values.write} has no marks`)
  writeFileSync(values.write, `${page.slice(0, from)}${MARKS[0]}\n\n${text}\n\n${page.slice(to)}`)
}
