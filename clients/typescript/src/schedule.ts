// When to renew, and when to try again: pure, so that the instants can be tested.

/** What a timer takes at most. */
const LONGEST_MS = 2 ** 31 - 1
const SOONEST_MS = 250
const FIRST_RETRY_MS = 500
const LAST_RETRY_MS = 30_000
const MOST_DOUBLINGS = 10

/** What a renewal is planned by. */
export interface Life {
  /** How long the credential lives, from when it was asked for. */
  readonly lifeMs: number
  /** Whether a new one could live longer: not where the task's deadline or the lease's ceiling set the end. */
  readonly extensible: boolean
}

/**
 * How long after a credential was asked for the next one is due: at two thirds of its life, up to a tenth of it earlier so
 * that many do not ask at once; and at its end where asking earlier gains nothing. `random` is in [0, 1).
 */
export function renewInMs({ lifeMs, extensible }: Life, random: number): number {
  const due = extensible ? lifeMs * (2 / 3 - random / 10) : lifeMs
  return Math.min(Math.max(due, SOONEST_MS), LONGEST_MS)
}

/**
 * How long to wait after the `failures`-th failure in a row: twice as long each time, up to half a minute, half of it left to
 * chance; never less than the broker asked for.
 */
export function retryInMs(failures: number, random: number, askedMs = 0): number {
  const doublings = Math.min(Math.max(failures - 1, 0), MOST_DOUBLINGS)
  const most = Math.min(FIRST_RETRY_MS * 2 ** doublings, LAST_RETRY_MS)
  return Math.min(Math.max(most * (0.5 + random / 2), askedMs), LONGEST_MS)
}
