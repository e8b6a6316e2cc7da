// What a watch of a task was told, and what to do when it is lost: no clock, no connection.
//
//  open ──▶ told ──▶ told … ──▶ it has ended      lost: wait, and open again; what was missed is told first

import { isDeepStrictEqual } from 'node:util'

import {
  DeniedError,
  IdentityError,
  type LeaseholdError,
  NotFoundError,
  RequestError,
} from './errors.js'
import { retryInMs } from './schedule.js'
import type { TaskInfo } from './task-info.js'

export class Watching {
  readonly #waitAfter: (error: LeaseholdError, failures: number) => number | undefined
  readonly #random: () => number
  #told: TaskInfo | undefined
  #wasLetIn = false
  #failures = 0

  /** `waitAfter`: how long a call waits that failed in this way for the n-th time; nothing if it is given up. */
  constructor(
    waitAfter: (error: LeaseholdError, failures: number) => number | undefined,
    random: () => number = Math.random,
  ) {
    this.#waitAfter = waitAfter
    this.#random = random
  }

  /** It was told. Whether that is news: a watch that is opened anew begins with what may be known. */
  hear(info: TaskInfo): boolean {
    const told = this.#told
    this.#told = info
    this.#wasLetIn = true
    this.#failures = 0
    return !isDeepStrictEqual(told, info)
  }

  /** The watch was lost. How long to wait before another one, in milliseconds; throws if that is of no use. */
  lose(error: LeaseholdError): number {
    const wasLetIn = this.#wasLetIn
    this.#wasLetIn = false
    this.#failures += 1
    if (this.#told === undefined) {
      // As any other call: nothing was promised yet.
      const wait = this.#waitAfter(error, this.#failures)
      if (wait === undefined) throw error
      return wait
    }
    // Whoever was let in and no longer is may have another certificate by now.
    if (isFinal(error) || (error instanceof IdentityError && !wasLetIn)) throw error
    return retryInMs(this.#failures, this.#random(), error.retryDelayMs)
  }
}

/** Whether nothing makes it possible to watch again. */
function isFinal(error: LeaseholdError): boolean {
  return (
    error instanceof NotFoundError ||
    error instanceof DeniedError ||
    error instanceof RequestError ||
    error.code === 'UNIMPLEMENTED'
  )
}
