// How often something may be done: so many times at once, and one more each time a while has passed.

export class Budget {
  readonly #most: number
  readonly #refillMs: number
  #left: number
  #at = performance.now()

  constructor(most: number, refillMs: number) {
    this.#most = most
    this.#left = most
    this.#refillMs = refillMs
  }

  /** Takes one, if there is one. */
  take(): boolean {
    const now = performance.now()
    this.#left = Math.min(this.#most, this.#left + (now - this.#at) / this.#refillMs)
    this.#at = now
    if (this.#left < 1) return false
    this.#left -= 1
    return true
  }
}
