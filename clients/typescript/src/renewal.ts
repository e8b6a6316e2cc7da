// Keeps one credential alive: renews it before it ends, tries again when that fails, and stops for good when there is nothing
// left to renew.
//
//            renewed                        failed, may pass           failed for good
//  ┌───▶ wait for two thirds of its life ──▶ wait, longer each time ──▶ dead: the signal says why
//  └────────────┘ ▲                              │
//                 └──────────────────────────────┘
//
// A lease whose task moved on is not renewed but issued anew, in the task's present epoch: the agent goes on after `advance`,
// unless it asked for one epoch alone.

import { Budget } from './budget.js'
import type { Caller } from './call.js'
import {
  DeniedError,
  EpochStaleError,
  errorOf,
  LeaseholdError,
  NotFoundError,
  RequestError,
  TaskEndedError,
} from './errors.js'
import { type First, issue, type Minted, release, renew, type Terms } from './minting.js'
import type { CallOptions } from './options.js'
import { renewInMs, retryInMs } from './schedule.js'

/** With less than that, or a tenth of its life, left of it a new one is asked for before it is handed out. */
const MARGIN_MS = 2_000
/** How often servers that refuse a credential make us ask for another: so often at once, and then once in so long. */
const MOST_REFUSALS = 5
const BETWEEN_REFUSALS_MS = 2_000

/** Why it is over for good, of the broker's reasons that are not of a class that always is. */
const FINAL_REASONS: ReadonlySet<string> = new Set([
  'CEILING_REACHED',
  'INSTANCE_MISMATCH',
  'PROOF_INVALID',
])

export class Renewal {
  readonly #caller: Caller
  readonly #terms: Terms
  readonly #over = new AbortController()
  readonly #onClose: () => void
  #minted: Minted
  #failures = 0
  readonly #refusals = new Budget(MOST_REFUSALS, BETWEEN_REFUSALS_MS)
  #timer: NodeJS.Timeout | undefined
  #renewing: Promise<Minted> | undefined

  private constructor(caller: Caller, terms: Terms, minted: Minted, onClose: () => void) {
    this.#caller = caller
    this.#terms = terms
    this.#minted = minted
    this.#onClose = onClose
    this.#plan(renewInMs(minted, Math.random()) - minted.age.elapsedMs())
  }

  /** Issues the first credential, and keeps it alive from then on. */
  static async begin(
    caller: Caller,
    terms: Terms,
    options: CallOptions,
    onClose: (renewal: Renewal) => void,
  ): Promise<{ renewal: Renewal; first: First }> {
    const first = await issue(caller, terms, options)
    const renewal: Renewal = new Renewal(caller, terms, first.minted, () => {
      onClose(renewal)
    })
    return { renewal, first }
  }

  /** Aborts when it is over; its reason is the error that says why. */
  get signal(): AbortSignal {
    return this.#over.signal
  }

  /** The latest credential, whatever is left of it. */
  get latest(): Minted {
    return this.#minted
  }

  /** A credential that lives by the clock: the latest, or a new one if that is about to end. */
  async current(): Promise<Minted> {
    this.#over.signal.throwIfAborted()
    if (leftMs(this.#minted) > Math.min(MARGIN_MS, this.#minted.lifeMs / 10)) return this.#minted
    try {
      return await this.#renewOnce()
    } catch (error) {
      this.#over.signal.throwIfAborted()
      if (leftMs(this.#minted) > 0) return this.#minted
      throw error
    }
  }

  /**
   * One that is not `refused`: a server did not take it, so its task may have changed. Nothing if there is none at once.
   * Throws only if it is over.
   */
  async after(refused: Minted): Promise<Minted | undefined> {
    this.#over.signal.throwIfAborted()
    if (this.#minted !== refused) return this.current()
    if (!this.#refusals.take()) return undefined
    try {
      return await this.#renewOnce()
    } catch {
      this.#over.signal.throwIfAborted()
      return undefined
    }
  }

  /** Renews it now. */
  async refresh(): Promise<void> {
    this.#over.signal.throwIfAborted()
    await this.#renewOnce()
  }

  /** Stops, and gives the lease back. */
  async release(options: CallOptions): Promise<void> {
    const isOver = this.#over.signal.aborted
    this.stop(closed('the credential'))
    if (isOver) return
    await this.#renewing?.catch(() => undefined)
    await release(this.#caller, this.#minted.leaseId, options)
  }

  /** Stops; what was issued lives to its end. */
  stop(why: Error): void {
    clearTimeout(this.#timer)
    if (this.#over.signal.aborted) return
    this.#over.abort(why)
    this.#onClose()
  }

  #plan(delayMs: number): void {
    clearTimeout(this.#timer)
    if (this.#over.signal.aborted) return
    // It must not keep a process alive that has nothing else to do.
    this.#timer = setTimeout(
      () => {
        this.#renewOnce().catch(() => undefined)
      },
      Math.max(delayMs, 0),
    ).unref()
  }

  /** All who want a new one at the same time get the same. */
  #renewOnce(): Promise<Minted> {
    this.#renewing ??= this.#renew().finally(() => {
      this.#renewing = undefined
    })
    return this.#renewing
  }

  async #renew(): Promise<Minted> {
    try {
      const next = await this.#next()
      this.#failures = 0
      this.#minted = next
      this.#plan(renewInMs(next, Math.random()) - next.age.elapsedMs())
      return next
    } catch (error) {
      this.#failures += 1
      if (isFinal(error)) {
        this.stop(error)
      } else {
        const asked = error instanceof LeaseholdError ? error.retryDelayMs : undefined
        this.#plan(retryInMs(this.#failures, Math.random(), asked))
      }
      throw error
    }
  }

  async #next(): Promise<Minted> {
    const options = { signal: this.#over.signal }
    if (leftMs(this.#minted) > 0) {
      try {
        return await renew(this.#caller, this.#minted, this.#terms.ttl, options)
      } catch (error) {
        if (!isLeaseOver(error)) throw error
      }
    }
    return (await issue(this.#caller, this.#terms, options)).minted
  }
}

/** Why something is over that its owner closed. */
export function closed(what: string): LeaseholdError {
  const message = `${what} was closed`
  return errorOf({ reason: 'CLOSED', code: 'CANCELLED', message })
}

function leftMs(minted: Minted): number {
  return minted.lifeMs - minted.age.elapsedMs()
}

/** Whether trying again is of no use. What somebody may lift, or what passes, is none of it. */
function isFinal(error: unknown): error is Error {
  return (
    error instanceof TaskEndedError ||
    error instanceof EpochStaleError ||
    error instanceof NotFoundError ||
    error instanceof DeniedError ||
    error instanceof RequestError ||
    (error instanceof LeaseholdError && FINAL_REASONS.has(error.reason))
  )
}

/** Whether the lease is over, which says nothing of its task. */
function isLeaseOver(error: unknown): boolean {
  const isRevoked = error instanceof LeaseholdError && error.reason === 'LEASE_REVOKED'
  return isRevoked || error instanceof NotFoundError
}
