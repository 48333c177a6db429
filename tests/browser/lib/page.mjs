// One person at the page: a browser context of their own, and the few things people do there.

import { chromium } from 'playwright-core'
import { until } from '../../interop/lib/until.mjs'

// No quic, sync or updates: the browser talks to the server under test and to nobody else.
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'
]

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS })

/** Opens `url` and waits for the connection to be in `state`. The context closes after test `t`. */
export const open = async (t, browser, url, state = 'connected', { prepare, ...options } = {}) => {
  const context = await browser.newContext({ viewport: { width: 1240, height: 760 }, ...options })
  t.after(() => context.close())
  const page = await context.newPage()
  page.setDefaultTimeout(30_000)
  const errors = []
  page.on('pageerror', (error) => errors.push(error.message))
  page.on('console', (message) => {
    // The browser itself reports a refused dial; that is what the restart test is about.
    if (message.type() === 'error' && !message.text().startsWith('WebSocket connection to')) errors.push(message.text())
  })
  prepare?.(page)
  await page.goto(url)
  await page.waitForSelector(`#connection[data-state=${state}]`)
  const text = page.locator('#text')
  return {
    page,
    text,
    errors,
    select: (from, to) => text.evaluate((field, range) => { field.focus(); field.setSelectionRange(...range) }, [from, to]),
    caret: (at) => text.evaluate((field, index) => { field.focus(); field.setSelectionRange(index, index) }, at),
    caretIndex: () => text.evaluate((field) => field.selectionStart),
    people: () => page.locator('#people .who').allTextContents()
  }
}

/** Waits until the textarea holds exactly `expected`. */
export const shows = async ({ text }, expected) => {
  let last
  await until(async () => (last = await text.inputValue()) === expected, () => `${JSON.stringify(expected)}, shows ${JSON.stringify(last)}`)
}
