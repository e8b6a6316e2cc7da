// Tests wait for facts: again and again until one holds.

import { setTimeout as sleep } from 'node:timers/promises'

const PATIENCE_MS = 30_000

/** Waits until `fact` answers with something, and gives that. */
export async function eventually<T>(
  what: string,
  fact: () => T | Promise<T>,
): Promise<Exclude<T, undefined | null | false>> {
  const began = performance.now()
  while (performance.now() - began < PATIENCE_MS) {
    const found = await fact()
    if (found !== undefined && found !== null && found !== false) {
      return found as Exclude<T, undefined | null | false>
    }
    await sleep(20)
  }
  throw new Error(`it did not come true: ${what}`)
}
