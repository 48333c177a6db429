// Hocuspocus with its SQLite extension, as its documentation starts it: `node hocuspocus.mjs PORT DATA_DIR`.
// Prints `ready HOST:PORT` when it listens; port 0 takes a free one.
import { SQLite } from '@hocuspocus/extension-sqlite'
import { Server } from '@hocuspocus/server'
import { join } from 'node:path'

const [port, data] = process.argv.slice(2)
if (!data) throw new Error('usage: node hocuspocus.mjs PORT DATA_DIR')

// Only where it listens and keeps its data is set. Everything else is the package's own default.
const server = new Server({
  address: '127.0.0.1',
  port: Number(port),
  quiet: true,
  extensions: [new SQLite({ database: join(data, 'hocuspocus.sqlite') })],
})
await server.listen()
console.log(`ready 127.0.0.1:${server.address.port}`)
