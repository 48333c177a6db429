// What is told in rooms reaches every node, and whoever comes back to another one gets exactly what was missed.

import assert from 'node:assert/strict'
import { after } from 'node:test'
import { Peer, v310 } from '../lib/clients.mjs'
import { Editor, generations, v4 } from '../lib/collab.mjs'
import { done, fence, listen, operator as root, person, publish } from '../lib/socketio.mjs'
import { Listener } from '../lib/sse.mjs'
import { until } from '../lib/until.mjs'
import { operator, params, shows, story } from './lib/cluster.mjs'
import { Postgres } from './lib/postgres.mjs'

const postgres = await Postgres.start({ after })
const room = 'project:shared'

const numbers = ({ heard }, name = 'step') => heard.of(name).map(({ data }) => data.n)
const upTo = (count, from = 0) => Array.from({ length: count }, (_, n) => from + n)

/** Tells the room something until it is heard: from then on the nodes know each other's part in it. */
const met = (node, count) => until(async () => {
  await publish(node, root, room, 'met', {})
  return count() > 0
}, 'the nodes know each other in the room')

/** Somebody in the room, over Socket.IO. */
const inRoom = async (t, node, since) => {
  const ear = await listen(t, node, person('listener'))
  ear.answer = await done(ear.socket, 'subscribe', { room, ...(since === undefined ? {} : { since }) })
  return ear
}

story('an event told on one node is heard once on each, with one id, in the order of its node', { nodes: 3, postgres }, async (t, { nodes }) => {
  const ears = await Promise.all(nodes.map((node) => inRoom(t, node)))
  const streams = await Promise.all(nodes.map((node) => Listener.open(t, node, room, { headers: operator })))
  const ids = await Promise.all(nodes.map(async (node, from) => {
    const ids = []
    for (let n = 0; n < 20; n++) ids.push(await publish(node, root, room, 'step', { n, from }))
    return ids
  }))
  for (const node of nodes) await fence(node, root, room, ...ears)
  for (const { heard } of ears) {
    const steps = heard.of('step')
    assert.deepEqual(steps.map(({ eventId }) => eventId).sort(), ids.flat().sort())
    for (const from of [0, 1, 2]) assert.deepEqual(steps.filter(({ data }) => data.from === from).map(({ data }) => data.n), upTo(20))
  }
  for (const stream of streams) {
    await until(() => stream.of('step').length >= 60, () => `60 events, heard ${stream.of('step').length}`)
    assert.deepEqual(stream.of('step').map(({ eventId }) => eventId).sort(), ids.flat().sort())
  }
  assert.equal(new Set(ids.flat()).size, 60, 'an id was given twice')
})

for (const [what, company] of [['where others listen', true], ['where nobody was in the room', false]]) {
  story(`over Socket.IO: who comes back to another node, ${what}, with the last id gets what was missed, once`, { nodes: 3, postgres }, async (t, { nodes }) => {
    const [here, there, third] = nodes
    if (company) await inRoom(t, there)
    const ear = await inRoom(t, here)
    await met(third, () => ear.heard.of('met').length)
    for (const n of upTo(5)) await publish(third, root, room, 'step', { n })
    await until(() => numbers(ear).length === 5, 'the first five')
    const since = ear.heard.events.at(-1).eventId
    ear.socket.disconnect()
    for (const n of upTo(5, 5)) await publish(n % 2 === 0 ? third : here, root, room, 'step', { n })
    const back = await inRoom(t, there, since)
    assert.equal(back.answer.recovered, true)
    for (const n of upTo(5, 10)) await publish(third, root, room, 'step', { n })
    await until(() => numbers(back).length >= 10, () => `what was missed, heard ${numbers(back)}`)
    assert.deepEqual(numbers(back).toSorted((a, b) => a - b), upTo(10, 5))
  })

  story(`over server-sent events: the same, ${what}`, { nodes: 3, postgres }, async (t, { nodes }) => {
    const [here, there, third] = nodes
    if (company) await inRoom(t, there)
    const first = await Listener.open(t, here, room, { headers: operator })
    await met(third, () => first.of('met').length)
    for (const n of upTo(5)) await publish(third, root, room, 'step', { n })
    await until(() => first.of('step').length === 5, 'the first five')
    const lastId = first.events.at(-1).eventId
    await first.drop()
    for (const n of upTo(5, 5)) await publish(n % 2 === 0 ? third : here, root, room, 'step', { n })
    const back = await Listener.open(t, there, room, { headers: { ...operator, 'last-event-id': lastId } })
    assert.equal(back.ready[0].recovered, true)
    await until(() => back.of('step').length >= 5, () => `what was missed, heard ${back.of('step').length}`)
    await publish(here, root, room, 'last', {})
    await back.heard('last')
    assert.deepEqual(back.of('step').map(({ data }) => data.n).sort((a, b) => a - b), upTo(5, 5))
  })
}

story('an id from before a node was cut off is recovered wholly there, or honestly not', { postgres }, async (t, { nodes }) => {
  const [here, there] = nodes
  const company = await inRoom(t, there)
  const ear = await inRoom(t, here)
  const since = await publish(here, root, room, 'step', { n: 0 })
  await company.heard.heard('step')
  there.gate.cut()
  for (const n of upTo(5, 1)) await publish(here, root, room, 'step', { n })
  await until(() => numbers(ear).length === 6, 'all on one node')
  there.gate.heal()
  await until(async () => {
    await publish(here, root, room, 'again', {})
    return company.heard.of('again').length > 0
  }, 'the other node hears again')
  const back = await inRoom(t, there, since)
  if (back.answer.recovered) {
    await until(() => numbers(back).length >= 5, () => `it said recovered, and there was ${numbers(back)}`)
    assert.deepEqual(numbers(back), upTo(5, 1))
  } else {
    await fence(there, root, room, back)
    assert.deepEqual(numbers(back), [])
  }
})

story('typing, cursors and selections are told on other nodes, from Socket.IO and from Yjs', { nodes: 3, postgres }, async (t, { nodes }) => {
  const ears = await Promise.all(nodes.map((node) => inRoom(t, node)))
  const by = ears[0].who.sub
  await done(ears[0].socket, 'user:typing', { room })
  await done(ears[0].socket, 'user:cursor-move', { room, position: { x: 1, y: 2 } })
  await done(ears[0].socket, 'grid:selection-change', { room, selection: ['r1'] })
  for (const { heard } of ears.slice(1)) {
    await heard.heard('user:typing', ({ userId, typing }) => userId === by && typing === true)
    await heard.heard('user:cursor-moved', ({ userId, position }) => userId === by && position.x === 1 && position.y === 2)
    await heard.heard('grid:selection-changed', ({ userId, selection }) => userId === by && selection[0] === 'r1')
  }
  const pages = await Promise.all(nodes.map((node) => listen(t, node, person('page'))))
  for (const { socket } of pages) await done(socket, 'subscribe', { room: 'paper' })
  const editor = await new Editor(t, [v4, nodes[1]], 'paper', shows('writer')).synced()
  editor.awareness.setLocalState({ cursor: { line: 7 }, typing: true })
  for (const { heard } of pages) {
    await heard.heard('user:cursor-moved', ({ userId, position }) => userId === 'writer' && position?.line === 7)
    await heard.heard('user:typing', ({ userId, typing }) => userId === 'writer' && typing === true)
  }
})

story('a stateless message of Hocuspocus reaches the document on other nodes, once, and nobody else', { nodes: 3, postgres }, async (t, { nodes }) => {
  const editors = await Promise.all(generations.map((generation, n) => new Editor(t, [generation, nodes[n]], 'spoken', shows(`editor${n}`)).synced()))
  const elsewhere = await editors[1].line.open(t, 'elsewhere', shows('elsewhere')).synced()
  await new Peer(t, v310, nodes[2], 'spoken', params('peer')).synced()
  const letters = upTo(10).map((n) => `letter ${n}`)
  for (const letter of letters) editors[0].provider.sendStateless(letter)
  for (const { letters: heard } of editors.slice(1)) await until(() => heard.length >= 10, () => `ten letters, got ${heard.length}`)
  editors[1].provider.sendStateless('answer')
  for (const { letters: heard } of [editors[0], editors[2]]) await until(() => heard.includes('answer'), 'the answer')
  assert.deepEqual(editors.map(({ letters }) => letters), [['answer'], letters, [...letters, 'answer']])
  assert.deepEqual(elsewhere.letters, [])
  const response = await fetch(`${nodes[2].url}/v1/docs/spoken/stateless`, { method: 'POST', headers: operator, body: 'to all' })
  assert.equal(response.status, 202)
  for (const { letters } of editors) await until(() => letters.at(-1) === 'to all', 'what the application says')
})
