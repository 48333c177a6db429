// HS256 tokens, signed here and not by the server, as an application would.

import { createHmac } from 'node:crypto'

export const SECRET = 'interop-secret-interop-secret-interop-secret'

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** `access` maps patterns to "none", "read", "write" or "admin"; `ttlSeconds` may be negative; `claims` are more of them. */
export const token = (access, { sub = 'alice', ttlSeconds = 3600, secret = SECRET, ...claims } = {}) => {
  const exp = Math.floor(Date.now() / 1000) + ttlSeconds
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ sub, exp, access, ...claims })}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}
