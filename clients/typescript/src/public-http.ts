// The broker's HTTP: public documents for everyone, introspection for verifiers.

import { Agent, fetch, type Response as Answer } from 'undici'

import { isObject } from './claims.js'
import { WatchedFiles } from './files.js'
import { type X509Identity, TlsIdentity } from './identity.js'
import { VerifierUnavailableError } from './refusal.js'

const MOST_ANSWER_BYTES = 256 * 1024
const TIMEOUT_MS = 5_000

export class PublicHttp {
  readonly #base: string
  readonly #files: WatchedFiles
  readonly #hasCa: boolean
  #contents: readonly string[] | undefined
  #agent: Agent | undefined

  constructor(base: string, ca: string | undefined, identity: X509Identity | undefined) {
    if (!URL.canParse(base) || new URL(base).protocol !== 'https:') {
      throw new TypeError(
        `\`issuer\`: \`${base}\` is not \`https\`; give the broker's \`base_url\``,
      )
    }
    this.#base = base
    const files = ca === undefined ? [] : [ca]
    this.#hasCa = ca !== undefined
    this.#files = new WatchedFiles(
      identity === undefined ? files : [...files, identity.cert, identity.key],
    )
  }

  /** A public document. */
  async get(url: string): Promise<Response> {
    return this.#send(url, {})
  }

  /** The JSON object that a form is answered with. */
  async post(
    path: string,
    form: Readonly<Record<string, string>>,
  ): Promise<Readonly<Record<string, unknown>>> {
    const url = `${this.#base}${path}`
    const answer = await this.#send(url, {
      method: 'POST',
      body: new URLSearchParams(form).toString(),
    })
    if (answer.status !== 200) {
      const text = await answer.text().catch(() => '')
      throw new VerifierUnavailableError(
        `\`${url}\` answered with status ${answer.status}: ${text.slice(0, 300)}`,
      )
    }
    const body: unknown = await answer.json().catch((cause: unknown) => {
      throw new VerifierUnavailableError(`\`${url}\` answered with something else than JSON`, cause)
    })
    if (!isObject(body))
      throw new VerifierUnavailableError(`\`${url}\` answered with something else than an object`)
    return body
  }

  close(): void {
    this.#agent?.close().catch(() => undefined)
    this.#agent = this.#contents = undefined
  }

  async #send(url: string, request: { method?: string; body?: string }): Promise<Answer> {
    try {
      const headers =
        request.body === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }
      const signal = AbortSignal.timeout(TIMEOUT_MS)
      const dispatcher = await this.#current()
      return await fetch(url, {
        ...request,
        headers,
        signal,
        dispatcher,
        redirect: 'error',
      })
    } catch (cause) {
      throw new VerifierUnavailableError(`\`${url}\` cannot be reached: ${innermost(cause)}`, cause)
    }
  }

  /** Connections that show the identity as its files have it now. */
  async #current(): Promise<Agent> {
    const contents = await this.#files.read()
    if (this.#agent === undefined || contents !== this.#contents) {
      const [ca, [cert, key]] = this.#hasCa
        ? [contents[0], contents.slice(1)]
        : [undefined, contents]
      const tls = cert === undefined || key === undefined ? undefined : new TlsIdentity(cert, key)
      this.close()
      const connect = { ...(ca !== undefined && { ca }), ...tls?.pem() }
      this.#agent = new Agent({ connect, maxResponseSize: MOST_ANSWER_BYTES })
      this.#contents = contents
    }
    return this.#agent
  }
}

function innermost(failure: unknown): string {
  let error = failure
  while (error instanceof Error && error.cause instanceof Error) error = error.cause
  return error instanceof Error ? error.message : 'there was no answer'
}
