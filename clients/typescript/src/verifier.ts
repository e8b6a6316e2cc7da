// For whatever accepts credentials: is this token good for this request?
//
//                                          `verify`   `verifyActive`
//  signature, issuer, audience, time           ✓             ✓
//  connection or proof shows the token's key   ✓             ✓
//  the grant allows the action                 ✓             ✓
//  the task lives, nothing was revoked      not seen   ✓ when asked

import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { TLSSocket } from 'node:tls'

import { createRemoteJWKSet, customFetch, errors, jwtVerify, type JWTVerifyGetKey } from 'jose'

import { allows } from './allowance.js'
import { type Claims, claimsOf } from './claims.js'
import type { Identity } from './identity.js'
import { type DpopProofs, ProofChecker } from './proof.js'
import { PublicHttp } from './public-http.js'
import { TokenRefusedError, VerifierUnavailableError } from './refusal.js'

export type { Claims, Confirmation } from './claims.js'
export type { DpopProofs } from './proof.js'
export { TokenRefusedError, VerifierUnavailableError } from './refusal.js'

/** Longer ones are not looked at. */
const MOST_TOKEN_BYTES = 8 * 1024
const KEYS_AGE_MS = 5 * 60_000
const BETWEEN_FETCHES_MS = 10_000

/** Whose tokens are accepted, and for what. */
export interface VerifierOptions {
  /** The broker's `base_url`: the `iss` of its tokens, compared byte for byte; its public documents lie below. */
  readonly issuer: string
  /** Our own name, which a token must be for. */
  readonly audience: string
  /** File with the CA that issued the broker's certificate, in PEM; default: the roots of Node. */
  readonly ca?: string | undefined
  /** Who we are, for introspection: somebody with the role `verifier` for the audience. */
  readonly identity?: Identity | undefined
  /** Accept tokens that are bound to no key, as tiers with `proof = "optional"` issue them; default: false. */
  readonly acceptBearer?: boolean | undefined
  /**
   * At least 32 random bytes that all servers of one name share. With it DPoP proofs must have a nonce made of it, which a
   * refusal brings; default: none is asked for.
   */
  readonly dpopNonceSecret?: Uint8Array | undefined
}

/** What came with a request. */
export interface Presented {
  /** The compact JWS of the `authorization` header. */
  readonly token: string | undefined
  /** DER of the client certificate of the connection that the request came over. */
  readonly certificate: Uint8Array | undefined
  /** What came along, if the scheme of the `authorization` header was `DPoP`; nothing for any other. */
  readonly dpop?: DpopProofs | undefined
}

/** A token that is good for what was asked. */
export interface VerifiedToken {
  /** Who presents it: the task's agent. */
  readonly agent: string
  /** For whom, in the end: the root task's agent. */
  readonly subject: string
  readonly taskId: string
  readonly rootTaskId: string
  readonly leaseId: string
  readonly expiresAt: Date
  readonly claims: Claims
}

export class Verifier {
  readonly #issuer: string
  readonly #audience: string
  readonly #acceptBearer: boolean
  readonly #canIntrospect: boolean
  readonly #http: PublicHttp
  readonly #keys: JWTVerifyGetKey
  readonly #proofs: ProofChecker

  constructor(options: VerifierOptions) {
    const { issuer, audience, ca, identity, acceptBearer, dpopNonceSecret } = options
    this.#proofs = new ProofChecker(dpopNonceSecret)
    this.#issuer = issuer
    this.#audience = audience
    this.#acceptBearer = acceptBearer ?? false
    this.#canIntrospect = identity !== undefined
    this.#http = new PublicHttp(issuer, ca, identity)
    this.#keys = createRemoteJWKSet(new URL(`${issuer}/oauth2/jwks`), {
      cacheMaxAge: KEYS_AGE_MS,
      cooldownDuration: BETWEEN_FETCHES_MS,
      [customFetch]: (url) => this.#http.get(url),
    })
  }

  /**
   * That a token is good for an action, as far as the token itself and the broker's published keys tell. It does **not** see
   * whether the task still runs: what has ended or was revoked since passes until the token expires. For that there is
   * `verifyActive`. A DPoP proof is good once to one `Verifier`.
   *
   * @throws {TokenRefusedError} if it is not.
   * @throws {VerifierUnavailableError} if the keys cannot be had.
   */
  async verify(presented: Presented, action: string, dataClass?: string): Promise<VerifiedToken> {
    const token = presented.token ?? ''
    if (token === '' || token.length > MOST_TOKEN_BYTES) {
      throw TokenRefusedError.invalid(token === '' ? 'there is no token' : 'the token is too long')
    }
    const claims = await this.#claims(token)
    await this.#checkKey(token, claims, presented)
    if (!allows(claims.authorization_details, this.#audience, action, dataClass)) {
      throw TokenRefusedError.insufficient(`the token does not allow \`${action}\` here`)
    }
    return verified(claims)
  }

  /**
   * The same, and that the broker says it is active now: its task lives, in the token's epoch, and nothing was revoked. True at
   * that moment; what ends while the request is served is not seen.
   *
   * @throws {TokenRefusedError} if it is not.
   * @throws {VerifierUnavailableError} if the broker cannot be asked, which is never a yes.
   */
  async verifyActive(
    presented: Presented,
    action: string,
    dataClass?: string,
  ): Promise<VerifiedToken> {
    const token = await this.verify(presented, action, dataClass)
    if ((await this.introspect(presented.token ?? '')) === undefined) {
      throw TokenRefusedError.invalid('the token is not active')
    }
    return token
  }

  /**
   * Asks the broker about a token (RFC 7662). Its claims if it is active; nothing if it is not, whatever the reason. Says
   * nothing of who presents it, or for what: that is up to `verifyActive`.
   */
  async introspect(token: string): Promise<Readonly<Record<string, unknown>> | undefined> {
    if (!this.#canIntrospect) {
      throw new VerifierUnavailableError(
        'introspection needs `identity`: the broker tells verifiers only',
      )
    }
    const answer = await this.#http.post('/oauth2/introspect', { token })
    if (answer['active'] === true) return answer
    if (answer['active'] === false) return undefined
    throw new VerifierUnavailableError('the broker answered introspection with something else')
  }

  /** Closes the connections to the broker. */
  close(): void {
    this.#http.close()
  }

  async #claims(token: string): Promise<Claims> {
    try {
      const { payload, protectedHeader } = await jwtVerify(token, this.#keys, {
        algorithms: ['ES256'],
        issuer: this.#issuer,
        clockTolerance: 0,
      })
      // Byte for byte, where the library takes other spellings as well.
      if (protectedHeader.typ !== 'at+jwt' || typeof protectedHeader.kid !== 'string') {
        throw TokenRefusedError.invalid('the token is not of the published form')
      }
      return claimsOf(payload, this.#audience)
    } catch (error) {
      throw refusalOf(error)
    }
  }

  /**
   * That whoever presents the token has the key it is bound to: by the certificate of the connection (RFC 8705 section 3), or by
   * a proof that came along (RFC 9449 section 7).
   */
  async #checkKey(token: string, { cnf }: Claims, presented: Presented): Promise<void> {
    const { certificate, dpop } = presented
    if (cnf !== undefined && 'jkt' in cnf) {
      if (dpop === undefined) throw ProofChecker.missing()
      await this.#proofs.check(dpop, token, cnf.jkt)
      return
    }
    if (dpop !== undefined) {
      throw TokenRefusedError.invalid(
        'the token came with the scheme `DPoP`, and is bound to no such key',
      )
    }
    if (cnf !== undefined) checkCertificate(cnf['x5t#S256'], certificate)
    else if (!this.#acceptBearer) throw TokenRefusedError.invalid('the token is bound to no key')
  }
}

function checkCertificate(thumbprint: string, certificate: Uint8Array | undefined): void {
  if (certificate === undefined) {
    throw TokenRefusedError.invalid(
      'the token is bound to a certificate, and the connection shows none',
    )
  }
  const shown = Buffer.from(createHash('sha256').update(certificate).digest('base64url'))
  const bound = Buffer.from(thumbprint)
  if (shown.length !== bound.length || !timingSafeEqual(shown, bound)) {
    throw TokenRefusedError.invalid(
      'the token is bound to another certificate than the connection shows',
    )
  }
}

/**
 * What a request of Node's `https` server presents; the server must ask for client certificates (`requestCert`). `origin` is how
 * callers call the server, such as `https://documents.example`: DPoP proofs are for it. Without, no token of the scheme `DPoP` is
 * presented. With the scheme `Bearer` a token comes without proof, whatever other headers say (RFC 9449 section 7.2).
 */
export function presentedBy(request: IncomingMessage, origin?: string): Presented {
  const { authorization = '' } = request.headers
  const [, scheme = '', token] = /^(Bearer|DPoP) +([\x21-\x7e]+)$/i.exec(authorization) ?? []
  const { socket } = request
  const certificate = socket instanceof TLSSocket ? socket.getPeerX509Certificate()?.raw : undefined
  if (scheme.toLowerCase() !== 'dpop') return { token, certificate }
  if (origin === undefined) return { token: undefined, certificate }
  const { method = '', url = '' } = request
  const values = request.headersDistinct['dpop'] ?? []
  return { token, certificate, dpop: { values, method, url: `${new URL(origin).origin}${url}` } }
}

/** What the claims of a good token say. */
export function verified(claims: Claims): VerifiedToken {
  const { client_id, sub, txn, exp, leasehold } = claims
  const taskId = leasehold.path.at(-1)?.[0] ?? txn
  return {
    ...{
      agent: client_id,
      subject: sub,
      taskId,
      rootTaskId: txn,
      leaseId: leasehold.lease,
      claims,
    },
    expiresAt: new Date(exp * 1_000),
  }
}

/** What `jose` says about a token, apart from what it says about the way to the keys. */
const ABOUT_THE_TOKEN = [
  errors.JOSEAlgNotAllowed,
  errors.JOSENotSupported,
  errors.JWKSMultipleMatchingKeys,
  errors.JWKSNoMatchingKey,
  errors.JWSInvalid,
  errors.JWSSignatureVerificationFailed,
  errors.JWTClaimValidationFailed,
  errors.JWTExpired,
  errors.JWTInvalid,
]

function refusalOf(error: unknown): Error {
  if (error instanceof TokenRefusedError || error instanceof VerifierUnavailableError) return error
  const isRefusal = ABOUT_THE_TOKEN.some((kind) => error instanceof kind)
  const why = error instanceof Error ? error.message : 'it is of no use'
  return isRefusal
    ? TokenRefusedError.invalid(`the token does not verify: ${why}`, error)
    : new VerifierUnavailableError(`the broker's keys cannot be had: ${why}`, error)
}
