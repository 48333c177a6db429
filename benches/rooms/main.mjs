// Measures rooms and prints or writes the tables: `node main.mjs --help`.

import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { table } from './figures.mjs'
import { flood, floodReport } from './flood.mjs'
import { latency, latencyReport } from './latency.mjs'
import { BIN } from './processes.mjs'

const USAGE = 'main.mjs [--rounds N] [--only latency|flood] [--try] [--write FILE]'
const PACKAGES = ['socket.io', 'socket.io-client', 'ws']
const MARKS = ['<!-- measured: written by `make bench-rooms` -->', '<!-- end of measured -->']

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    only: { type: 'string' },
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
const attempts = values.try ? 2_000 : 20_000
const say = (line) => console.error(line)

const version = (name) => createRequire(import.meta.url)(`${name}/package.json`).version
const commit = () => execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim()
const number = () => execFileSync(BIN, ['--version'], { encoding: 'utf8' }).trim().split(' ').at(-1)
const build = () => (/\/release\//.test(BIN) ? 'release build' : 'not known to be a release build: orders of magnitude only')

/** The state of the machine, taken before anything is measured. */
const place = [
  ['', ''],
  ['Processors', `${cpus().length}, ${cpus()[0].model}; the server on one, everybody else on another`],
  ['Memory', `${Math.round(totalmem() / 2 ** 30)} GiB`],
  ['Kernel', release()],
  ['Load average at the start (1, 5, 15 minutes)', loadavg().map((load) => load.toFixed(2)).join(', ')],
  ['Syncline', `${number()}, commit ${commit()}, ${build()}`],
  ['npm', [...PACKAGES.map((name) => `\`${name}\` ${version(name)}`), `Node ${process.version}`].join(', ')]
]

const parts = {
  latency: async () => latencyReport(await latency({ rounds, seconds, say }), seconds),
  flood: async () => floodReport(await flood({ rounds, attempts, seconds, say }), attempts)
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
