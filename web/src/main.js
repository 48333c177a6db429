// The page at /: one shared text, who is here, and whether it is saved.
// Address: ?doc=NAME (default "welcome"), #token=JWT, #name=NAME.

import * as Y from 'yjs'
import { WebsocketProvider } from 'y-websocket'
import { bind } from './binding.js'
import * as connection from './connection.js'
import * as presence from './presence.js'
import * as saved from './saved.js'

const at = (id) => document.getElementById(id)
const fragment = () => new URLSearchParams(location.hash.slice(1))

const docName = new URLSearchParams(location.search).get('doc') || 'welcome'
const doc = new Y.Doc()
const text = doc.getText('text')

const tokenParams = () => {
  const token = fragment().get('token')
  return token ? { token } : {}
}

// The provider puts the name into a URL as it is; encoded here, a name may hold ?, # and %.
const room = docName.split('/').map(encodeURIComponent).join('/')
const server = `${location.protocol === 'https:' ? 'wss:' : 'ws:'}//${location.host}/sync`
// Tabs of one browser talk through the server too: only what came back from there counts as saved.
const provider = new WebsocketProvider(server, room, doc, { params: tokenParams(), disableBc: true, connect: false })

// ---- the text

at('document').textContent = docName
document.title = `${docName} · Syncline`

const field = at('text')
const counted = new Intl.NumberFormat()
bind(field, text, (value) => {
  at('count').textContent = `${counted.format(value.length)} ${value.length === 1 ? 'character' : 'characters'}`
})

// ---- connection and saving

let state = 'connecting'
let hasWritten = false
const ledger = saved.watch(doc, provider, () => showSaved())

function showSaved () {
  hasWritten ||= !ledger.isEmpty
  const [name, words] = savedWords()
  const node = at('saved')
  if (node.dataset.state === name && at('saved-text').textContent === words) return
  node.dataset.state = name
  at('saved-text').textContent = words
}

function savedWords () {
  if (!ledger.isEmpty) return state === 'connected' ? ['saving', 'Saving…'] : ['waiting', 'Not saved yet']
  if (hasWritten) return ['saved', 'Saved']
  return ['idle', state === 'connected' ? 'Up to date' : '']
}

connection.watch(provider, ({ state: next, text: words, reason }) => {
  state = next
  at('connection').dataset.state = next
  at('connection-text').textContent = words
  at('refused').hidden = reason === null
  at('refused').textContent = reason ?? ''
  // Editing opens with the first full state, and stays open offline: what is written then is sent on return.
  if (next === 'connected') field.disabled = false
  field.readOnly = next === 'refused'
  showSaved()
})

// A refusal to write comes as a message; the connection stays for reading.
provider.messageHandlers[2] = () => {
  at('refused').hidden = false
  at('refused').textContent = 'The server refused access to this document.'
}

addEventListener('beforeunload', (event) => {
  if (!ledger.isEmpty) event.preventDefault()
})

addEventListener('hashchange', () => {
  provider.params = tokenParams()
  if (state === 'refused') provider.connect()
})

// ---- people

const nameInput = at('name')
const remembered = () => { try { return localStorage.getItem('name') } catch { return null } }
const remember = (name) => { try { localStorage.setItem('name', name) } catch { /* private window */ } }

const call = (name) => {
  provider.awareness.setLocalStateField('user', { name, color: presence.colourOf(doc.clientID) })
}

nameInput.value = fragment().get('name') || remembered() || presence.nameOf(doc.clientID)
call(nameInput.value)
nameInput.addEventListener('input', () => {
  const name = nameInput.value.trim()
  if (name === '') return
  call(name)
  remember(name)
})
at('name-form').addEventListener('submit', (event) => {
  event.preventDefault()
  field.focus()
})
presence.show(provider.awareness, at('people'), at('here-count'))

// ---- inviting

at('copy').addEventListener('click', async ({ currentTarget: button }) => {
  // Without the fragment: a token is nobody else's.
  const address = location.origin + location.pathname + location.search
  const done = await navigator.clipboard?.writeText(address).then(() => true, () => false)
  button.textContent = done ? 'Copied' : address
  setTimeout(() => { button.textContent = 'Copy address' }, 2500)
})

provider.connect()
