// Two people in two browsers at the page the server serves.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { after, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Server } from '../interop/lib/server.mjs'
import { token } from '../interop/lib/token.mjs'
import { until } from '../interop/lib/until.mjs'
import { launch, open, shows } from './lib/page.mjs'

const PICTURES = fileURLToPath(new URL('../../target/browser/', import.meta.url))
mkdirSync(PICTURES, { recursive: true })

const browser = await launch()
after(() => browser.close())

describe('the page', { timeout: 120_000 }, () => {
  test('two browsers type at the same time in different places and converge', async (t) => {
    const server = await Server.start(t)
    const alice = await open(t, browser, `${server.url}/?doc=letters/ü#name=Alice`)
    const bob = await open(t, browser, `${server.url}/?doc=letters/ü#name=Bob`)
    await alice.text.pressSequentially('Dear reader,\n\n\n\nYours')
    await shows(bob, 'Dear reader,\n\n\n\nYours')

    // Bob writes the signature at the end while Alice writes the body in the middle.
    await alice.caret(14)
    await bob.caret(21)
    await Promise.all([
      alice.text.pressSequentially('It rained all week. 🌧 We stayed in.', { delay: 8 }),
      bob.text.pressSequentially(' truly,\nBob & Alice', { delay: 12 })
    ])
    const expected = 'Dear reader,\n\nIt rained all week. 🌧 We stayed in.\n\nYours truly,\nBob & Alice'
    await shows(alice, expected)
    await shows(bob, expected)
    // Nobody's caret was moved by the other's typing.
    assert.equal(await alice.caretIndex(), 14 + 'It rained all week. 🌧 We stayed in.'.length)
    assert.equal(await bob.caretIndex(), expected.length)

    await alice.page.waitForSelector('#saved[data-state=saved]')
    await bob.page.waitForSelector('#saved[data-state=saved]')
    for (const person of [alice, bob]) {
      await until(async () => (await person.people()).sort().join() === 'Alice,Bob', 'both are listed')
    }
    assert.equal(await alice.page.locator('#document').textContent(), 'letters/ü')
    await alice.page.screenshot({ path: `${PICTURES}two-people.png` })

    await bob.page.close()
    await until(async () => (await alice.people()).join() === 'Alice', 'Bob left')
    await alice.page.reload()
    await shows(alice, expected)
    assert.deepEqual([alice.errors, bob.errors], [[], []])
  })

  test('deleting and replacing in the same paragraph keeps both edits', async (t) => {
    const server = await Server.start(t)
    const alice = await open(t, browser, `${server.url}/?doc=same`)
    const bob = await open(t, browser, `${server.url}/?doc=same`)
    await alice.text.fill('one two three four')
    await shows(bob, 'one two three four')
    await alice.select(0, 3)
    await bob.select(8, 13)
    await Promise.all([alice.page.keyboard.type('ONE'), bob.page.keyboard.press('Delete')])
    await shows(alice, 'ONE two  four')
    await shows(bob, 'ONE two  four')
    // Bob wrote nothing, he only deleted: that is saved in its own right.
    await bob.page.waitForSelector('#saved[data-state=saved]')
  })

  test('undo takes back what one wrote oneself and leaves the other alone', async (t) => {
    const server = await Server.start(t)
    const alice = await open(t, browser, `${server.url}/?doc=undo`)
    const bob = await open(t, browser, `${server.url}/?doc=undo`)
    await alice.text.pressSequentially('mine')
    await shows(bob, 'mine')
    await bob.caret(4)
    await bob.text.pressSequentially(' and yours')
    await shows(alice, 'mine and yours')
    await alice.page.keyboard.press('Control+z')
    await shows(alice, ' and yours')
    await shows(bob, ' and yours')
    await alice.page.keyboard.press('Control+Shift+z')
    await shows(bob, 'mine and yours')
    await alice.page.waitForSelector('#saved[data-state=saved]')
  })

  test('an input method composes undisturbed while somebody else types', async (t) => {
    const server = await Server.start(t)
    const alice = await open(t, browser, `${server.url}/?doc=ime`)
    const bob = await open(t, browser, `${server.url}/?doc=ime`)
    await alice.text.fill('前 後')
    await shows(bob, '前 後')
    await alice.caret(1)
    const session = await alice.page.context().newCDPSession(alice.page)
    await session.send('Input.imeSetComposition', { text: 'に', selectionStart: 1, selectionEnd: 1 })
    await bob.caret(0)
    await bob.text.pressSequentially('>>')
    await bob.page.waitForSelector('#saved[data-state=saved]')
    await session.send('Input.imeSetComposition', { text: 'にほ', selectionStart: 2, selectionEnd: 2 })
    assert.equal(await alice.text.inputValue(), '前にほ 後', 'the composition is left alone')
    await session.send('Input.insertText', { text: '日本' })
    await shows(alice, '>>前日本 後')
    await shows(bob, '>>前日本 後')
    assert.equal(await alice.caretIndex(), 5)
  })

  test('the server goes away and returns: written meanwhile, said to be unsaved, then saved', async (t) => {
    const server = await Server.start(t)
    const alice = await open(t, browser, `${server.url}/?doc=restart`)
    const bob = await open(t, browser, `${server.url}/?doc=restart`)
    await alice.text.pressSequentially('before ')
    await alice.page.waitForSelector('#saved[data-state=saved]')
    await shows(bob, 'before ')
    await server.stop('SIGKILL')
    await alice.page.waitForSelector('#connection[data-state=connecting]')
    await alice.text.pressSequentially('during ')
    await alice.page.waitForSelector('#saved[data-state=waiting]')
    await server.resume()
    await alice.page.waitForSelector('#saved[data-state=saved]')
    await shows(bob, 'before during ')

    await server.stop('SIGTERM')
    await bob.page.waitForSelector('#connection[data-state=connecting]')
    await server.resume()
    await bob.page.waitForSelector('#connection[data-state=connected]')
    await alice.page.waitForSelector('#connection[data-state=connected]')
    await bob.caret(0)
    await bob.text.pressSequentially('after ')
    await shows(alice, 'after before during ')
    await bob.page.waitForSelector('#saved[data-state=saved]')
  })

  test('without a token the page says why, and a token in the address lets it in', async (t) => {
    const server = await Server.start(t, { dev: false, env: { SYNCLINE_LIMITS__FAILED_CONNECTS_PER_MINUTE: '0' } })
    const alice = await open(t, browser, `${server.url}/?doc=closed`, 'refused')
    assert.match(await alice.page.locator('#refused').textContent(), /token/)
    await alice.page.screenshot({ path: `${PICTURES}refused.png` })
    await alice.page.evaluate((value) => { location.hash = `token=${value}` }, token({ closed: 'write' }))
    await alice.page.waitForSelector('#connection[data-state=connected]')
    await alice.text.pressSequentially('in')
    await alice.page.waitForSelector('#saved[data-state=saved]')
    assert.equal(await alice.page.locator('#refused').isVisible(), false)
  })

  test('the page asks nobody else for anything and looks right in the dark and on a phone', async (t) => {
    const server = await Server.start(t)
    const foreign = []
    const note = (page) => page.on('request', (request) => {
      if (!request.url().startsWith(server.url) && !request.url().startsWith('data:')) foreign.push(request.url())
    })
    const dark = await open(t, browser, `${server.url}/`, 'connected', { colorScheme: 'dark', prepare: note })
    await dark.text.pressSequentially('good night')
    await dark.page.screenshot({ path: `${PICTURES}dark.png` })
    const phone = await open(t, browser, `${server.url}/`, 'connected', { viewport: { width: 360, height: 740 }, prepare: note })
    await shows(phone, 'good night')
    const overflow = await phone.page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
    assert.ok(overflow <= 0, `${overflow} px too wide`)
    await phone.page.screenshot({ path: `${PICTURES}phone.png` })
    assert.deepEqual(foreign, [])
    assert.deepEqual([dark.errors, phone.errors], [[], []])
  })
})
