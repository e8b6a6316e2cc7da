// Who the caller is: an X.509-SVID and its key, or an OIDC token. Read again when the files change.

import { createPrivateKey, X509Certificate } from 'node:crypto'

import { errorOf, type LeaseholdError } from './errors.js'

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

/** A certificate and its key, for a TLS connection. Both stay out of anything that is printed. */
export class TlsIdentity {
  readonly #cert: string
  readonly #key: string
  readonly #expires: number

  constructor(cert: string, key: string) {
    const leaf = new X509Certificate(cert)
    if (!leaf.checkPrivateKey(createPrivateKey(key))) {
      throw new Error("the key is not the certificate's")
    }
    this.#cert = cert
    this.#key = key
    this.#expires = Date.parse(leaf.validTo)
  }

  /** Whether it is over by this machine's clock. */
  get isExpired(): boolean {
    return Date.now() > this.#expires
  }

  /** What Node's TLS takes. */
  pem(): { readonly cert: string; readonly key: string } {
    return { cert: this.#cert, key: this.#key }
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

/** The token of a file or a function, for the `authorization` header (RFC 6750 section 2.1). */
export function bearer(text: string, where: string): string {
  const token = text.trim()
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw unreadable(where, new Error('it holds no token'))
  }
  return `Bearer ${token}`
}
