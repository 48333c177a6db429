// Edits of one author, each a frame that is ready to be sent: a letter at the end of a text.

import { Y } from '../../tests/interop/lib/packages.mjs'
import { editFrame } from './line.mjs'

export class Author {
  #doc = new Y.Doc()
  #frame

  constructor () {
    this.#doc.on('update', (update) => { this.#frame = editFrame(update) })
  }

  next () {
    const text = this.#doc.getText('text')
    text.insert(text.length, 'x')
    return this.#frame
  }
}
