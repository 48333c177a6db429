// Whether copies of documents are equal: those of authors, of nodes, and of the store.

import { isDeepStrictEqual } from 'node:util'
import * as Y from 'yjs'
import { until } from '../../lib/until.mjs'
import { operator } from './cluster.mjs'

const SETTLE_MS = 90_000

const sorted = (object) => Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)))

/** All of a document that can differ. */
export const content = (doc) => ({
  vector: sorted(Object.fromEntries(Y.decodeStateVector(Y.encodeStateVector(doc)))),
  edits: sorted(doc.getMap('edits').toJSON()),
  drafts: sorted(doc.getMap('drafts').toJSON()),
  text: doc.getText('text').toString(),
  waiting: doc.store.pendingStructs !== null || doc.store.pendingDs !== null
})

/** What a node has of a document, as `content` tells it. */
export const shownBy = async (node, name) => {
  const doc = new Y.Doc()
  const state = await node.state(name, operator)
  if (state !== null) Y.applyUpdate(doc, state)
  return content(doc)
}

/** The first way in which two contents differ; null when there is none. */
export const difference = (a, b) => {
  const part = Object.keys(a).find((key) => !isDeepStrictEqual(a[key], b[key]))
  if (part === undefined) return null
  if (typeof a[part] !== 'object') return `${part}: ${JSON.stringify(a[part])} and ${JSON.stringify(b[part])}`
  const key = Object.keys({ ...a[part], ...b[part] }).find((key) => a[part][key] !== b[part][key])
  return `${part}.${key}: ${a[part][key]} and ${b[part][key]}`
}

/** Waits until the copies of a document are equal; answers what they show. */
export const agreed = async (docs, timeoutMs = SETTLE_MS) => {
  const [first, ...others] = docs
  let problem = null
  await until(() => {
    const shown = content(first)
    problem = others.map((doc) => difference(shown, content(doc))).find((found) => found !== null) ?? null
    return problem === null
  }, () => `equal copies: ${problem}`, timeoutMs)
  return content(first)
}

/** The first of the documents of which `node` shows something else than `wanted`, which has a content for each name. */
export const disagrees = async (node, wanted) => {
  for (const [name, content] of Object.entries(wanted)) {
    const found = difference(content, await shownBy(node, name))
    if (found !== null) return `${name}: ${found}`
  }
  return null
}

/** Waits until every node shows what is wanted. */
export const allShow = async (nodes, wanted, timeoutMs = SETTLE_MS) => {
  for (const [n, node] of nodes.entries()) {
    let problem = null
    await until(async () => (problem = await disagrees(node, wanted)) === null, () => `node ${n} has all: ${problem}`, timeoutMs)
  }
}

/** Waits until all nodes show the same of each document. */
export const allAgree = async ([first, ...others], names) => {
  let problem = null
  const agree = async () => {
    const wanted = {}
    for (const name of names) wanted[name] = await shownBy(first, name)
    for (const node of others) if ((problem = await disagrees(node, wanted)) !== null) return false
    return true
  }
  await until(agree, () => `the nodes agree: ${problem}`, SETTLE_MS)
}
