// DPoP (RFC 9449): a token that is bound to a key without certificate goes with a proof for every request.
//
//  who sends                                          who takes
//    DPoP: {jti, htm, htu, iat, ath, nonce?} ────────▶ the token's `cnf.jkt` is the key of the proof,
//          signed by the key                           which is for this request, now, and new

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto'
import { inspect } from 'node:util'

import { RequestError } from './errors.js'

/** `typ` of a proof (RFC 9449 section 4.2). */
export const TYP = 'dpop+jwt'
/** What a nonce may consist of (RFC 9449 section 8.1). */
const NONCE = /^[\x21\x23-\x5b\x5d-\x7e]{1,512}$/
const MOST_ORIGINS = 64

/** A request that a proof is for. */
export interface Proved {
  readonly method: string
  /** Query and fragment are left out of the proof. */
  readonly url: string | URL
  /** The access token that goes with it. */
  readonly token?: string | undefined
  /** What the server last sent in `dpop-nonce`. */
  readonly nonce?: string | undefined
}

/**
 * A P-256 key of this process that tokens are bound to. It signs a proof for every request, and is never sent. A new one; or
 * with `fromPem` one that others keep, so that a token outlives the process that got it.
 */
export class DpopKey {
  readonly #key: KeyObject
  readonly #jwk: Readonly<Record<'crv' | 'kty' | 'x' | 'y', string>>

  constructor(key: KeyObject = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey) {
    const isOnCurve = key.asymmetricKeyDetails?.namedCurve === 'prime256v1'
    if (key.type !== 'private' || !isOnCurve) {
      throw RequestError.of('key', 'is no private key on P-256; proofs are signed with ES256')
    }
    const { x = '', y = '' } = createPublicKey(key).export({ format: 'jwk' })
    this.#key = key
    this.#jwk = { crv: 'P-256', kty: 'EC', x, y }
  }

  /** The key in a PEM, as `leasehold token issue --dpop-key` leaves it. */
  static fromPem(pem: string | Buffer): DpopKey {
    let key: KeyObject
    try {
      key = createPrivateKey(pem)
    } catch {
      // The fault of a parser may quote what it read.
      throw RequestError.of('pem', 'holds no private key in PEM')
    }
    return new DpopKey(key)
  }

  /** What a token says of the key it is bound to: `jkt` of its `cnf` (RFC 7638, RFC 9449 section 6.1). */
  get thumbprint(): string {
    // Its members stand in the order that the thumbprint wants.
    return hash(JSON.stringify(this.#jwk))
  }

  /** A proof for one request, to be sent in its `DPoP` header: made now, and good once. */
  proof({ method, url, token, nonce }: Proved): string {
    const claims = {
      jti: randomBytes(16).toString('base64url'),
      htm: method,
      htu: withoutQuery(url),
      iat: Math.floor(Date.now() / 1_000),
      ...(token !== undefined && { ath: hash(token) }),
      ...(nonce !== undefined && { nonce }),
    }
    const header = { typ: TYP, alg: 'ES256', jwk: this.#jwk }
    const signed = [header, claims]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.')
    const how = { key: this.#key, dsaEncoding: 'ieee-p1363' } as const
    return `${signed}.${sign('sha256', Buffer.from(signed), how).toString('base64url')}`
  }

  /** What may be printed. */
  toJSON(): Record<string, unknown> {
    return { thumbprint: this.thumbprint }
  }

  [inspect.custom](): string {
    return `DpopKey ${inspect(this.toJSON())}`
  }
}

/** Proofs of one key, with the nonce that each server gave last. */
export class Prover {
  readonly key: DpopKey
  readonly #nonces = new Map<string, string>()

  constructor(key: DpopKey) {
    this.key = key
  }

  /** A proof for one request. */
  proof(request: Omit<Proved, 'nonce'>): string {
    return this.key.proof({ ...request, nonce: this.#nonces.get(new URL(request.url).origin) })
  }

  /** What goes into the next proof for that server. */
  learn(url: string | URL, nonce: string): void {
    if (!NONCE.test(nonce)) return
    const { origin } = new URL(url)
    this.#nonces.delete(origin)
    this.#nonces.set(origin, nonce)
    const [oldest] = this.#nonces.keys()
    if (this.#nonces.size > MOST_ORIGINS && oldest !== undefined) this.#nonces.delete(oldest)
  }

  /** Takes the nonce that an answer brings. Whether it demands one: then the request is worth sending again. */
  hear(url: string | URL, answer: Pick<Response, 'status' | 'headers'>): boolean {
    const nonce = answer.headers.get('dpop-nonce')
    if (nonce === null) return false
    this.learn(url, nonce)
    const challenge = answer.headers.get('www-authenticate') ?? ''
    return answer.status === 401 && challenge.includes('use_dpop_nonce')
  }
}

/** SHA-256 in base64url: `ath` of a token, or the thumbprint of a JWK's required members. */
export function hash(text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}

function withoutQuery(url: string | URL): string {
  const { origin, pathname } = new URL(url)
  return `${origin}${pathname}`
}
