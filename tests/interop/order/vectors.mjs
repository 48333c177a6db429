// What `fractional-indexing` answers, for src/table/order/tests.rs to answer alike. `node order/vectors.mjs > order/vectors.txt`
// renews the file; order.test.mjs sees that it is what this makes.
//
// One case a line: `a b = key`, `a b * n = key key …`. `-` is an open end, `!` a refusal. Lines that begin with `#` are headings.

import { generateKeyBetween, generateNKeysBetween } from 'fractional-indexing'
import { generateJitteredKeyBetween } from 'fractional-indexing-jittered'
import { draws } from '../lib/draws.mjs'

const word = (key) => key ?? '-'
const attempt = (make) => {
  try {
    return [make()].flat().join(' ')
  } catch {
    return '!'
  }
}
const single = (a, b) => `${word(a)} ${word(b)} = ${attempt(() => generateKeyBetween(a, b))}`
const several = (a, b, n) => `${word(a)} ${word(b)} * ${n} = ${attempt(() => generateNKeysBetween(a, b, n))}`

/** Inserts at random places of a growing list, most of them at the ends and in one gap, as people do. */
function* walk(draw, steps, between) {
  const keys = []
  for (let step = 0; step < steps; step++) {
    const way = draw(4)
    const at = way === 0 ? keys.length : way === 1 ? 0 : way === 2 ? Math.min(1, keys.length) : draw(keys.length + 1)
    const [a, b] = [keys[at - 1] ?? null, keys[at] ?? null]
    yield [a, b]
    keys.splice(at, 0, between(a, b))
  }
}

export function vectors() {
  const chance = draws(20)
  const draw = (below) => Math.floor(chance() * below)
  const lines = ['# one between two']
  for (const [a, b] of walk(draw, 1500, (a, b) => generateKeyBetween(a, b))) lines.push(single(a, b))
  lines.push('# between jittered ones')
  Math.random = chance
  for (const [a, b] of walk(draw, 700, (a, b) => generateJitteredKeyBetween(a, b))) lines.push(single(a, b))
  lines.push('# where integers grow, shrink and end')
  const zeros = '0'.repeat(26)
  const edges = ['a0', 'az', 'b00', 'bzz', 'c000', 'Zz', 'Z0', 'Yzz', 'Y00', 'Xzzz', 'a0V', 'azzz', 'bzzz', 'Z01', 'Zzz']
  edges.push(`z${'z'.repeat(26)}`, `z${'z'.repeat(26)}V`, `z${'z'.repeat(26)}zzz`, `A${zeros}1`, `A${zeros}001`, `A${'0'.repeat(25)}1V`)
  edges.push(`y${'z'.repeat(25)}`, `B${'0'.repeat(25)}`)
  edges.sort((a, b) => (a < b ? -1 : 1))
  for (const [at, a] of edges.entries()) {
    lines.push(single(a, null), single(null, a), single(a, a))
    for (const b of edges.slice(at + 1)) lines.push(single(a, b))
  }
  lines.push('# many between two')
  for (const [a, b] of walk(draw, 90, (a, b) => generateKeyBetween(a, b))) lines.push(several(a, b, draw(30)))
  lines.push(several(null, null, 200), several('a5', null, 80), several(null, 'a5', 80), several('a1', 'a2', 80))
  lines.push('# refused')
  for (const bad of ['0', '00', 'a', 'b0', 'a00', 'a0V0', '!', '~0', `A${zeros}`, 'zzz', '9a', 'é0']) {
    lines.push(single(bad, null), single(null, bad), single('a0', bad), single(bad, 'b00'))
  }
  return lines.join('\n') + '\n'
}

if (import.meta.filename === process.argv[1]) process.stdout.write(vectors())
