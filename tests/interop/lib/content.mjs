// Edits of every shared type, and how to read them back for comparison.

import * as Y from 'yjs'

/** Everything a document of the classic types holds. Formatting is compared run by run. */
export const read = (doc) => ({
  map: doc.getMap('map').toJSON(),
  array: doc.getArray('array').toJSON(),
  text: doc.getText('text').toDelta(),
  xml: doc.getXmlFragment('xml').toString()
})

export const readText = (doc) => doc.getText('text').toString()

/** Writes a bit of every kind, marked with `who`. */
export const writeEverything = (doc, who) => {
  const map = doc.getMap('map')
  map.set(who, { number: 1.5, big: 2 ** 40, yes: true, none: null, list: [1, 'zwei', { drei: 3 }], 'ключ': '値 😀' })
  map.set(`${who} bytes`, new Uint8Array([0, 127, 255]))

  const nested = new Y.Map()
  map.set(`${who} nested`, nested)
  const rows = new Y.Array()
  nested.set('rows', rows)
  rows.push([new Y.Map([['cell', `${who} 1`]]), new Y.Map([['cell', `${who} 2`]])])
  nested.set('note', new Y.Text(`nested by ${who}`))
  rows.get(0).set('cell', `${who} changed`)
  rows.delete(1)

  const array = doc.getArray('array')
  array.push([who, 1, 2, 3])
  array.delete(array.length - 2, 1)
  array.insert(0, [`first of ${who}`, true, null])

  const text = doc.getText('text')
  text.insert(0, `${who} writes ünïcödé 👩‍👩‍👧 and plain. `)
  text.format(0, who.length, { bold: true })
  text.insert(who.length, ' (linked)', { link: 'https://example.org/?q=ü' })
  text.insertEmbed(0, { image: `${who}.png` })
  text.delete(2, 1)

  const xml = doc.getXmlFragment('xml')
  const paragraph = new Y.XmlElement('p')
  xml.push([paragraph])
  paragraph.setAttribute('by', who)
  const words = new Y.XmlText()
  paragraph.insert(0, [words, new Y.XmlElement('br')])
  words.insert(0, `${who} & <friends>`)
  words.format(0, 3, { em: {} })
}
