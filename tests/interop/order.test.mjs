// Order keys: the vectors are what the npm package answers, and what the server makes is taken by the npm packages.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { generateKeyBetween } from 'fractional-indexing'
import * as jittered from 'fractional-indexing-jittered'
import { vectors } from './order/vectors.mjs'

const read = (name) => readFileSync(new URL(`order/${name}`, import.meta.url), 'utf8')

test('the vectors are what fractional-indexing answers', () => {
  assert.equal(read('vectors.txt'), vectors())
})

test('keys of the server sort, and others fit between them, in both packages', () => {
  const keys = read('jittered.txt').trim().split('\n')
  assert.ok(keys.length > 300)
  const ways = { generateKeyBetween, jitteredKey: jittered.generateJitteredKeyBetween }
  for (const [name, between] of Object.entries(ways)) {
    for (const [at, key] of keys.entries()) {
      const next = keys[at + 1] ?? null
      const made = between(key, next)
      assert.ok(key < made && (next === null || made < next), `${name}(${key}, ${next}) is ${made}`)
    }
    assert.ok(between(null, keys[0]) < keys[0])
  }
})
