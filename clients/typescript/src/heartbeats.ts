// Says in the background, again and again, that an orchestrator is still there.

/** Sends well before the interval is over, so that one that is late is not missed. */
const SHARE_OF_INTERVAL = 0.7

export class Heartbeats implements Disposable {
  readonly #intervalMs: number
  readonly #beat: () => Promise<unknown>
  readonly #goesOn: (error: unknown) => boolean
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  /** `goesOn` judges a failure; without it the next beat is tried as planned. */
  constructor(
    intervalMs: number,
    beat: () => Promise<unknown>,
    goesOn: (error: unknown) => boolean,
  ) {
    this.#intervalMs = intervalMs
    this.#beat = beat
    this.#goesOn = goesOn
    this.#plan()
  }

  [Symbol.dispose](): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  #plan(): void {
    if (this.#stopped) return
    this.#timer = setTimeout(() => void this.#send(), this.#intervalMs * SHARE_OF_INTERVAL).unref()
  }

  async #send(): Promise<void> {
    try {
      await this.#beat()
    } catch (error) {
      if (!this.#goesOn(error)) return
    }
    this.#plan()
  }
}
