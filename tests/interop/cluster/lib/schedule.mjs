// What goes wrong, and when: drawn from a seed.

/** Of a run of a minute; a shorter one has shorter faults. */
const MINUTE = 60
const POSTGRES_SECONDS = 5
const CUT_SECONDS = 10
/** Faults begin after the first and end before the last of the run. */
const [FROM, UNTIL] = [0.05, 0.95]

/** One of each: `{what, atMs, forMs, node?, how?}`, by the time at which it begins. They may overlap. */
export const schedule = (draw, seconds, nodes) => {
  const share = seconds / MINUTE
  const one = (what, forSeconds, more = {}) => {
    const forMs = Math.round(forSeconds * share * 1000)
    const room = seconds * 1000 * (UNTIL - FROM) - forMs
    return { what, atMs: Math.round(seconds * 1000 * FROM + draw() * room), forMs, ...more }
  }
  const node = () => Math.floor(draw() * nodes)
  return [
    one('kill', 1 + draw() * 9, { node: node() }),
    one('redis', 1 + draw() * 9),
    one('postgres', POSTGRES_SECONDS, { how: draw() < 0.5 ? 'crash' : 'freeze' }),
    one('cut', CUT_SECONDS, { node: node(), how: draw() < 0.5 ? 'cut' : 'stall' })
  ].sort((a, b) => a.atMs - b.atMs)
}

/** How a fault begins and ends in `cluster`. */
const HOW = {
  kill: [({ nodes }, { node }) => nodes[node].stop('SIGKILL'), ({ nodes }, { node }) => revive(nodes[node])],
  redis: [({ redis }) => redis.kill(), ({ redis }) => redis.resume()],
  postgres: [({ postgres }, { how }) => postgres[how](), ({ postgres }, { how }) => how === 'crash' ? postgres.resume() : postgres.thaw()],
  cut: [({ nodes }, { node, how }) => nodes[node].gate[how](), ({ nodes }, { node }) => nodes[node].gate.heal()]
}

/** As something that looks after services does: one that cannot start now is started again. */
const revive = async (node) => {
  for (let failures = 0; ; failures++) {
    try {
      return await node.resume()
    } catch (error) {
      if (failures === 30) throw error
      await pause(500)
    }
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** Does all of it at its time, and resolves when the last one is over; a failure is told only then. `begins` and `over` hear
 * of each fault. */
export const play = async (cluster, faults, begins, over) => {
  const began = Date.now()
  const ends = await Promise.allSettled(faults.map(async (fault) => {
    const [begin, end] = HOW[fault.what]
    await pause(fault.atMs)
    begins(fault, Date.now() - began)
    await begin(cluster, fault)
    await pause(Math.max(0, began + fault.atMs + fault.forMs - Date.now()))
    await end(cluster, fault)
    await over(fault, Date.now() - began)
  }))
  const failed = ends.find(({ status }) => status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
