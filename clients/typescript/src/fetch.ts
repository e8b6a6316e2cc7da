// `fetch` with a credential: over the connection that proves its key, with the token, to the origins it is meant for.

import { Agent, type Dispatcher, fetch as send, type RequestInit as Options } from 'undici'

import type { Prover } from './dpop.js'
import { RequestError } from './errors.js'
import type { Minted } from './minting.js'
import type { Renewal } from './renewal.js'
import { type TlsIdentity, tlsOptions } from './tls.js'

/** Sends requests with the credential that a renewal keeps alive. */
export class CredentialFetch {
  readonly #renewal: Renewal
  readonly #ca: string | undefined
  readonly #origins: ReadonlySet<string> | undefined
  #held: { readonly identity: TlsIdentity | undefined; readonly dispatcher: Dispatcher } | undefined

  constructor(renewal: Renewal, ca: string | undefined, origins: readonly string[] | undefined) {
    this.#renewal = renewal
    this.#ca = ca
    this.#origins = origins && new Set(origins.map((origin) => new URL(origin).origin))
  }

  /** As the global `fetch`. What a server answers with 401 is sent once more with a new credential, if it can be sent again. */
  async fetch(input: string | URL | Request, init?: RequestInit): Promise<Response> {
    const parcel = await Parcel.of(input, init)
    this.#check(parcel.url)
    const first = await this.#renewal.current()
    const answer = await this.#send(parcel, first)
    if (answer.status !== 401 || !parcel.isRepeatable) return answer
    const next = await this.#renewal.after(first)
    if (next === undefined) return answer
    await answer.body?.cancel()
    return this.#send(parcel, next)
  }

  /** Closes connections when their answers have been read. */
  close(): void {
    this.#held?.dispatcher.close().catch(() => undefined)
    this.#held = undefined
  }

  async #send(parcel: Parcel, minted: Minted): Promise<Response> {
    const answer = await this.#sendOnce(parcel, minted)
    const lacksNonce = minted.prover?.hear(answer.url, answer) === true
    if (!lacksNonce || !parcel.isRepeatable) return answer
    await answer.body?.cancel()
    return this.#sendOnce(parcel, minted)
  }

  async #sendOnce(parcel: Parcel, minted: Minted): Promise<Response> {
    try {
      const dispatcher = this.#agentFor(minted.tls)
      const answer = await send(parcel.url, { ...parcel.options(minted), dispatcher })
      // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment -- Node has the same class built in
      return answer
    } catch (error) {
      // What stands in the way of a redirect is said as it is.
      throw error instanceof Error && error.cause instanceof RequestError ? error.cause : error
    }
  }

  #check(url: URL): void {
    if (url.protocol !== 'https:') {
      throw RequestError.of(
        'input',
        `\`${url.origin}\` is not \`https\`; a credential goes over TLS only`,
      )
    }
    if (this.#origins?.has(url.origin) === false) {
      throw RequestError.of(
        'input',
        `\`${url.origin}\` is not among \`origins\`; the credential is not for it`,
      )
    }
  }

  #agentFor(identity: TlsIdentity | undefined): Dispatcher {
    if (this.#held === undefined || this.#held.identity !== identity) {
      this.close()
      const agent = new Agent({ connect: tlsOptions({ ca: this.#ca, identity }) })
      // Looked at where each request goes out, so that no redirect leads elsewhere, and each has a proof of its own.
      const dispatcher = agent.compose((dispatch) => (options, handler) => {
        this.#check(new URL(options.origin ?? ''))
        return dispatch(proved(options, this.#renewal.latest.prover), handler)
      })
      this.#held = { identity, dispatcher }
    }
    return this.#held.dispatcher
  }
}

/** A request with a proof, if it shows a token that is bound by DPoP: one that was redirected elsewhere shows none. */
function proved(
  options: Dispatcher.DispatchOptions,
  prover: Prover | undefined,
): Dispatcher.DispatchOptions {
  const headers = { ...(options.headers as Readonly<Record<string, string>>) }
  const [, token] = /^DPoP (.+)$/.exec(headers['authorization'] ?? '') ?? []
  if (prover === undefined || token === undefined) return options
  const url = new URL(options.path, options.origin)
  const dpop = prover.proof({ method: options.method, url, token })
  return { ...options, headers: { ...headers, dpop } }
}

/** A request, read once so that it can be sent twice. */
class Parcel {
  readonly url: URL
  /** Not what is read while it is sent. */
  readonly isRepeatable: boolean
  readonly #request: Request
  readonly #body: Uint8Array | ReadableStream | undefined

  private constructor(request: Request, body: Uint8Array | ReadableStream | undefined) {
    this.url = new URL(request.url)
    this.isRepeatable = !(body instanceof ReadableStream)
    this.#request = request
    this.#body = body
  }

  /** Node's own class understands whatever `fetch` takes, and sets the content's type. */
  static async of(input: string | URL | Request, init: RequestInit | undefined): Promise<Parcel> {
    const given: unknown = init?.body ?? (input instanceof Request ? input.body : undefined)
    const isStream = typeof given === 'object' && given !== null && Symbol.asyncIterator in given
    const request = new Request(input, {
      ...init,
      ...(isStream && { duplex: 'half' }),
    })
    if (request.body === null) return new Parcel(request, undefined)
    return new Parcel(
      request,
      isStream ? request.body : new Uint8Array(await request.arrayBuffer()),
    )
  }

  /** What is sent with a credential. */
  options(minted: Minted): Options {
    const { method, headers, signal, redirect, integrity } = this.#request
    const shown = new Headers(headers)
    const scheme = minted.prover === undefined ? 'Bearer' : 'DPoP'
    if (minted.token !== undefined) shown.set('authorization', `${scheme} ${minted.token}`)
    const body = this.#body
    const options = {
      method,
      headers: [...shown],
      signal,
      redirect,
      integrity,
      body,
      duplex: 'half',
    }
    return options as Options
  }
}
