// Writes yjs13.jsonl and yjs14.jsonl: one update a line, with what Yjs itself reads in it.
// Same seed, same bytes: `npm ci && npm run generate` must leave no difference.
import { writeFileSync } from 'node:fs'
import * as Y from 'yjs'
import * as Y14 from '@y/y'

// mulberry32
const random = seed => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}
let next = random(20240229)
const below = n => Math.floor(next() * n)
const pick = list => list[below(list.length)]

const runs = list => {
  const out = []
  for (const [client, start, end] of list) {
    const last = out[out.length - 1]
    if (last && last[0] === client && last[2] === start) last[2] = end
    else out.push([client, start, end])
  }
  return out
}

// What Yjs 13 reads in an update. Version 14 writes the same format.
const describe = (name, update) => {
  const { structs, ds } = Y.decodeUpdate(update)
  const real = structs.filter(struct => struct.constructor.name !== 'Skip')
  return {
    name,
    update: Buffer.from(update).toString('hex'),
    structs: real.length,
    gap: real.length !== structs.length,
    ranges: runs(real.map(s => [s.id.client, s.id.clock, s.id.clock + s.length]))
      .sort((a, b) => b[0] - a[0] || a[1] - b[1]),
    deletes: [...ds.clients].flatMap(([client, items]) => items.map(d => [client, d.clock, d.clock + d.len]))
      .sort((a, b) => b[0] - a[0] || a[1] - b[1]),
    stateVector: [...Y.decodeStateVector(Y.encodeStateVectorFromUpdate(update))].sort((a, b) => b[0] - a[0])
  }
}

const lines = []
const add = (name, update) => lines.push(describe(name, update))

const replica = (clientID, options = {}) => {
  const doc = new Y.Doc({ guid: `doc-${clientID}`, ...options })
  doc.clientID = clientID
  const updates = []
  doc.on('update', update => updates.push(update))
  return { doc, updates }
}

const record = (name, clientID, edit, options) => {
  const { doc, updates } = replica(clientID, options)
  edit(doc)
  updates.forEach((update, i) => add(`${name} ${i}`, update))
  add(`${name} whole`, Y.encodeStateAsUpdate(doc))
  return doc
}

const words = ['a', 'Wort', 'größe', '漢字', '😀', '👩‍👩‍👧', 'e\u0301', 'tab\t', '\u0000', 'long '.repeat(30), '\ud83d', '\uffff']
const anyValues = [
  null, true, false, 0, -0, 1, -1, 63, 64, -64, 8191, 2 ** 31 - 1, -(2 ** 31), 2 ** 31, 2 ** 53, 0.5, 1 / 3, NaN, Infinity,
  [2n ** 40n, -1n], [undefined], '', 'text', '😀', [], {}, [1, [2, [3, 'x']]], { a: { b: { c: [null, true] } } }, new Uint8Array([1, 2, 255]), new Uint8Array(0)
]

const stories = () => {
  add('empty', Y.encodeStateAsUpdate(new Y.Doc()))
  record('typing', 1, doc => [...'hello, wörld 😀!'].forEach((c, i) => doc.getText('t').insert(doc.getText('t').length, c)))
  record('surrogates cut in two', 2, doc => {
    const text = doc.getText('t')
    text.insert(0, '😀😀😀')
    text.insert(1, 'x')
    text.delete(3, 1)
  })
  record('formatting', 3, doc => {
    const text = doc.getText('t')
    text.insert(0, 'bold and italic', { bold: true })
    text.format(5, 3, { italic: { level: 2, nested: [1, { a: null }] } })
    text.format(0, 15, { bold: null })
    text.insertEmbed(3, { image: 'x"\\\u0007é😀', size: [1.5, -2e-7, 1e21] })
    text.applyDelta([{ retain: 4 }, { insert: 'delta', attributes: { link: 'https://a.b/?c=d' } }, { delete: 2 }])
    text.insertEmbed(0, new Y.Map([['in', 'text']]))
  })
  record('any values', 4, doc => {
    doc.getArray('a').insert(0, anyValues)
    anyValues.forEach((value, i) => doc.getMap('m').set(`k${i}`, value))
    anyValues.forEach((value, i) => doc.getMap('m').set(`k${i}`, anyValues[anyValues.length - 1 - i]))
    doc.getMap('m').delete('k3')
    doc.getArray('a').delete(2, 9)
  })
  record('nested', 5, doc => {
    let map = doc.getMap('root')
    for (let level = 0; level < 60; level++) {
      const child = new Y.Map()
      map.set('child', child)
      map.set('n', level)
      map = child
    }
    const array = new Y.Array()
    map.set('array', array)
    array.push([new Y.Text('inner'), new Y.Array(), new Y.Map(), 1, 'x'])
  })
  record('xml', 6, doc => {
    const fragment = doc.getXmlFragment('x')
    const p = new Y.XmlElement('p')
    fragment.insert(0, [p, new Y.XmlText('after')])
    p.setAttribute('class', 'a b')
    p.insert(0, [new Y.XmlText('text'), new Y.XmlElement('br'), new Y.XmlElement('größe')])
    p.get(0).insert(2, 'bold', { strong: true })
    p.delete(1, 1)
    const inner = new Y.XmlFragment()
    doc.getMap('m').set('fragment', inner)
    fragment.delete(0, 1)
  })
  record('empty names', 7, doc => {
    doc.getMap('').set('', 1)
    doc.getMap('').set('key', new Y.Text('x'))
  })
  record('subdocuments', 8, doc => {
    doc.getMap('m').set('sub', new Y.Doc({ guid: 'guid-1', meta: { a: [1] }, autoLoad: true }))
    doc.getArray('a').push([new Y.Doc({ guid: 'guid-2', gc: false })])
    doc.getMap('m').delete('sub')
  })
  record('binary', 9, doc => doc.getArray('a').push([new Uint8Array(300).map((_, i) => i)]))
  for (const gc of [true, false]) {
    record(`collected ${gc}`, gc ? 10 : 11, doc => {
      const rows = doc.getMap('rows')
      for (let i = 0; i < 12; i++) {
        doc.transact(() => {
          const row = new Y.Map()
          rows.set(`r${i}`, row)
          row.set('a', i)
          row.set('b', new Y.Text('cell'))
        })
      }
      for (let i = 0; i < 12; i += 2) rows.delete(`r${i}`)
      doc.getText('t').insert(0, 'to be deleted')
      doc.getText('t').delete(3, 5)
    }, { gc })
  }
  record('undo', 12, doc => {
    const text = doc.getText('t')
    const manager = new Y.UndoManager([text, doc.getMap('m')], { captureTimeout: 0 })
    text.insert(0, 'one')
    doc.getMap('m').set('k', new Y.Map([['x', 1]]))
    text.delete(0, 2)
    doc.getMap('m').set('k', 2)
    while (manager.canUndo()) manager.undo()
    while (manager.canRedo()) manager.redo()
    manager.undo()
  })
  record('high ids', 2 ** 53 - 1, doc => doc.getText('t').insert(0, 'x'))
  record('many rows', 13, doc => doc.transact(() => {
    for (let i = 0; i < 250; i++) doc.getMap('rows').set(`r${i}`, new Y.Map([['a', i], ['b', `cell ${i}`]]))
  }))
}

const edit = doc => {
  const text = doc.getText('text')
  const map = doc.getMap('map')
  const array = doc.getArray('array')
  const xml = doc.getXmlFragment('xml')
  const nested = [...map.values()].filter(value => value instanceof Y.Map)
  const act = pick([
    () => text.insert(below(text.length + 1), pick(words)),
    () => text.insert(below(text.length + 1), pick(words), { [pick(['b', 'i', 'link'])]: pick([true, 'x', { y: 1 }]) }),
    () => text.length > 0 && text.delete(below(text.length), 1),
    () => text.length > 1 && text.format(0, 1 + below(text.length - 1), { [pick(['b', 'i'])]: pick([true, null]) }),
    () => text.insertEmbed(below(text.length + 1), { e: pick(['x', 1, [true]]) }),
    () => map.set(pick(['a', 'b', 'c', 'd']), pick(anyValues)),
    () => map.set(pick(['m1', 'm2']), new Y.Map([['k', pick(words)]])),
    () => nested.length > 0 && pick(nested).set(pick(['k', 'l']), pick([1, 'x', new Y.Array(), new Y.Map(), new Y.Text('in')])),
    () => map.delete(pick(['a', 'b', 'm1', 'm2'])),
    () => array.insert(below(array.length + 1), [pick(anyValues), pick(anyValues)]),
    () => array.insert(below(array.length + 1), [pick([new Y.Map(), new Y.Text('t'), new Y.Array()])]),
    () => array.length > 0 && array.delete(below(array.length), 1),
    () => xml.insert(below(xml.length + 1), [pick([new Y.XmlElement('p'), new Y.XmlText('x')])]),
    () => xml.length > 0 && xml.delete(below(xml.length), 1)
  ])
  act()
}

// Several replicas edit; updates travel in a random order, late, or merged.
const history = (seed, replicas, steps, gc) => {
  next = random(seed)
  const all = Array.from({ length: replicas }, (_, i) => ({ ...replica(seed * 1000 + below(2 ** 31) + i, { gc }), inbox: [] }))
  all.forEach((from, i) => from.doc.on('update', (update, _origin, _doc, transaction) => {
    if (!transaction.local) return
    all.forEach((to, j) => i !== j && to.inbox.push(update))
  }))
  for (let step = 0; step < steps; step++) {
    const { doc, inbox } = pick(all)
    const name = `history ${seed} step ${step}`
    if (next() < 0.6) {
      doc.transact(() => { for (let i = below(3); i >= 0; i--) edit(doc) })
    } else if (inbox.length > 0) {
      const [update] = inbox.splice(below(inbox.length), 1)
      Y.applyUpdate(doc, update)
      add(`${name} sent`, update)
    }
    if (inbox.length > 3 && next() < 0.1) {
      const some = inbox.splice(0, 2 + below(inbox.length - 2))
      const merged = Y.mergeUpdates(some.filter(() => next() < 0.8).concat(some[0]))
      add(`${name} merged`, merged)
      Y.applyUpdate(doc, merged)
    }
    if (next() < 0.06) {
      // With structs held back this has gaps.
      add(`${name} state`, Y.encodeStateAsUpdate(doc))
      add(`${name} diff`, Y.encodeStateAsUpdate(doc, Y.encodeStateVector(pick(all).doc)))
      add(`${name} diff of update`, Y.diffUpdate(Y.encodeStateAsUpdate(doc), Y.encodeStateVector(pick(all).doc)))
      add(`${name} through v2`, Y.convertUpdateFormatV2ToV1(Y.encodeStateAsUpdateV2(doc)))
      const half = new Y.Doc({ gc: false })
      Y.applyUpdate(half, Y.encodeStateAsUpdate(doc))
      add(`${name} snapshot`, Y.encodeStateAsUpdate(Y.createDocFromSnapshot(half, Y.snapshot(half))))
    }
  }
  all.forEach(({ doc, inbox }) => inbox.forEach(update => Y.applyUpdate(doc, update)))
  all.forEach(({ doc }, i) => {
    // Updates were lost on the way; now everybody has everything.
    all.forEach(other => Y.applyUpdate(doc, Y.encodeStateAsUpdate(other.doc)))
    add(`history ${seed} end ${i}`, Y.encodeStateAsUpdate(doc))
  })
}

// Version 14 has one type for everything; a few edits are enough to see that it writes the same format.
const stories14 = () => {
  const all = [201, 200].map(id => {
    const doc = new Y14.Doc({ guid: `doc-${id}` })
    doc.clientID = id
    return { doc, updates: [] }
  })
  all.forEach(({ doc, updates }) => doc.on('update', update => updates.push(update)))
  all.forEach(({ doc }, i) => {
    const text = doc.get('text')
    const map = doc.get('map')
    text.insert(0, 'hello 😀')
    text.format(1, 2, { bold: true })
    text.delete(2, 2)
    map.setAttr('a', [1, { b: null }])
    map.setAttr('nested', new Y14.Type())
    map.getAttr('nested').setAttr('x', `y${i}`)
    map.getAttr('nested').insert(0, [1, 2, 'three', new Y14.Type('p')])
    map.deleteAttr('a')
  })
  const [a, b] = all
  const sent = [...a.updates]
  sent.reverse().forEach(update => Y14.applyUpdate(b.doc, update))
  b.doc.get('text').insert(3, 'between')
  all.forEach(({ doc, updates }, i) => {
    updates.forEach((update, step) => add(`version 14, ${i} step ${step}`, update))
    add(`version 14, ${i} whole`, Y14.encodeStateAsUpdate(doc))
  })
  const holey = new Y14.Doc()
  a.updates.filter((_, i) => i % 2 === 0).forEach(update => Y14.applyUpdate(holey, update))
  add('version 14, structs held back', Y14.encodeStateAsUpdate(holey))
  add('version 14, merged with gaps', Y14.mergeUpdates(a.updates.filter((_, i) => i % 3 !== 1)))
}

const save = file => {
  writeFileSync(new URL(file, import.meta.url), lines.splice(0).map(line => JSON.stringify(line) + '\n').join(''))
}

stories()
for (let seed = 1; seed <= 8; seed++) history(seed, 2 + (seed % 3), 60, seed % 4 !== 0)
save('yjs13.jsonl')
stories14()
save('yjs14.jsonl')
