// Who the caller is: an X.509-SVID and its key, or an OIDC token. Looked at anew before every call.

import { errorOf, type LeaseholdError } from './errors.js'
import { WatchedFiles } from './files.js'

/**
 * Who the caller is, and by what it proves it. Files are looked at before every call, so whoever rotates them (a SPIFFE helper,
 * a projected volume) need not tell.
 */
export type Identity = X509Identity | TokenFileIdentity | TokenIdentity

/** An X.509-SVID. */
export interface X509Identity {
  /** File with the certificate and its chain, leaf first, in PEM. */
  readonly cert: string
  /** File with its private key, in PEM. */
  readonly key: string
}

/** An OIDC token in a file. */
export interface TokenFileIdentity {
  readonly tokenFile: string
}

/** An OIDC token that is asked for before every call. */
export interface TokenIdentity {
  readonly token: () => string | Promise<string>
}

/** Proves by an OIDC token who calls, if that is what the identity is. */
export class Authorization {
  readonly #where: string
  readonly #read: () => Promise<string | undefined>

  constructor(identity: Identity | undefined) {
    if (identity !== undefined && 'tokenFile' in identity) {
      const file = new WatchedFiles([identity.tokenFile])
      this.#where = `\`${identity.tokenFile}\``
      this.#read = async () => (await file.read())[0]
    } else {
      const token = identity !== undefined && 'token' in identity ? identity.token : undefined
      this.#where = '`identity.token`'
      this.#read = async () => token?.()
    }
  }

  /** The `authorization` header (RFC 6750 section 2.1), if there is one to send. */
  async header(): Promise<{ authorization: string } | Record<string, never>> {
    const text = await this.#read().catch((cause: unknown) => {
      throw unreadable(this.#where, cause)
    })
    if (text === undefined) return {}
    const token = text.trim()
    if (!/^[\x21-\x7e]+$/.test(token)) {
      throw unreadable(this.#where, new Error('it holds no token'))
    }
    return { authorization: `Bearer ${token}` }
  }
}

/** What is in a file, or came from a function, is no identity. */
export function unreadable(what: string, cause: unknown): LeaseholdError {
  const why = cause instanceof Error ? cause.message : 'it is of no use'
  return errorOf({
    reason: 'IDENTITY_UNREADABLE',
    code: 'UNAUTHENTICATED',
    message: `${what} cannot be used: ${why}`,
    cause,
  })
}
