// The server of y-websocket with its leveldb persistence: `node y-websocket-server.mjs PORT DATA_DIR`.
// Prints `ready HOST:PORT` when it listens; port 0 takes a free one.
import http from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const [port, data] = process.argv.slice(2)
if (!data) throw new Error('usage: node y-websocket-server.mjs PORT DATA_DIR')

// The package's own program is what runs, told by its own variables. It prints the port it was given, not the one it
// got, so the address is read from the server that it creates.
process.env.HOST = '127.0.0.1'
process.env.PORT = port
process.env.YPERSISTENCE = join(data, 'leveldb')
const createServer = http.createServer
http.createServer = (...args) => {
  const server = createServer(...args)
  server.once('listening', () => console.log(`ready 127.0.0.1:${server.address().port}`))
  return server
}
const home = fileURLToPath(import.meta.resolve('@y/websocket-server/package.json'))
await import(join(home, '..', 'src', 'server.js'))
