// A task's credential, as its user holds it: always a living one, and never in anything that is printed.

import { inspect } from 'node:util'

import type { CallOptions } from './options.js'
import type { CredentialFetch } from './fetch.js'
import { lacking } from './lacking.js'
import type { First, Minted } from './minting.js'
import { closed, type Renewal } from './renewal.js'

/** What tokens and certificates have in common. */
abstract class Held implements AsyncDisposable {
  readonly taskId: string
  readonly audience: string
  /** The orchestrator's label for where in the task the agent is. */
  readonly step: string
  /** What the orchestrator left for the agent to continue from. */
  readonly checkpoint: Uint8Array
  /**
   * As the global `fetch`, with the credential: over `https` only, and only to `origins` if those were named. What a server
   * answers with 401 is sent once more with a new credential, unless its body is a stream. Throws `TaskEndedError` when the
   * task has ended.
   */
  readonly fetch: (input: string | URL | Request, init?: RequestInit) => Promise<Response>
  readonly #renewal: Renewal
  readonly #fetch: CredentialFetch

  /** @internal */
  constructor(
    taskId: string,
    audience: string,
    first: First,
    renewal: Renewal,
    fetch: CredentialFetch,
  ) {
    this.taskId = taskId
    this.audience = audience
    this.step = first.step
    this.checkpoint = first.checkpoint
    this.#renewal = renewal
    this.#fetch = fetch
    this.fetch = (input, init) => fetch.fetch(input, init)
  }

  /** The lease's name; it changes when the task does. */
  get leaseId(): string {
    return this.#renewal.latest.leaseId
  }

  /** When the latest one ends, by the broker's clock. A newer one comes before that. */
  get expiresAt(): Date {
    return this.#renewal.latest.expiresAt
  }

  /**
   * Aborts when there will be no further one: the task has ended, the lease's ceiling is reached, or it was closed. Its reason
   * is the error that says which.
   */
  get signal(): AbortSignal {
    return this.#renewal.signal
  }

  /** Gets a new one now: after the task changed, without waiting for a server to say so. */
  async refresh(): Promise<void> {
    await this.#renewal.refresh()
  }

  /** Gives the lease back: its credentials die. Nothing is done if it is known to be over. */
  async release(options: CallOptions = {}): Promise<void> {
    await this.#renewal.release(options)
    this.#fetch.close()
  }

  /** Stops renewing. What was issued lives to its end; `release` ends it. */
  close(): void {
    this.#renewal.stop(closed('the credential'))
    this.#fetch.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release()
  }

  /** @internal */
  protected current(): Promise<Minted> {
    return this.#renewal.current()
  }

  /** @internal */
  protected latest(): Minted {
    return this.#renewal.latest
  }

  /** What may be printed. */
  toJSON(): Record<string, unknown> {
    const { taskId, audience, leaseId, expiresAt } = this
    return { taskId, audience, leaseId, expiresAt, isOver: this.signal.aborted }
  }

  [inspect.custom](): string {
    return `${this.constructor.name} ${inspect(this.toJSON())}`
  }
}

/** An access token that is renewed for as long as its task lives. */
export class Credential extends Held {
  /**
   * A token that lives. Unless it is a bearer token, servers take it only over a connection that shows the certificate it is
   * bound to, or with a DPoP proof, as `fetch` does; for other clients see `tokenWithKey` and `headers`.
   *
   * @throws {TaskEndedError} when the task has ended.
   */
  async token(): Promise<string> {
    const { token } = await this.current()
    if (token === undefined) throw lacking('credential.access_token')
    return token
  }

  /**
   * A token, with the certificate and key that it is bound to in PEM, of the same moment: for clients other than `fetch`. A
   * bearer token has neither, nor has one that is bound by DPoP.
   */
  async tokenWithKey(): Promise<{ token: string; cert?: string; key?: string }> {
    const { token, tls } = await this.current()
    if (token === undefined) throw lacking('credential.access_token')
    return { token, ...tls?.pem() }
  }

  /**
   * The headers by which one request shows it: for clients other than `fetch`. Bound by DPoP it goes with a proof for this very
   * request, and the headers are good once. `nonce`: what that server sent in `dpop-nonce`, for this proof and those to come.
   */
  async headers(
    method: string,
    url: string | URL,
    nonce?: string,
  ): Promise<Record<string, string>> {
    const { token, prover } = await this.current()
    if (token === undefined) throw lacking('credential.access_token')
    if (prover === undefined) return { authorization: `Bearer ${token}` }
    if (nonce !== undefined) prover.learn(url, nonce)
    return { authorization: `DPoP ${token}`, dpop: prover.proof({ method, url, token }) }
  }
}

/** An X.509-SVID, for a key that never leaves this process, renewed for as long as its task lives. */
export class Certificate extends Held {
  /** Its SPIFFE ID; it names the task's epoch. */
  get spiffeId(): string {
    return this.latest().spiffeId ?? ''
  }

  /** The certificate with its chain, and its key, in PEM: for `tls.connect` and the like. */
  async pem(): Promise<{ cert: string; key: string }> {
    const { tls } = await this.current()
    if (tls === undefined) throw lacking('credential.certificate_chain_der')
    return tls.pem()
  }
}
