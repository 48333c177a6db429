// docs/SPECIFICATIONS.md says which check stands for which requirement. Here: each check that it names exists, and so does each
// file; every criterion has one; no scenario is forgotten.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { describe, test } from 'node:test'

const docs = new URL('../../../docs/', import.meta.url)
const text = readFileSync(new URL('SPECIFICATIONS.md', docs), 'utf8')
const rows = text.split('\n').filter((line) => line.startsWith('|')).map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()))
  .filter(([first]) => !/^(-+|requirement)$/.test(first))

/** The titles of all tests of a file; what is filled in at run time is `…`. */
const titles = (file) => {
  const source = readFileSync(new URL(file, import.meta.url), 'utf8')
  return [...source.matchAll(/\b(?:test|story)\((['"`])(.*?)\1, /gs)].map(([, , title]) => title.replace(/\$\{[^}]*\}/g, '…'))
}

const files = readdirSync(new URL('.', import.meta.url)).filter((name) => name.endsWith('.test.mjs'))
const known = new Map(files.map((file) => [file.replace('.test.mjs', ''), titles(file)]))
/** Scenarios of several nodes, named `cluster/…`: of those only some stand for a requirement. */
const several = readdirSync(new URL('../cluster/', import.meta.url)).filter((name) => name.endsWith('.test.mjs'))
for (const file of several) known.set(`cluster/${file.replace('.test.mjs', '')}`, titles(`../cluster/${file}`))
const named = rows.flatMap(([, checks]) => [...checks.matchAll(/`([\w/]+)` › (.*?)(?=<br>|$)/g)].map(([, file, title]) => ({ file, title: title.trim() })))

describe('docs/SPECIFICATIONS.md', () => {
  test('every check that is named exists', () => {
    assert.ok(named.length > 100, `${named.length} are named`)
    for (const { file, title } of named) assert.ok(known.get(file)?.includes(title), `${file}: ${title}`)
  })

  test('every requirement names a check, a file, or why there is none yet', () => {
    for (const [requirement, checks] of rows) {
      assert.match(checks, /` › |\]\(|^not yet: /, requirement)
    }
  })

  test('every file that is named exists', () => {
    for (const [, path] of text.matchAll(/\]\(([^)#]+)/g)) assert.ok(existsSync(new URL(path, docs)), path)
  })

  test('every scenario stands for something', () => {
    for (const [file, titles] of known) {
      if (file === 'specifications' || file.startsWith('cluster/')) continue
      for (const title of titles) assert.ok(named.some((check) => check.file === file && check.title === title), `${file}: ${title}`)
    }
  })
})
