// Bundles the page into web/dist/{index.html,main.js,style.css}. The server embeds exactly these three names.
import { build } from 'esbuild'
import { copyFile, mkdir, rm } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

const here = fileURLToPath(new URL('.', import.meta.url))
const dist = `${here}dist/`

await rm(dist, { recursive: true, force: true })
await mkdir(dist, { recursive: true })
await build({
  absWorkingDir: here,
  entryPoints: ['src/main.js'],
  outfile: `${dist}main.js`,
  bundle: true,
  format: 'esm',
  target: 'es2022',
  minify: true,
  legalComments: 'eof',
  logLevel: 'warning'
})
for (const name of ['index.html', 'style.css']) await copyFile(here + name, dist + name)
