// The page's own arithmetic, without a browser: differences, carets, and the ledger behind "saved".

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as Y from '../../web/node_modules/yjs/dist/yjs.mjs'
import { difference, shift } from '../../web/src/binding.js'
import { Ledger, subtract } from '../../web/src/saved.js'

/** Numbers below `max` that are the same in every run. */
const dice = (seed) => (max) => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
  return Math.floor(seed / 2 ** 32 * max)
}

describe('differences', () => {
  test('the caret settles where a repeated letter was typed', () => {
    assert.deepEqual(difference('aaaa', 'aaaaa', 1), { start: 0, removed: 0, inserted: 'a' })
    assert.deepEqual(difference('aaaa', 'aaaaa', 5), { start: 4, removed: 0, inserted: 'a' })
    assert.deepEqual(difference('aaaa', 'aaa', 2), { start: 2, removed: 1, inserted: '' })
  })

  test('any difference leads from the one text to the other and keeps surrogate pairs whole', () => {
    const roll = dice(7)
    const letters = ['a', 'b', '😀', '😁', 'é']
    const word = () => Array.from({ length: roll(7) }, () => letters[roll(letters.length)]).join('')
    const isCut = (text) => /^[\udc00-\udfff]|[\ud800-\udbff]$/.test(text)
    for (let n = 0; n < 20_000; n++) {
      const [before, after] = [word(), word()]
      const { start, removed, inserted } = difference(before, after, roll(after.length + 1))
      assert.equal(before.slice(0, start) + inserted + before.slice(start + removed), after)
      assert.ok(!isCut(inserted) && !isCut(before.slice(start, start + removed)), JSON.stringify([before, after]))
    }
  })

  test('a caret stays beside its letter, whatever others write', () => {
    assert.equal(shift(3, [{ retain: 1 }, { insert: 'xy' }]), 5)
    assert.equal(shift(3, [{ retain: 3 }, { insert: 'xy' }]), 3)
    assert.equal(shift(3, [{ retain: 1 }, { delete: 1 }]), 2)
    assert.equal(shift(3, [{ retain: 1 }, { delete: 9 }]), 1)
    assert.equal(shift(0, [{ insert: 'x' }]), 0)
  })
})

describe('the ledger', () => {
  test('ranges are struck out piece by piece', () => {
    assert.deepEqual(subtract([{ clock: 2, len: 6 }], 4, 2), [{ clock: 2, len: 2 }, { clock: 6, len: 2 }])
    assert.deepEqual(subtract([{ clock: 2, len: 6 }], 0, 9), [])
    assert.deepEqual(subtract([{ clock: 2, len: 6 }], 8, 1), [{ clock: 2, len: 6 }])
  })

  test('it is empty exactly when every update has come back, one by one or merged', () => {
    const roll = dice(11)
    for (const merge of [false, true]) {
      const doc = new Y.Doc()
      const ledger = new Ledger()
      const updates = []
      doc.on('update', (update) => {
        ledger.note(update)
        updates.push(update)
      })
      const text = doc.getText('text')
      for (let n = 0; n < 300; n++) {
        if (roll(3) === 0 && text.length > 3) text.delete(roll(text.length - 2), 1 + roll(2))
        else text.insert(roll(text.length + 1), 'ab')
      }
      const echoes = merge ? [Y.mergeUpdates(updates.slice(0, 150)), Y.mergeUpdates(updates.slice(150))] : updates
      for (const echo of echoes) {
        assert.equal(ledger.isEmpty, false)
        ledger.strike(echo)
      }
      assert.equal(ledger.isEmpty, true)
    }
  })

  test('what is resent after a lost echo is enough to settle it', () => {
    const doc = new Y.Doc()
    const ledger = new Ledger()
    doc.getText('text').insert(0, 'settled long ago')
    doc.on('update', (update) => ledger.note(update))
    doc.getText('text').insert(3, 'open')
    doc.getText('text').delete(0, 2)
    ledger.strike(Y.encodeStateAsUpdate(doc, ledger.floor(doc)))
    assert.equal(ledger.isEmpty, true)
  })
})
