// How a resource server says no (RFC 6750 section 3).

/** The token is not good for the request. */
export class TokenRefusedError extends Error {
  override name = 'TokenRefusedError'
  /** 401: another token may do. 403: this one is good, but not for that. */
  readonly status: 401 | 403
  readonly error: 'invalid_token' | 'insufficient_scope'

  private constructor(
    status: 401 | 403,
    error: 'invalid_token' | 'insufficient_scope',
    message: string,
    cause?: unknown,
  ) {
    super(message, cause === undefined ? undefined : { cause })
    this.status = status
    this.error = error
  }

  /** It is none that we take, from whoever presents it. */
  static invalid(message: string, cause?: unknown): TokenRefusedError {
    return new TokenRefusedError(401, 'invalid_token', message, cause)
  }

  /** It does not allow that. */
  static insufficient(message: string): TokenRefusedError {
    return new TokenRefusedError(403, 'insufficient_scope', message)
  }

  /** The `www-authenticate` header of the answer. */
  get wwwAuthenticate(): string {
    // What may stand in a description (RFC 6750 section 3).
    const description = this.message.replace(/[^\x20\x21\x23-\x5b\x5d-\x7e]/g, '?')
    return `Bearer error="${this.error}", error_description="${description}"`
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
