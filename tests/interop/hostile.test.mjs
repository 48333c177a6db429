// Two honest people keep working while somebody sends updates that are known to kill yrs, and plain garbage.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { converged, Peer, v300, v310 } from './lib/clients.mjs'
import { readText } from './lib/content.mjs'
import { send, updateFrame } from './lib/raw.mjs'
import { Server } from './lib/server.mjs'

/** Update sequences (V1), each from a clean start: docs/HAZARDS.md says what each did. */
const corpus = [
  ['0101020900040204000300', '0101020681020a0401030200030404'],
  ['0101010004010361727204f09f988000'],
  ['01010200830206016100'],
  ['0101040a82010e000101011500'],
  ['01035c000701016101b2005c000171017d012801016d026b31017d0100'],
  ['010226000701016101a20026000171017d00'],
  ['0101010000ffffffff0f00'],
  ['0201010ca2011200077b2261223a317d010112000400'],
  ['0101040281030bffffffffffffff0f0103010901'],
  ['0202020200020a80010102feffffff0f0101000100'],
  ['8084af5f'],
  ['00'], [''], ['000000'], ['ffffffffffffffffff01']
]

/** Content `Any` nested `depth` deep, as an update that sets a key of a map. */
const nested = (depth) => `01010100280101${'6d'}01${'6b'}01${'75'.concat('01').repeat(depth)}7e00`

const garbage = [
  Buffer.alloc(0),
  Buffer.from('00', 'hex'),
  Buffer.from('0000', 'hex'),
  Buffer.from('0002ffffffff0f', 'hex'),
  Buffer.from('000004ffffffff', 'hex'),
  Buffer.from('00048084af5f', 'hex'),
  Buffer.from('0000048084af5f', 'hex'),
  Buffer.from('01048084af5f', 'hex'),
  Buffer.from('0106010100027b7d', 'hex'),
  Buffer.from('010901010004ffffffff00', 'hex'),
  Buffer.from('02', 'hex'), Buffer.from('03', 'hex'), Buffer.from('7f', 'hex'), Buffer.from('ffffffffffffffffffff', 'hex'),
  Buffer.concat([Buffer.from('00020200000002020000', 'hex'), Buffer.from('0002ff', 'hex')]),
  Buffer.alloc(17 << 20, 0xff),
  Buffer.alloc(1 << 20),
  'a text frame'
]

const attacks = [
  ...corpus.map((sequence) => sequence.map((hex) => updateFrame(hex))),
  ...corpus.map((sequence) => sequence.map((hex) => updateFrame(hex, 1))),
  ...[100, 1000, 10_000].map((depth) => [updateFrame(nested(depth))]),
  ...garbage.map((frame) => [frame]),
  ...Array.from({ length: 40 }, () => [randomBytes(200)]),
  ...Array.from({ length: 40 }, () => [updateFrame(randomBytes(60).toString('hex'))]),
  [Buffer.from('00000100', 'hex'), ...corpus.flat().map((hex) => updateFrame(hex)), ...garbage.slice(0, 8)]
]

/** What the real Yjs wrote, and mulberry32 to tamper with it: the same attacks in every run. */
const genuine = readFileSync(new URL('../../protocol/vectors/updates/yjs13.jsonl', import.meta.url), 'utf8')
  .trim().split('\n').map((line) => Buffer.from(JSON.parse(line).update, 'hex'))

const dice = (seed) => (bound) => {
  seed = (seed + 0x6d2b79f5) | 0
  let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
  return ((mixed ^ (mixed >>> 14)) >>> 0) % bound
}

const mutated = (below) => {
  const bytes = Buffer.from(genuine[below(genuine.length)])
  for (let changes = 1 + below(3); changes > 0; changes--) {
    const at = below(bytes.length)
    bytes[at] = [below(12), bytes[at] + 1, bytes[at] ^ (1 << below(8)), below(256)][below(4)]
  }
  return bytes
}

const MUTATED_CONNECTIONS = 4000
const MUTATED_EACH = 5
const LANES = 8
const GROWTH_MAX = 200e6

const wheres = [
  ['on a fresh document each time', (index) => `hostile/other ${index}`],
  ['on their own document', () => 'hostile/shared']
]

describe('a hostile client', { concurrency: true }, () => {
  for (const [where, target] of wheres) {
    test(`${where} hurts nobody`, async (t) => {
      const server = await Server.start(t)
      const alice = await new Peer(t, v310, server, 'hostile/shared').synced()
      const bob = await new Peer(t, v300, server, 'hostile/shared').synced()
      const words = []
      for (const [index, frames] of attacks.entries()) {
        await send(server, target(index), frames)
        assert.ok(server.isRunning, `the server survived attack ${index}:\n${server.log}`)
        const author = index % 2 === 0 ? alice : bob
        author.doc.getText('text').insert(author.doc.getText('text').length, `${index} `)
        words.push(index)
        // A hostile update that is possible after all belongs to the document from then on; the honest text is compared.
        await converged([alice, bob], readText).catch((error) => {
          throw new Error(`after attack ${index} (${Buffer.from(frames.at(-1)).subarray(0, 40).toString('hex')}): ${error.message}`)
        })
      }
      assert.equal(readText(alice.doc), `${words.join(' ')} `)
      await alice.acknowledged()
      await bob.acknowledged()
      assert.deepEqual([alice.closes, bob.closes], [[], []])
      const late = await new Peer(t, v310, server, 'hostile/shared').synced()
      assert.equal(readText(late.doc), readText(alice.doc))
      assert.equal((await server.get('/healthz')).status, 200)
      t.diagnostic(`${attacks.length} attacks, resident ${Math.round(await server.residentBytes() / 1e6)} MB`)
    })
  }

  // The engine may die of one hostile history in some hundred thousand (fuzz/README.md); these are the same in every run, though not their order.
  test('with thousands of tampered updates of its own documents and of a shared one hurts nobody', async (t) => {
    const server = await Server.start(t)
    const name = 'hostile/tampered'
    const alice = await new Peer(t, v310, server, name).synced()
    const bob = await new Peer(t, v300, server, name).synced()
    const honest = (doc) => doc.getText('honest').toString()
    const below = dice(20260101)
    const before = await server.residentBytes()
    let next = 0
    const attacker = async () => {
      while (next < MUTATED_CONNECTIONS) {
        const index = next++
        const frames = Array.from({ length: MUTATED_EACH }, () => updateFrame(mutated(below)))
        await send(server, index % 4 === 0 ? name : `hostile/own ${index % 50}`, frames)
        assert.ok(server.isRunning, `the server survived attack ${index}:\n${server.log}`)
        if (index % 50 === 0) [alice, bob][index / 50 % 2].doc.getText('honest').insert(0, `${index} `)
      }
    }
    await Promise.all(Array.from({ length: LANES }, attacker))
    await converged([alice, bob], honest)
    assert.deepEqual(new Set(honest(alice.doc).trim().split(' ').map(Number)), new Set(Array.from({ length: MUTATED_CONNECTIONS / 50 }, (_, i) => i * 50)))
    assert.deepEqual([alice.closes, bob.closes], [[], []])
    const late = await new Peer(t, v310, server, name).synced()
    assert.equal(honest(late.doc), honest(alice.doc))
    const grown = await server.residentBytes() - before
    assert.ok(grown < GROWTH_MAX, `grew by ${Math.round(grown / 1e6)} MB`)
    t.diagnostic(`${MUTATED_CONNECTIONS * MUTATED_EACH} tampered updates, grew by ${Math.round(grown / 1e6)} MB`)
  })
})
