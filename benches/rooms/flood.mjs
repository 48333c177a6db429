// Twenty thousand who want to come in while everything is taken, and what those inside notice of it.

import { setTimeout as pause } from 'node:timers/promises'
import { token } from '../../tests/interop/lib/token.mjs'
import { figure, ratio, table } from './figures.mjs'
import { Worker, startSyncline } from './processes.mjs'

const CEILING = 200
const EDITORS = 50
const TABLES = 10
const PROCESSES = 2
/** The clients of those inside share a processor with the attempts, and are to be measured rather than these. */
const NICE = 10
const FIELD = 'text'
const MIB = 1 << 20

/** Tables with a row for each of their editors: where each of them writes. */
const makeTables = async (url) => {
  const authorization = `Bearer ${token({ '*': 'admin' }, { sub: 'operator' })}`
  const ask = async (method, path, body) => {
    const headers = { authorization, 'content-type': 'application/json' }
    const response = await fetch(url + path, { method, headers, body: JSON.stringify(body) })
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
    return response.json()
  }
  const cells = []
  for (let n = 0; n < TABLES; n++) {
    const tableId = `flood${n}`
    await ask('PUT', `/v1/tables/${tableId}`, { fields: [{ id: FIELD, name: 'Text', type: 'number' }] })
    const rows = Array.from({ length: EDITORS / TABLES }, () => ({ cells: { [FIELD]: 0 } }))
    const { records } = await ask('POST', `/v1/tables/${tableId}/records`, { records: rows })
    cells.push(...records.map(({ id }) => ({ tableId, recordId: id, fieldId: FIELD })))
  }
  return cells
}

const sum = (counts) => counts.reduce((all, some) => {
  for (const [what, count] of Object.entries(some)) all[what] = (all[what] ?? 0) + count
  return all
}, {})

const measure = async ({ attempts, seconds }) => {
  const server = await startSyncline({ SYNCLINE_LIMITS__CONNECTIONS: String(CEILING) })
  const editors = new Worker('editors.mjs')
  const crowd = Array.from({ length: PROCESSES }, () => new Worker('attempts.mjs', { nice: NICE }))
  const all = (what, details) => Promise.all(crowd.map((worker) => worker.ask(what, details)))
  try {
    const cells = await makeTables(server.url)
    await editors.ask('connect', { url: server.url, cells, idle: CEILING - EDITORS })
    await all('prepare', { attempts: attempts / PROCESSES })
    await editors.ask('start')
    await pause(1000)
    await editors.ask('stop')

    const processorBefore = server.processorMs
    await editors.ask('start')
    await pause(seconds * 1000)
    const before = await editors.ask('stop')
    const busyBefore = (server.processorMs - processorBefore) / (seconds * 1000)
    const memory = { before: server.memory.now }

    const [began, processor] = [performance.now(), server.processorMs]
    await editors.ask('start')
    const outcomes = sum(await all('run', { url: server.url }))
    const [tookMs, busyMs] = [performance.now() - began, server.processorMs - processor]
    const during = await editors.ask('stop')
    memory.after = server.memory.now

    const waiting = (await all('leave')).reduce((one, other) => one + other)
    await editors.ask('start')
    await pause(2000)
    const later = await editors.ask('stop')
    memory.gone = server.memory.now
    const again = sum(await all('run', { url: server.url }))
    await all('leave')
    memory.again = server.memory.now
    const [busyDuring, rate] = [busyMs / tookMs, attempts / (tookMs / 1000)]
    return { before, during, later, busyBefore, busyDuring, rate, outcomes, again, waiting, memory }
  } finally {
    await Promise.all([editors, ...crowd].map((worker) => worker.stop()))
    await server.stop()
  }
}

/** What makes a run worthless. */
const check = ({ before, during, later, outcomes, again, waiting }, attempts) => {
  const failures = [...before.failures, ...during.failures, ...later.failures]
  if (failures.length > 0) throw new Error(`${failures.length} edits failed, the first with ${failures[0]}`)
  if (later.lost > 0) throw new Error(`${later.lost} of those inside were disconnected`)
  const { waits = 0, refused = 0 } = outcomes
  if (waits + refused !== attempts || waiting !== waits) throw new Error(`${waiting} wait; attempts: ${JSON.stringify(outcomes)}`)
  // A place in line that nobody gave back would be missing the second time.
  if (again.waits !== waits) throw new Error(`the second time: ${JSON.stringify(again)}`)
}

export const flood = async ({ rounds, attempts, seconds, say }) => {
  const results = []
  for (let n = 0; n < rounds; n++) {
    const result = await measure({ attempts, seconds })
    say(`flood, round ${n + 1}: ${JSON.stringify(result)}`)
    check(result, attempts)
    results.push(result)
  }
  return results
}

export const floodReport = (results, attempts) => {
  const ms = (phase, key) => figure(results.map((round) => round[phase][key] / 1000), 'ms')
  const line = (what, key) =>
    [what, ratio(results, ({ during }) => during[key], ({ before }) => before[key]), ms('before', key), ms('during', key)]
  const of = (value, unit) => figure(results.map(value), unit)
  const mib = (key) => of(({ memory }) => memory[key] / MIB, 'MiB')
  const grown = (what, key) =>
    [what, ratio(results, ({ memory }) => memory[key], ({ memory }) => memory.before), mib('before'), mib(key)]
  const [{ outcomes }] = results
  return [
    `### ${attempts} attempts beyond the ceiling`, '',
    `${CEILING} are in, ${EDITORS} of them edit a cell every 200 ms; rounds: ${results.length}. Of ${attempts} attempts`,
    `${outcomes.waits} were told their place in line by \`queue:status\`, and ${outcomes.refused ?? 0} were refused with`,
    `\`OVERLOADED\`. All ${CEILING} stayed connected, and every edit was acknowledged.`, '',
    table([
      ['', 'during to before', 'before', 'during'],
      line('acknowledged, p50', 'p50'),
      line('acknowledged, p99', 'p99'),
      line('acknowledged, longest', 'max'),
      line('of that the clients\' own lateness, p99', 'late99'),
      ['processor in use', ratio(results, ({ busyDuring }) => busyDuring, ({ busyBefore }) => busyBefore),
        of(({ busyBefore }) => busyBefore * 100, '%'), of(({ busyDuring }) => busyDuring * 100, '%')],
      ['attempts a second', '–', '0', of(({ rate }) => rate, '')],
      grown('memory with those who wait', 'after'),
      grown('memory when all of them are gone', 'gone'),
      grown('memory when as many again came and went', 'again')
    ])
  ].join('\n')
}
