// Server-sent events over fetch, as a browser would read them: one object per event, and the way back by Last-Event-ID.

import assert from 'node:assert/strict'
import { until } from './until.mjs'

/** One who listens to a room. */
export class Listener {
  /** Every event but `ready`, in order. */
  events = []
  /** Each `ready`: first and at each return. */
  ready = []
  #server
  #path
  #headers
  #lastId = null
  #open = null

  /** `headers` show a token. It hears until the end of `t`, or until `drop()`. */
  static async open (t, server, room, { headers = {}, events } = {}) {
    const listener = new Listener()
    listener.#server = server
    listener.#path = `/v1/rooms/${encodeURIComponent(room)}/events${events === undefined ? '' : `?events=${events}`}`
    listener.#headers = headers
    t.after(() => listener.drop())
    await listener.resume()
    return listener
  }

  /** Opens the stream, from where it ended if it was open before. */
  async resume () {
    const stop = new AbortController()
    const headers = { ...this.#headers, ...(this.#lastId === null ? {} : { 'last-event-id': this.#lastId }) }
    const response = await fetch(this.#server.url + this.#path, { headers, signal: stop.signal })
    assert.equal(response.status, 200, `${this.#path}: ${response.status}`)
    const known = this.ready.length
    this.#open = { stop, done: this.#read(response.body) }
    await until(() => this.ready.length > known, 'the first word of a stream')
  }

  /** Ends the stream; what comes from now on is missed until `resume()`. */
  async drop () {
    const open = this.#open
    this.#open = null
    open?.stop.abort()
    await open?.done
  }

  async #read (body) {
    const decoder = new TextDecoder()
    let text = ''
    try {
      for await (const chunk of body) {
        text += decoder.decode(chunk, { stream: true })
        const blocks = text.split('\n\n')
        text = blocks.pop()
        blocks.forEach((block) => this.#hear(block))
      }
    } catch (error) {
      // The server went, or this side dropped it.
      if (error.name !== 'AbortError' && !(error instanceof TypeError)) throw error
    }
  }

  #hear (block) {
    const of = (name) => block.split('\n').filter((line) => line.startsWith(`${name}:`))
      .map((line) => line.slice(name.length + 1).replace(/^ /, '')).join('\n')
    const id = of('id')
    if (id !== '') this.#lastId = id
    const name = of('event')
    if (name === '') return
    const event = JSON.parse(of('data'))
    if (name === 'ready') this.ready.push(event)
    else this.events.push(event)
  }

  of (...types) { return this.events.filter(({ type }) => types.includes(type)) }

  /** What was told of the document, without who comes and goes. */
  get changes () { return this.events.filter(({ revision }) => revision !== undefined) }

  /** The first event of this name for which `fits` holds, when it is there. */
  async heard (type, fits = () => true, timeoutMs) {
    return until(() => this.events.find((event) => event.type === type && fits(event)),
      () => `${type}; heard ${JSON.stringify(this.events.slice(-8))}`, timeoutMs)
  }

  get revision () { return this.events.reduce((last, { revision }) => Math.max(last, revision ?? 0), 0) }

  /** Resolves when everything up to this revision has been heard. */
  async upTo (revision, timeoutMs) {
    await until(() => this.revision >= revision, () => `revision ${revision}, heard ${this.revision}`, timeoutMs)
  }
}
