// How a resource server says no (RFC 6750 section 3, RFC 9449 section 7.1).

type Fault = 'invalid_token' | 'insufficient_scope' | 'invalid_dpop_proof' | 'use_dpop_nonce'

/** What a sidecar says to answer. */
interface Told {
  readonly reason: string
  readonly headers: Readonly<Record<string, string>>
}

/** What a challenge says of the proofs that are due. */
interface Dpop {
  readonly algorithms: readonly string[]
  readonly nonce: string | undefined
}

/** The token is not good for the request. */
export class TokenRefusedError extends Error {
  override name = 'TokenRefusedError'
  /** 401: another token, or another proof, may do. 403: this one is good, but not for that. 400: it is not one token. */
  readonly status: 400 | 401 | 403
  readonly error: Fault | 'invalid_request'
  /** The stable reason, such as `EPOCH_STALE`, where a sidecar said it. */
  readonly reason: string | undefined
  readonly #dpop: Dpop | undefined
  readonly #told: Told | undefined

  private constructor(
    status: 400 | 401 | 403,
    error: Fault | 'invalid_request',
    message: string,
    {
      cause,
      dpop,
      told,
    }: { readonly cause?: unknown; readonly dpop?: Dpop; readonly told?: Told } = {},
  ) {
    super(message, cause === undefined ? undefined : { cause })
    this.status = status
    this.error = error
    this.#dpop = dpop
    this.#told = told
    this.reason = told?.reason
  }

  /** It is none that we take, from whoever presents it. */
  static invalid(message: string, cause?: unknown): TokenRefusedError {
    return new TokenRefusedError(401, 'invalid_token', message, { cause })
  }

  /** It takes a DPoP proof, and there is none that holds. */
  static proof(
    error: Exclude<Fault, 'insufficient_scope'>,
    message: string,
    algorithms: readonly string[],
    nonce?: string,
  ): TokenRefusedError {
    return new TokenRefusedError(401, error, message, { dpop: { algorithms, nonce } })
  }

  /** It does not allow that. */
  static insufficient(message: string): TokenRefusedError {
    return new TokenRefusedError(403, 'insufficient_scope', message)
  }

  /** What a sidecar said, and the headers that it said to answer with. */
  static told(
    status: 400 | 401 | 403,
    error: TokenRefusedError['error'],
    message: string,
    told: Told,
  ): TokenRefusedError {
    return new TokenRefusedError(status, error, message, { told })
  }

  /** The `www-authenticate` header of the answer. */
  get wwwAuthenticate(): string {
    if (this.#told !== undefined) return this.#told.headers['www-authenticate'] ?? ''
    // What may stand in a description (RFC 6750 section 3).
    const description = this.message.replace(/[^\x20\x21\x23-\x5b\x5d-\x7e]/g, '?')
    const why = `error="${this.error}", error_description="${description}"`
    return this.#dpop === undefined
      ? `Bearer ${why}`
      : `DPoP ${why}, algs="${this.#dpop.algorithms.join(' ')}"`
  }

  /** All headers of the answer that the refusal makes: the challenge, and a nonce where proofs must have one. */
  get headers(): Record<string, string> {
    if (this.#told !== undefined) return { ...this.#told.headers }
    const nonce = this.#dpop?.nonce
    return {
      'www-authenticate': this.wwwAuthenticate,
      ...(nonce !== undefined && { 'dpop-nonce': nonce }),
    }
  }
}

/** The broker cannot be asked for its keys, or about a token. That is no yes, and no fault of the token: 503. */
export class VerifierUnavailableError extends Error {
  override name = 'VerifierUnavailableError'
  readonly status = 503

  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
  }
}
