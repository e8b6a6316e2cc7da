// Proofs that come with tokens (RFC 9449 sections 4.3 and 7): each is for this very request, made now, and new.

import { createHash, createHmac, timingSafeEqual } from 'node:crypto'

import { calculateJwkThumbprint, compactVerify, EmbeddedJWK } from 'jose'

import { isObject, isText } from './claims.js'
import { hash, TYP } from './dpop.js'
import { TokenRefusedError, VerifierUnavailableError } from './refusal.js'
import { Stopwatch } from './stopwatch.js'

/** `iat` lies at most so long before now, and so long after it. */
const WINDOW_SECONDS = 60
const NONCE_SECONDS = 300
const MOST_BYTES = 6 * 1024
const MOST_JTI = 256
/** Proofs that are remembered for two minutes, and as many from the two minutes before. */
const MOST_REMEMBERED = 100_000
const SECRET_BYTES = 32
const ALGORITHMS = ['ES256', 'ES384', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512']
/** What a URI of a proof may consist of (RFC 3986), without query, fragment and user. */
const URI = /^https:\/\/(?:[A-Za-z0-9\-._~:[\]!$&'()*+,;=/]|%[0-9A-Fa-f]{2}){1,2048}$/i
const DOT_SEGMENT = /\/(?:\.|%2e){1,2}(?:\/|$)/i

/** What came with a token of the scheme `DPoP`, and for which request. */
export interface DpopProofs {
  /** The values of the header `DPoP`, of which there must be one. */
  readonly values: readonly string[]
  readonly method: string
  /** Where the request went, as its sender wrote it: with the host that callers know, not one behind a proxy. */
  readonly url: string
}

/** Checks proofs, and remembers those it has seen. */
export class ProofChecker {
  readonly #nonces: Nonces | undefined
  readonly #seen: Seen

  constructor(nonceSecret: Uint8Array | undefined, most = MOST_REMEMBERED) {
    this.#nonces = nonceSecret && new Nonces(nonceSecret)
    this.#seen = new Seen(most)
  }

  /** That there is one proof, by the key with this thumbprint, for this request with this token. */
  async check(shown: DpopProofs, token: string, jkt: string): Promise<void> {
    const now = Date.now() / 1_000
    const [proof, another] = shown.values
    if (proof === undefined || another !== undefined) {
      throw this.#refused('there is not exactly one `DPoP` header')
    }
    const { key, claims } = await this.#signed(proof)
    const id = this.#mustBeFor(shown, claims)
    this.#mustBeNow(claims, now)
    if (claims['ath'] !== hash(token)) {
      throw this.#refused('`ath` is not the hash of the token that it came with')
    }
    if (key !== jkt) {
      throw this.#refused('the token is bound to another key than the proof is made with')
    }
    if (this.#nonces?.accepts(claims['nonce'], now) === false) {
      const nonce = this.#nonces.fresh(now)
      const why = 'the proof must have a `nonce` that was given lately'
      throw TokenRefusedError.proof('use_dpop_nonce', why, ALGORITHMS, nonce)
    }
    // Last, so that nobody without the key fills the memory.
    if (!this.#seen.add(JSON.stringify([key, ...id]))) {
      throw this.#refused('the proof was shown before; make one for each request')
    }
  }

  /** The thumbprint of the key, and the claims, of a proof whose signature holds. */
  async #signed(proof: string) {
    try {
      if (proof.length > MOST_BYTES) throw new Error('it is too long')
      const signed = await compactVerify(proof, EmbeddedJWK, { algorithms: ALGORITHMS })
      const { protectedHeader: header, payload } = signed
      const { jwk, typ, alg, ...others } = header
      if (typ !== TYP || jwk === undefined || Object.keys(others).length > 0) {
        throw new Error('its header is not that of a DPoP proof')
      }
      if ((jwk.alg ?? alg) !== alg || (jwk.use ?? 'sig') !== 'sig') {
        throw new Error('`jwk` is not for its algorithm')
      }
      const claims: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload))
      if (!isObject(claims)) throw new Error('its claims are no JSON object')
      return { key: await calculateJwkThumbprint(jwk, 'sha256'), claims }
    } catch (error) {
      throw this.#refused(error instanceof Error ? error.message : 'it is none')
    }
  }

  /** What tells it from the other proofs of its key. */
  #mustBeFor(shown: DpopProofs, claims: Readonly<Record<string, unknown>>): readonly string[] {
    const uri = normalised(shown.url.replace(/[?#].*$/s, ''))
    const { jti } = claims
    if (!isText(jti) || jti.length > MOST_JTI) {
      throw this.#refused(`\`jti\` is no text of up to ${MOST_JTI} characters`)
    }
    if (claims['htm'] !== shown.method) {
      throw this.#refused('`htm` is not the method of this request')
    }
    if (uri === undefined || normalised(claims['htu']) !== uri) {
      throw this.#refused('`htu` is not the URI of this request')
    }
    return [shown.method, uri, jti]
  }

  #mustBeNow(claims: Readonly<Record<string, unknown>>, now: number): void {
    const { iat, exp, nbf } = claims
    if (!isSeconds(iat) || iat <= now - WINDOW_SECONDS || iat > now + WINDOW_SECONDS) {
      throw this.#refused('its `iat` is not within a minute of now; check the clocks')
    }
    if (exp !== undefined && (!isSeconds(exp) || exp <= now)) {
      throw this.#refused('by its `exp` it is over')
    }
    if (nbf !== undefined && (!isSeconds(nbf) || nbf > now + WINDOW_SECONDS)) {
      throw this.#refused('by its `nbf` it is not valid yet')
    }
  }

  #refused(why: string): TokenRefusedError {
    const nonce = this.#nonces?.fresh(Date.now() / 1_000)
    const message = `the DPoP proof does not hold: ${why}`
    return TokenRefusedError.proof('invalid_dpop_proof', message, ALGORITHMS, nonce)
  }

  /** What is said of a token that is bound to a key, and came without proof. */
  static missing(): TokenRefusedError {
    const why =
      'the token is bound to a key that signs DPoP proofs: it takes that scheme, and a proof'
    return TokenRefusedError.proof('invalid_token', why, ALGORITHMS)
  }
}

/** Nonces that need no memory: a time, and its HMAC. Servers with one secret know each other's. */
export class Nonces {
  readonly #key: Buffer

  constructor(secret: Uint8Array) {
    if (secret.length < SECRET_BYTES) {
      throw new RangeError(`\`dpopNonceSecret\` has fewer than ${SECRET_BYTES} bytes`)
    }
    const purpose = 'leasehold dpop nonce of a resource server'
    this.#key = createHmac('sha256', secret).update(purpose).digest()
  }

  /** One that is good for five minutes. */
  fresh(now: number): string {
    const time = Buffer.alloc(8)
    time.writeBigUInt64BE(BigInt(Math.floor(now)))
    return Buffer.concat([time, this.#tag(time)]).toString('base64url')
  }

  /** Whether it is one of ours that is good now. */
  accepts(nonce: unknown, now: number): boolean {
    if (typeof nonce !== 'string') return false
    const bytes = Buffer.from(nonce, 'base64url')
    const [time, tag] = [bytes.subarray(0, 8), bytes.subarray(8)]
    if (time.length < 8 || tag.length !== 32 || bytes.toString('base64url') !== nonce) return false
    const given = Number(time.readBigUInt64BE())
    const isInTime = given - WINDOW_SECONDS <= now && now < given + NONCE_SECONDS
    return timingSafeEqual(tag, this.#tag(time)) && isInTime
  }

  #tag(time: Buffer): Buffer {
    return createHmac('sha256', this.#key).update(time).digest()
  }
}

/** What was seen in the last two minutes, and perhaps a little longer: a proof holds for no longer than that. */
export class Seen {
  readonly #most: number
  #since = new Stopwatch()
  #latest = new Set<string>()
  #before = new Set<string>()

  constructor(most: number) {
    this.#most = most
  }

  /** Whether it is new. */
  add(proof: string): boolean {
    const id = createHash('sha256').update(proof).digest('base64')
    const passedMs = this.#since.elapsedMs()
    if (passedMs >= 2_000 * WINDOW_SECONDS) {
      this.#before = passedMs < 4_000 * WINDOW_SECONDS ? this.#latest : new Set()
      this.#latest = new Set()
      this.#since = new Stopwatch()
    }
    if (this.#latest.has(id) || this.#before.has(id)) return false
    if (this.#latest.size >= this.#most) {
      // Forgotten, one might be shown again.
      throw new VerifierUnavailableError('there are more DPoP proofs than can be remembered')
    }
    this.#latest.add(id)
    return true
  }
}

/** One spelling for all of one resource (RFC 3986 section 6.2); nothing for what could be read in two ways. */
export function normalised(uri: unknown): string | undefined {
  if (typeof uri !== 'string' || !URI.test(uri) || DOT_SEGMENT.test(uri)) return undefined
  if (!URL.canParse(uri)) return undefined
  const { origin, pathname } = new URL(uri)
  const path = pathname.replace(/%[0-9A-Fa-f]{2}/g, (escape) => {
    const character = String.fromCharCode(Number.parseInt(escape.slice(1), 16))
    return /[A-Za-z0-9\-._~]/.test(character) ? character : escape.toUpperCase()
  })
  return `${origin}${path}`
}

function isSeconds(value: unknown): value is number {
  return Number.isSafeInteger(value)
}
