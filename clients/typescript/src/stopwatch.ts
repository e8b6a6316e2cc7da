// How long ago something was, whichever clock says longer: the monotonic one may stand while the machine sleeps, and the other
// may be set.

export class Stopwatch {
  readonly #monotonic = performance.now()
  readonly #wall = Date.now()

  /** Milliseconds since it was made. */
  elapsedMs(): number {
    return Math.max(performance.now() - this.#monotonic, Date.now() - this.#wall)
  }
}
