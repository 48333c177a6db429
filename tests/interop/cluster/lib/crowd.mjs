// Authors who write into documents at random, and keep account of what they were told is saved.

import { Peer } from '../../lib/clients.mjs'
import { Editor } from '../../lib/collab.mjs'
import { until } from '../../lib/until.mjs'
import { params, shows } from './cluster.mjs'
import { agreed, shownBy } from './compare.mjs'

/** Between two edits of one author. */
const [PAUSE_MIN_MS, PAUSE_MAX_MS] = [100, 1200]
/** So often an author's connection breaks instead. */
const BREAK = 0.02
const TEXT_MAX = 2_000

/** Somebody who writes. Each edit is one transaction with an id of its own, and may take back a draft of an earlier one. */
class Author {
  /** The codes with which connections ended that had been open. */
  ends = []
  /** Of each edit the id of the draft that it took back, if any. */
  tookBack = []
  #draw
  #timer

  /** `draw` tells numbers in [0, 1). Nothing is written after the end of `t`. */
  constructor (t, sub, draw) {
    this.sub = sub
    this.#draw = draw
    t.after(() => this.stop())
  }

  /** Notes the end of each connection: `opened` and `closed` take a listener. */
  watch (opened, closed) {
    let isOpen = false
    opened(() => { isOpen = true })
    closed((code) => {
      if (isOpen) this.ends.push(code)
      isOpen = false
    })
  }

  get written () { return this.tookBack.length }
  idOf (edit) { return `${this.sub}.${edit}` }

  #below (n) { return Math.floor(this.#draw() * n) }

  write () {
    const edit = this.written
    const draft = edit > 0 && this.#draw() < 0.5 ? this.idOf(this.#below(edit)) : null
    this.tookBack.push(draft)
    this.doc.transact(() => {
      const text = this.doc.getText('text')
      const at = this.#below(text.length + 1)
      const taken = Math.min(text.length - at, this.#below(12))
      if (text.length > TEXT_MAX || this.#draw() < 0.3) text.delete(at, taken)
      else text.insert(at, `${this.idOf(edit)};`)
      this.doc.getMap('drafts').set(this.idOf(edit), edit)
      if (draft !== null) this.doc.getMap('drafts').delete(draft)
      this.doc.getMap('edits').set(this.idOf(edit), edit)
    })
    this.wrote()
  }

  /** Writes from now on, until `stop()`; now and then the connection breaks instead. */
  start ({ breaks = BREAK } = {}) {
    this.#timer = setTimeout(() => {
      if (this.#draw() < breaks) this.break()
      else this.write()
      this.start({ breaks })
    }, PAUSE_MIN_MS + this.#draw() * (PAUSE_MAX_MS - PAUSE_MIN_MS))
  }

  stop () { clearTimeout(this.#timer) }

  /** Of the first `promised` edits the first one that `shown` (as `content` tells it) lacks, in words; null when there is none. */
  lost (shown, promised) {
    for (let edit = 0; edit < promised; edit++) {
      if (shown.edits[this.idOf(edit)] !== edit) return `${this.idOf(edit)} of ${promised} saved edits`
      const draft = this.tookBack[edit]
      if (draft !== null && draft in shown.drafts) return `the deletion of ${draft} by ${this.idOf(edit)}`
    }
    return null
  }
}

/** One on `y-websocket`: what comes back to its writer is saved. */
export class Echoed extends Author {
  #clocks = []

  constructor (t, client, where, name, sub, draw) {
    super(t, sub, draw)
    this.name = name
    this.peer = new Peer(t, client, where, name, { maxBackoffTime: 500, ...params(sub) })
    this.doc = this.peer.doc
    const { provider } = this.peer
    this.watch((heard) => provider.on('status', ({ status }) => { if (status === 'connected') heard() }),
      (heard) => provider.on('connection-close', (event) => heard(event?.code ?? null)))
  }

  wrote () { this.#clocks.push(this.peer.ownClock) }
  get promised () {
    const { echoedClock } = this.peer
    const after = this.#clocks.findIndex((clock) => clock > echoedClock)
    return after < 0 ? this.#clocks.length : after
  }

  get isQuiet () { return this.peer.isSynced }
  get story () { return `${this.sub} in ${this.name}: synced ${this.peer.isSynced}, dials ${this.peer.dials}, closes ${this.peer.closes}` }
  break () { this.peer.provider.ws?.close() }
  leave () { this.peer.leave() }
}

/** One on Hocuspocus: what is not counted as unsynced is saved. */
export class Counted extends Author {
  promised = 0

  constructor (t, line, name, sub, draw) {
    super(t, sub, draw)
    this.name = name
    this.editor = new Editor(t, line, name, shows(sub))
    this.doc = this.editor.doc
    const { socket } = this.editor.line
    this.watch((heard) => socket.on('open', heard), (heard) => socket.on('close', ({ event }) => heard(event?.code ?? null)))
    const note = () => { if (this.editor.isSaved) this.promised = this.written }
    this.editor.provider.on('unsyncedChanges', note)
    this.editor.provider.on('synced', note)
  }

  wrote () {}
  get isQuiet () { return this.editor.isSaved }
  get story () {
    const { provider, line, refusals } = this.editor
    return `${this.sub} in ${this.name}: ${JSON.stringify({ synced: provider.synced, unsynced: provider.unsyncedChanges, dials: line.dials, refusals, closes: line.closes.slice(-5) })}`
  }

  break () { this.editor.line.break() }
  leave () { this.editor.line.close() }
}

/** Waits until every author is connected and has heard that all is saved, where there is a way to hear it. */
export const quiet = (authors, what, timeoutMs) => until(() => authors.every(({ isQuiet }) => isQuiet),
  () => `${what}:\n${authors.filter(({ isQuiet }) => !isQuiet).map(({ story }) => story).join('\n')}`, timeoutMs)

/** Waits until the copies of each document are equal; a content for each name. */
export const agreedByName = async (authors) => {
  const contents = {}
  for (const name of new Set(authors.map(({ name }) => name))) {
    contents[name] = await agreed(authors.filter((author) => author.name === name).map(({ doc }) => doc))
  }
  return contents
}

/** What each author was told is saved, until now. */
export const promises = (authors) => new Map(authors.map((author) => [author, author.promised]))

/** What was promised and is not in `contents`: a line for each author who lost something. */
export const losses = (promised, contents) =>
  [...promised].map(([author, count]) => author.lost(contents[author.name], count)).filter((line) => line !== null)

/** What was promised until now and is not in the store, as a node sees it that talks to nobody. */
export const audit = async (cluster, authors) => {
  const promised = promises(authors)
  const node = await cluster.lone()
  const contents = {}
  for (const name of new Set(authors.map(({ name }) => name))) contents[name] = await shownBy(node, name)
  await node.stop('SIGKILL')
  return losses(promised, contents)
}
