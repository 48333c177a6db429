// Runs every *.test.mjs here and in specs/ against SYNCLINE_BIN. Most of the time is spent waiting (90 s of silence, 20 MB at 1 MB/s), so
// the files run side by side, the longest from the start. Arguments are passed on to `node --test`, names of files choose
// among them.

import { spawnSync } from 'node:child_process'
import { accessSync, constants, readdirSync } from 'node:fs'
import { BIN } from './lib/server.mjs'

try {
  accessSync(BIN, constants.X_OK)
} catch {
  console.error(`interop: no server at ${BIN}; build it or set SYNCLINE_BIN`)
  process.exit(1)
}

const here = new URL('.', import.meta.url)
const given = process.argv.slice(2)
const chosen = given.filter((name) => name.endsWith('.test.mjs'))
const flags = given.filter((name) => !name.endsWith('.test.mjs'))
const LONGEST = 'quiet.test.mjs'
const tests = (folder) => readdirSync(new URL(folder, here)).filter((name) => name.endsWith('.test.mjs')).sort()
const all = [...tests('.'), ...tests('specs').map((name) => `specs/${name}`)]
const files = chosen.length > 0 ? chosen : [LONGEST, ...all.filter((name) => name !== LONGEST)]
const args = ['--test', '--test-concurrency=6', '--test-timeout=300000', '--test-reporter=spec', ...flags, ...files]
const { status } = spawnSync(process.execPath, args, { cwd: here, stdio: 'inherit' })
process.exit(status ?? 1)
