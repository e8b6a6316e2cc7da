// The broker's HTTP: public documents for everyone, introspection for verifiers.

import { Agent, fetch, type RequestInit as Options, type Response as Answer } from 'undici'

import { isObject } from './claims.js'
import { RequestError } from './errors.js'
import { Authorization, type Identity } from './identity.js'
import { VerifierUnavailableError } from './refusal.js'
import { TlsFiles, tlsOptions, type TlsSettings } from './tls.js'

const MOST_ANSWER_BYTES = 256 * 1024
const TIMEOUT_MS = 5_000

export class PublicHttp {
  readonly #base: string
  readonly #files: TlsFiles
  readonly #authorization: Authorization
  #held: { readonly tls: TlsSettings; readonly agent: Agent } | undefined

  constructor(base: string, ca: string | undefined, identity: Identity | undefined) {
    if (!URL.canParse(base) || new URL(base).protocol !== 'https:') {
      const problem = `\`${base}\` is not \`https\`; give the broker's \`base_url\``
      throw RequestError.of('issuer', problem)
    }
    this.#base = base
    this.#files = new TlsFiles(ca, identity)
    this.#authorization = new Authorization(identity)
  }

  /** A public document. */
  async get(url: string): Promise<Response> {
    return this.#send(url, () => ({}))
  }

  /** The JSON object that a form is answered with. */
  async post(
    path: string,
    form: Readonly<Record<string, string>>,
  ): Promise<Readonly<Record<string, unknown>>> {
    const url = `${this.#base}${path}`
    const body = new URLSearchParams(form).toString()
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }
    const answer = await this.#send(url, async () => ({
      ...{ method: 'POST', body },
      headers: { ...headers, ...(await this.#authorization.header()) },
    }))
    if (answer.status !== 200) {
      const text = await answer.text().catch(() => '')
      throw new VerifierUnavailableError(
        `\`${url}\` answered with status ${answer.status}: ${text.slice(0, 300)}`,
      )
    }
    const said: unknown = await answer.json().catch((cause: unknown) => {
      throw new VerifierUnavailableError(`\`${url}\` answered with something else than JSON`, cause)
    })
    if (!isObject(said))
      throw new VerifierUnavailableError(`\`${url}\` answered with something else than an object`)
    return said
  }

  close(): void {
    this.#held?.agent.close().catch(() => undefined)
    this.#held = undefined
  }

  async #send(url: string, request: () => Options | Promise<Options>): Promise<Answer> {
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS)
      const dispatcher = await this.#agent()
      return await fetch(url, { ...(await request()), signal, dispatcher, redirect: 'error' })
    } catch (cause) {
      throw new VerifierUnavailableError(`\`${url}\` cannot be reached: ${innermost(cause)}`, cause)
    }
  }

  /** Connections that show the identity as its files have it now. */
  async #agent(): Promise<Agent> {
    const tls = await this.#files.read()
    if (this.#held?.tls !== tls) {
      this.close()
      const agent = new Agent({ connect: tlsOptions(tls), maxResponseSize: MOST_ANSWER_BYTES })
      this.#held = { tls, agent }
    }
    return this.#held.agent
  }
}

function innermost(failure: unknown): string {
  let error = failure
  while (error instanceof Error && error.cause instanceof Error) error = error.cause
  return error instanceof Error ? error.message : 'there was no answer'
}
