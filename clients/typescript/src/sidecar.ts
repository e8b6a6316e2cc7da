// For whatever accepts credentials beside a sidecar: `leasehold verify` follows revocations, and says who may be let in.
// It stands where a `Verifier` would, and asks no broker.
//
//                                          `verifyActive`   `admit`
//  signature, issuer, audience, time             ✓             ✓
//  connection or proof shows the token's key     ✓             ✓
//  the grant allows the action                   ✓             ✓
//  the task lives, nothing was revoked           ✓             ✓
//  what ends while the request is served      not seen      is told

import { createHash } from 'node:crypto'
import { type IncomingMessage, request } from 'node:http'

import { allows } from './allowance.js'
import { claimsOf } from './claims.js'
import { TokenRefusedError, VerifierUnavailableError } from './refusal.js'
import { type Presented, verified, type VerifiedToken } from './verifier.js'

/** Where `leasehold verify` answers, if nothing else is said. */
const SOCKET = '/run/leasehold/verify.sock'
const MOST_ANSWER_BYTES = 256 * 1024
const TIMEOUT_MS = 5_000

/** Which sidecar, and for what. */
export interface SidecarOptions {
  /** Our own name, which must be the sidecar's. */
  readonly audience: string
  /** Its socket; default: `/run/leasehold/verify.sock`. */
  readonly socketPath?: string | undefined
  /** How long it may take to answer, in milliseconds; default: 5 s. No answer by then is no yes. */
  readonly timeoutMs?: number | undefined
}

type Answer = Readonly<Record<string, unknown>>

/** Asks the sidecar beside this server; each question is a connection of its own. */
export class Sidecar {
  readonly #audience: string
  readonly #socketPath: string
  readonly #timeoutMs: number

  constructor({ audience, socketPath = SOCKET, timeoutMs = TIMEOUT_MS }: SidecarOptions) {
    this.#audience = audience
    this.#socketPath = socketPath
    this.#timeoutMs = timeoutMs
  }

  /**
   * That a token is good for an action, and its task lives now; as `Verifier.verifyActive`. Whoever waits for DRAINED waits as long
   * as the sidecar's `--longest-request` for what was let in so; `admit` says when it is over.
   *
   * @throws {TokenRefusedError} if it is not, with the answer to give.
   * @throws {VerifierUnavailableError} if the sidecar cannot say, which is never a yes.
   */
  async verifyActive(
    presented: Presented,
    action: string,
    dataClass?: string,
  ): Promise<VerifiedToken> {
    const lines = await this.#ask('/v1/verify', presented, action)
    try {
      return this.#decided(lines.status, await lines.rest(), action, dataClass)
    } finally {
      lines.close()
    }
  }

  /** The same: a sidecar always knows whether the task lives. */
  verify(presented: Presented, action: string, dataClass?: string): Promise<VerifiedToken> {
    return this.verifyActive(presented, action, dataClass)
  }

  /**
   * The same, for as long as the request runs: close the admission when it is over.
   *
   * @throws {TokenRefusedError} if it is not good, with the answer to give.
   * @throws {VerifierUnavailableError} if the sidecar cannot say, which is never a yes.
   */
  async admit(presented: Presented, action: string, dataClass?: string): Promise<Admission> {
    const lines = await this.#ask('/v1/admit', presented, action)
    try {
      const said = lines.status === 200 ? await lines.next() : await lines.rest()
      return new Admission(this.#decided(lines.status, said, action, dataClass), lines)
    } catch (error) {
      lines.close()
      throw error
    }
  }

  /** Nothing is open between questions; it is here because a `Verifier` has it. */
  close(): void {
    // Nothing.
  }

  async #ask(path: string, presented: Presented, action: string): Promise<Lines> {
    const body = JSON.stringify(question(presented, action))
    const away = (why: unknown) => {
      const text = why instanceof Error ? why.message : String(why)
      const at = `the sidecar at \`${this.#socketPath}\``
      return new VerifierUnavailableError(`${at} cannot be asked: ${text}`, why)
    }
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const asked = request({
        socketPath: this.#socketPath,
        path,
        method: 'POST',
        agent: false,
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      })
      asked.setTimeout(this.#timeoutMs, () => asked.destroy(new Error('it does not answer')))
      asked.once('response', resolve)
      asked.once('error', (error) => {
        reject(away(error))
      })
      asked.end(body)
    })
    return new Lines(answer, this.#timeoutMs, away)
  }

  #decided(status: number, text: string, action: string, dataClass?: string): VerifiedToken {
    const answer = objectOf(text) ?? {}
    const { active, message } = answer
    if (status === 200 && active === true) return this.#letIn(answer, action, dataClass)
    const isRefusal = status === 400 || status === 401 || status === 403
    if (isRefusal && active === false && answer['status'] === status) {
      throw refusedBy(status, answer)
    }
    const said = typeof message === 'string' ? message : `status ${String(status)}`
    throw new VerifierUnavailableError(`the sidecar says neither yes nor no: ${said}`)
  }

  #letIn(answer: Answer, action: string, dataClass?: string): VerifiedToken {
    if (answer['audience'] !== this.#audience) {
      throw new VerifierUnavailableError(
        `the sidecar at \`${this.#socketPath}\` is for another audience`,
      )
    }
    const claims = (() => {
      try {
        return claimsOf(answer['claims'] as Record<string, unknown>, this.#audience)
      } catch (error) {
        throw new VerifierUnavailableError("the sidecar's answer is of no known form", error)
      }
    })()
    if (!allows(claims.authorization_details, this.#audience, action, dataClass)) {
      throw TokenRefusedError.insufficient(`the token does not allow \`${action}\` here`)
    }
    return verified(claims)
  }
}

/** A request that was let in, until it is closed. Whoever waits for DRAINED waits for that. */
export class Admission {
  /** What it was let in on. */
  readonly token: VerifiedToken
  /**
   * Done when the credential dies, with the reason: stop then. Nothing: it was closed, or the sidecar went away, and nobody will
   * tell any more.
   */
  readonly revoked: Promise<string | undefined>
  readonly #lines: Lines

  constructor(token: VerifiedToken, lines: Lines) {
    this.token = token
    this.#lines = lines
    lines.waitForEver()
    this.revoked = told(lines)
  }

  /** The request is over. */
  close(): void {
    this.#lines.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

async function told(lines: Lines): Promise<string | undefined> {
  try {
    for (;;) {
      const line = await lines.next()
      const reason = objectOf(line)?.['reason']
      if (typeof reason === 'string') return reason
      if (line !== '') return undefined
    }
  } catch {
    return undefined
  }
}

/** An answer, line by line. */
class Lines {
  readonly status: number
  readonly #answer: IncomingMessage
  readonly #chunks: AsyncIterator<string, undefined>
  readonly #away: (why: unknown) => Error
  #text = ''

  constructor(answer: IncomingMessage, timeoutMs: number, away: (why: unknown) => Error) {
    this.status = answer.statusCode ?? 0
    this.#answer = answer
    this.#away = away
    answer.setTimeout(timeoutMs, () => answer.destroy(new Error('it does not end its answer')))
    answer.setEncoding('utf8')
    this.#chunks = (answer as AsyncIterable<string, undefined>)[Symbol.asyncIterator]()
  }

  /** The next line, without its end. */
  async next(): Promise<string> {
    for (;;) {
      const end = this.#text.indexOf('\n')
      if (end >= 0) {
        const line = this.#text.slice(0, end)
        this.#text = this.#text.slice(end + 1)
        return line
      }
      if (!(await this.#read())) throw this.#away('it ended its answer')
    }
  }

  /** All that comes. */
  async rest(): Promise<string> {
    while (await this.#read()) {
      // On.
    }
    return this.#text
  }

  waitForEver(): void {
    this.#answer.setTimeout(0)
  }

  close(): void {
    this.#answer.destroy()
  }

  async #read(): Promise<boolean> {
    try {
      const { done, value } = await this.#chunks.next()
      if (done === true) return false
      this.#text += value
    } catch (error) {
      throw this.#away(error)
    }
    if (this.#text.length > MOST_ANSWER_BYTES) throw this.#away('its answer is too long')
    return true
  }
}

function question({ token, certificate, dpop }: Presented, action: string): Answer {
  return {
    actions: [action],
    ...(token !== undefined &&
      token !== '' && { authorization: `${dpop ? 'DPoP' : 'Bearer'} ${token}` }),
    ...(certificate !== undefined && {
      certificate_sha256: createHash('sha256').update(certificate).digest('base64url'),
    }),
    ...(dpop !== undefined && {
      dpop: dpop.values,
      method: dpop.method,
      path: new URL(dpop.url).pathname,
    }),
  }
}

const ERRORS = [
  ...(['invalid_request', 'invalid_token', 'insufficient_scope'] as const),
  ...(['invalid_dpop_proof', 'use_dpop_nonce'] as const),
]

function refusedBy(status: 400 | 401 | 403, answer: Answer): TokenRefusedError {
  const headers: Record<string, string> = {}
  const pairs: unknown = answer['headers']
  for (const [name, value] of Array.isArray(pairs) ? pairs.filter(isPair) : []) {
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`
  }
  // Where nothing was shown, it says none.
  const error = ERRORS.find((known) => known === answer['error']) ?? 'invalid_token'
  const [reason, message] = [String(answer['reason']), String(answer['message'])]
  return TokenRefusedError.told(status, error, message, { reason, headers })
}

function isPair(pair: unknown): pair is readonly [string, string] {
  return Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === 'string')
}

function objectOf(text: string): Answer | undefined {
  try {
    const value: unknown = JSON.parse(text)
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
    return isObject ? (value as Answer) : undefined
  } catch {
    return undefined
  }
}
