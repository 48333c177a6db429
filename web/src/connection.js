// The connection's state in words a person can act on.

/** Close codes that mean "do not come back until something changes", by what to tell the person. */
const refusals = new Map([
  [4400, 'The server could not read what this page sent.'],
  [4401, 'This server asks for a valid token. Add #token=… to the address.'],
  [4403, 'Your token does not open this document.'],
  [4404, 'This document was deleted.'],
  [4409, 'This document was replaced by an older copy. Reload to work on that one.'],
  [4413, 'That was larger than this document may grow.'],
  [4422, 'The server refused an edit as impossible.'],
  [4426, 'This page is older than the document. Reload it.']
])

/** Close codes after which the client comes back by itself, by why it has to. */
const delays = new Map([
  [1012, 'Server restarting…'],
  [4501, 'Token ran out…'],
  [4503, 'Server is busy…'],
  [4504, 'Storage is unavailable…'],
  [4509, 'Document is full…'],
  [4529, 'Too many requests…']
])

/** Calls `changed({state, text, reason})`; state is `connecting`, `connected` or `refused`. */
export const watch = (provider, changed) => {
  let delay = null
  const say = (state, text, reason = null) => changed({ state, text, reason })

  provider.on('sync', (isSynced) => {
    if (!isSynced) return
    delay = null
    say('connected', 'Connected')
  })
  provider.on('connection-close', (event) => { delay = delays.get(event?.code) ?? 'Reconnecting…' })
  provider.on('status', ({ status }) => {
    if (status !== 'connected') say('connecting', delay ?? 'Connecting…')
  })
  provider.on('closed', ({ code, reason }) => {
    say('refused', 'Not connected', refusals.get(code) ?? `The server closed the connection: ${reason || code}.`)
  })
}
