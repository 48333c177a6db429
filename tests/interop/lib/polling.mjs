// A long-polling client that reads only when it is told to: a slow one, on purpose. Engine.IO 4, Socket.IO 5, over fetch.

import { until } from './until.mjs'

/** Between packets in one body. */
const SEPARATOR = '\x1e'

export class Polling {
  events = []
  #url
  #acks = new Map()
  #nextAck = 0
  #connected = false

  /** A connected session. It ends with `t`. */
  static async open (t, server, token) {
    const polling = new Polling()
    polling.#url = `${server.url}/socket.io/?EIO=4&transport=polling`
    const handshake = await (await fetch(polling.#url)).text()
    polling.#url += `&sid=${JSON.parse(handshake.slice(1)).sid}`
    t.after(() => polling.#post('1').catch(() => {}))
    await polling.#post(`40${JSON.stringify({ token })}`)
    while (!polling.#connected) await polling.poll()
    return polling
  }

  /** Sends without a callback. */
  async send (event, payload) { await this.#post(`42${JSON.stringify([event, payload])}`) }

  /** Sends, then reads until the answer is there. */
  async ask (event, payload) {
    const id = this.#nextAck++
    await this.#post(`42${id}${JSON.stringify([event, payload])}`)
    while (!this.#acks.has(id)) await this.poll()
    return this.#acks.get(id)
  }

  /** Reads until `fits(events)`. */
  async until (fits, what) {
    return until(async () => fits(this.events) || (await this.poll(), fits(this.events)),
      () => `${what}; heard ${JSON.stringify(this.events.slice(-5))}`)
  }

  /** One request, and what it brings. */
  async poll () {
    const response = await fetch(this.#url, { signal: AbortSignal.timeout(40_000) })
    const body = await response.text()
    if (!response.ok) throw new Error(`${response.status} ${body}`)
    for (const packet of body.split(SEPARATOR)) await this.#take(packet)
  }

  async #take (packet) {
    if (packet === '2') return this.#post('3')
    const [, kind, id, json] = /^4([0-4])(\d*)(.*)$/s.exec(packet) ?? []
    if (kind === '0') this.#connected = true
    if (kind === '4') throw new Error(packet)
    if (kind === '3') this.#acks.set(Number(id), JSON.parse(json)[0])
    if (kind === '2') {
      const [event, payload] = JSON.parse(json)
      this.events.push({ ...payload, event })
    }
  }

  async #post (body) {
    const response = await fetch(this.#url, { method: 'POST', headers: { 'content-type': 'text/plain;charset=UTF-8' }, body })
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`)
    await response.text()
  }
}
