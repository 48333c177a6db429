// Binds a textarea to a Y.Text, both ways, in smallest differences.
//
// From the person: one replaced range per input event. From others: the delta, with the caret and the selection carried
// along. While an input method composes (Japanese, Chinese, dead keys) the textarea is left alone in both directions, as
// touching it would abort the composition; both sides are reconciled when it ends.

import { UndoManager } from 'yjs'

/**
 * The one range in which two strings differ, never cutting a surrogate pair in two. The caret settles ties: "a" typed
 * into "aaaa" belongs before the caret, not at the end of the run.
 */
export const difference = (before, after, caret = after.length) => {
  const shorter = Math.min(before.length, after.length)
  const sameBehind = (n) => before[before.length - 1 - n] === after[after.length - 1 - n]
  let end = 0
  while (end < Math.min(shorter, after.length - caret) && sameBehind(end)) end++
  let start = 0
  while (start < shorter - end && before[start] === after[start]) start++
  while (end < shorter - start && sameBehind(end)) end++
  if (start > 0 && isHighSurrogate(before.charCodeAt(start - 1))) start--
  if (end > 0 && isLowSurrogate(before.charCodeAt(before.length - end))) end--
  return { start, removed: before.length - end - start, inserted: after.slice(start, after.length - end) }
}

const isHighSurrogate = (unit) => unit >= 0xd800 && unit <= 0xdbff
const isLowSurrogate = (unit) => unit >= 0xdc00 && unit <= 0xdfff

const isUndo = (event) => event.key.toLowerCase() === 'z' && !event.shiftKey
const isRedo = (event) => (event.key.toLowerCase() === 'z' && event.shiftKey) || (event.key.toLowerCase() === 'y' && event.ctrlKey)

/** Where an index lands after a delta. Text inserted exactly at the index goes behind it. */
export const shift = (index, delta) => {
  let at = 0
  for (const op of delta) {
    if (at > index) break
    if (op.retain !== undefined) {
      at += op.retain
    } else if (op.insert !== undefined) {
      const length = typeof op.insert === 'string' ? op.insert.length : 1
      if (at < index) index += length
      at += length
    } else {
      index = Math.max(at, index - op.delete)
    }
  }
  return index
}

/** Keeps `field` and `text` equal until the returned function is called. */
export const bind = (field, text, changed = () => {}) => {
  const origin = { field }
  let composing = false
  let shown = text.toString()
  field.value = shown
  changed(shown)

  const push = () => {
    const typed = field.value
    if (typed === shown) return
    const { start, removed, inserted } = difference(shown, typed, field.selectionStart)
    shown = typed
    text.doc.transact(() => {
      if (removed > 0) text.delete(start, removed)
      if (inserted.length > 0) text.insert(start, inserted)
    }, origin)
    changed(shown)
  }

  const show = (value, delta) => {
    const { selectionStart, selectionEnd, selectionDirection, scrollTop } = field
    shown = value
    field.value = value
    field.setSelectionRange(shift(selectionStart, delta), shift(selectionEnd, delta), selectionDirection)
    field.scrollTop = scrollTop
    changed(shown)
  }

  // What others wrote during a composition waits here, as deltas over `shown`.
  const held = []

  const observe = (event, transaction) => {
    if (transaction.origin === origin) return
    if (composing) held.push(event.delta)
    else show(text.toString(), event.delta)
  }

  const start = () => { composing = true }
  const end = () => {
    composing = false
    if (held.length === 0) return push()
    // The person's change was made over the old text: find it there, then carry it over what others did meanwhile.
    const { start, removed, inserted } = difference(shown, field.value, field.selectionStart)
    const caret = field.selectionStart - start - inserted.length
    const carry = (index) => held.reduce(shift, index)
    const from = carry(start)
    const to = Math.max(from, carry(start + removed))
    held.length = 0
    text.doc.transact(() => {
      if (to > from) text.delete(from, to - from)
      if (inserted.length > 0) text.insert(from, inserted)
    }, origin)
    shown = text.toString()
    field.value = shown
    const at = Math.max(0, from + inserted.length + Math.min(0, caret))
    field.setSelectionRange(at, at)
    changed(shown)
  }
  const input = () => { if (!composing) push() }

  // The browser forgets its own history whenever a value is set, and would undo what others wrote.
  const history = new UndoManager(text, { trackedOrigins: new Set([origin]) })
  const key = (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || composing || !(isUndo(event) || isRedo(event))) return
    event.preventDefault()
    if (field.readOnly) return
    if (isUndo(event)) history.undo()
    else history.redo()
  }

  field.addEventListener('input', input)
  field.addEventListener('keydown', key)
  field.addEventListener('compositionstart', start)
  field.addEventListener('compositionend', end)
  text.observe(observe)
  return () => {
    field.removeEventListener('input', input)
    field.removeEventListener('keydown', key)
    history.destroy()
    field.removeEventListener('compositionstart', start)
    field.removeEventListener('compositionend', end)
    text.unobserve(observe)
  }
}
