// Draws docs/images/demo.png: three people at the page of a real server. Run by scripts/picture.sh.

import { mkdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Server } from '../interop/lib/server.mjs'
import { until } from '../interop/lib/until.mjs'
import { launch, open, shows } from './lib/page.mjs'

const out = process.argv[2] ?? fileURLToPath(new URL('../../docs/images/', import.meta.url))
mkdirSync(out, { recursive: true })

const ends = []
const scope = { after: (end) => ends.unshift(end) }
try {
  const server = await Server.start(scope)
  const browser = await launch()
  scope.after(() => browser.close())
  const sharp = { viewport: { width: 1180, height: 640 }, deviceScaleFactor: 1.5 }
  const join = (name, options) => open(scope, browser, `${server.url}/?doc=field notes/herons#name=${name}`, 'connected', options)
  const ada = await join('Ada Lind', sharp)
  const noor = await join('Noor')
  const kenji = await join('Kenji Mori')

  const lines = [
    'Thursday, low tide\n\nTwo grey herons on the far bank since seven, neither of them moving.\n',
    'The one on the left caught something at 7:40. An eel?\n',
    'Definitely an eel. I have it on film.\n'
  ]
  let text = ''
  for (const [index, person] of [ada, noor, kenji].entries()) {
    await shows(person, text)
    await person.caret(text.length)
    await person.text.pressSequentially(lines[index])
    text += lines[index]
  }
  await shows(ada, text)
  await until(async () => (await ada.people()).length === 3, 'three people')
  await ada.page.waitForSelector('#saved[data-state=saved]')
  await ada.page.screenshot({ path: `${out}/demo.png` })
} finally {
  for (const end of ends) await end()
}
