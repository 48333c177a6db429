// Waiting for conditions, never for time.

import { setTimeout as pause } from 'node:timers/promises'

const STEP_MS = 15

/** Resolves with the first truthy answer of `condition`; fails with `what` (text or function) after `timeoutMs`. */
export const until = async (condition, what, timeoutMs = 20_000) => {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    const answer = await condition()
    if (answer) return answer
    if (Date.now() > deadline) {
      throw new Error(`not within ${timeoutMs} ms: ${typeof what === 'function' ? what() : what}`)
    }
    await pause(STEP_MS)
  }
}

/** For proving that something does NOT happen there is only a window to watch. */
export const windowOf = pause
