// What people would otherwise write: the npm server of Socket.IO, with a room joined on request and an HTTP address that tells a
// room something. All its settings are the package's own. Prints `listening on http://HOST:PORT`.
import { createServer } from 'node:http'
import { json } from 'node:stream/consumers'
import { Server } from 'socket.io'

const http = createServer(async (request, response) => {
  if (!request.url.startsWith('/rooms/')) return // Everything else is Socket.IO's.
  const { event, data } = await json(request)
  io.to(decodeURIComponent(request.url.slice('/rooms/'.length))).emit(event, data)
  response.writeHead(202, { 'content-type': 'application/json' }).end('{}')
})
const io = new Server(http)
io.on('connection', (socket) => {
  socket.on('subscribe', ({ room }, answer) => {
    socket.join(room)
    answer({ success: true })
  })
})
http.listen(0, '127.0.0.1', () => console.log(`listening on http://127.0.0.1:${http.address().port}`))
