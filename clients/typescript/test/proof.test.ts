// A resource server takes a token that is bound by DPoP with a proof for the very request, once, and no other.

import assert from 'node:assert/strict'
import { constants, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, mock, test } from 'node:test'

import * as jose from 'jose'

import {
  DpopKey,
  type DpopProofs,
  presentedBy,
  TokenRefusedError,
  Verifier,
  VerifierUnavailableError,
  type VerifierOptions,
} from '../src/index.js'
import { Nonces, normalised, Seen } from '../src/proof.js'
import { TestAuthority } from './support/authority.js'
import { FakeIssuer } from './support/issuer.js'

const AUDIENCE = 'https://api.example'
const HERE = 'https://documents.example:8443/report'
const SECRET = new Uint8Array(32)
const dir = mkdtempSync(join(tmpdir(), 'leasehold-proof-'))
const key = new DpopKey()
let issuer: FakeIssuer
let bound: string

before(async () => {
  issuer = await FakeIssuer.start(await TestAuthority.make(), join(dir, 'ca.pem'))
  bound = await issuer.token({ cnf: { jkt: key.thumbprint } })
})

after(async () => {
  await issuer.stop()
  rmSync(dir, { recursive: true })
})

function verifier(options: Partial<VerifierOptions> = {}): Verifier {
  return new Verifier({ issuer: issuer.url, audience: AUDIENCE, ca: issuer.ca, ...options })
}

function shown(...values: string[]): DpopProofs {
  return { values, method: 'GET', url: HERE }
}

function proof(change: Partial<Parameters<DpopKey['proof']>[0]> = {}): string {
  return key.proof({ method: 'GET', url: HERE, token: bound, ...change })
}

async function refused(
  checks: Verifier,
  token: string | undefined,
  dpop: DpopProofs | undefined,
  why: RegExp,
  fault = 'invalid_dpop_proof',
): Promise<TokenRefusedError> {
  const error: unknown = await checks
    .verify({ token, certificate: undefined, dpop }, 'read')
    .catch((error: unknown) => error)
  assert.ok(error instanceof TokenRefusedError, `${String(why)} ${JSON.stringify(dpop)}`)
  assert.match(error.message, why)
  assert.deepEqual([error.status, error.error], [401, fault])
  return error
}

function request(authorization: string | undefined, ...proofs: string[]): IncomingMessage {
  const made = new IncomingMessage(new Socket())
  made.method = 'GET'
  made.url = '/report?page=2'
  made.headers = authorization === undefined ? {} : { authorization }
  made.headersDistinct = { dpop: proofs }
  return made
}

test('a bound token is no bearer token, whatever headers come with it', async () => {
  const lax = verifier({ acceptBearer: true })
  const origin = new URL(HERE).origin
  await lax.verify(presentedBy(request(`dpop ${bound}`, proof()), origin), 'read')
  for (const scheme of ['Bearer', 'bearer']) {
    const { token, dpop } = presentedBy(request(`${scheme} ${bound}`, proof()), origin)
    assert.equal(dpop, undefined)
    const error = await refused(lax, token, dpop, /takes that scheme/, 'invalid_token')
    assert.match(error.wwwAuthenticate, /^DPoP error="invalid_token".*algs="ES256 /)
  }
  for (const other of [bound, `Basic ${bound}`, 'DPoP', '', undefined]) {
    const { token, dpop } = presentedBy(request(other, proof()), origin)
    await refused(lax, token, dpop, /no token/, 'invalid_token')
  }
  // Who does not say how it is called takes no such token.
  assert.equal(presentedBy(request(`DPoP ${bound}`, proof())).token, undefined)
  // Nor the other way round: what is bound to nothing, or to a certificate, proves nothing by this scheme.
  for (const cnf of [undefined, { 'x5t#S256': 'x' }]) {
    const token = await issuer.token({ cnf })
    await refused(lax, token, shown(proof({ token })), /no such key/, 'invalid_token')
  }
})

test('a proof is one for this very request, by the key that the token names', async () => {
  const checks = verifier()
  const judged = (values: readonly string[], url = HERE) =>
    checks.verify(
      { token: bound, certificate: undefined, dpop: { values, method: 'GET', url } },
      'read',
    )
  await judged([proof()])
  await judged([proof({ url: 'https://DOCUMENTS.example:8443/re%70ort?page=2' })])
  const plain = 'https://documents.example/x'
  await judged([proof({ url: plain })], 'https://documents.example:443/x?a=b#c')
  const wrong: [RegExp, string[][]][] = [
    [/exactly one/, [[], [proof(), proof()]]],
    [/does not hold/, [[`${proof()},${proof()}`], [''], [` ${proof()}`], [`${proof()}=`]]],
    [/too long/, [[proof() + 'a'.repeat(9_000)]]],
    [/`htm`/, [[proof({ method: 'POST' })], [proof({ method: 'get' })]]],
    [
      /`htu`/,
      [
        'https://documents.example/report',
        'https://documents.example:8444/report',
        'https://documents.example:8443/report/',
        'https://documents.example:8443/Report',
        'https://evil.example:8443/report',
        'http://documents.example:8443/report',
      ].map((url) => [proof({ url })]),
    ],
    [/`ath`/, [[proof({ token: undefined })], [proof({ token: 'another.token.x' })]]],
    [/another key/, [[new DpopKey().proof({ method: 'GET', url: HERE, token: bound })]]],
  ]
  for (const [why, all] of wrong) {
    for (const values of all) await refused(checks, bound, shown(...values), why)
  }
  for (const url of ['https://documents.example:8443/a/../report', 'nowhere', '']) {
    await refused(checks, bound, { ...shown(proof()), url }, /`htu`/)
  }
  const stolen = await issuer.token({ cnf: { jkt: new DpopKey().thumbprint } })
  await refused(checks, stolen, shown(proof({ token: stolen })), /another key/)
})

test('one resource has one spelling, and what could be read in two ways has none', () => {
  for (const same of ['HTTPS://a.example', 'https://A.example:443/', 'https://a.example/']) {
    assert.equal(normalised(same), 'https://a.example/')
  }
  assert.equal(normalised('https://a.example/%7e%2f'), 'https://a.example/~%2F')
  for (const odd of [
    ...['http://a.example/', 'a.example', '', 1, null, 'https:/a.example/x', 'https://'],
    ...['https://a.example/?', 'https://a.example/#', 'https://me@a.example/'],
    ...['https://a.example/a/../b', 'https://a.example/%2e%2E/b', 'https://a.example/.'],
    ...['https://a.example/%4', 'https://a.example/a b', 'https://a.example\\@b.example/'],
    ...['https://ä.example/', 'https://a.example:0x/', 'https://a.example/\n'],
  ]) {
    assert.equal(normalised(odd), undefined, String(odd))
  }
})

test('a proof is good once, also of many at once', async () => {
  const checks = verifier()
  const once = shown(proof())
  const taken = await Promise.allSettled(
    Array.from({ length: 8 }, () =>
      checks.verify({ token: bound, certificate: undefined, dpop: once }, 'read'),
    ),
  )
  assert.equal(taken.filter(({ status }) => status === 'fulfilled').length, 1)
  await refused(checks, bound, once, /shown before/)
})

test('as long as it could be good a proof is remembered, and none is forgotten for another', () => {
  mock.timers.enable({ apis: ['Date'], now: 1_000_000 })
  try {
    const seen = new Seen(2)
    assert.ok(seen.add('a'))
    for (const passed of [0, 119_000, 1_000, 119_000]) {
      mock.timers.tick(passed)
      assert.ok(!seen.add('a'))
    }
    mock.timers.tick(240_000)
    assert.ok(seen.add('a'))
    assert.ok(seen.add('b'))
    assert.throws(() => seen.add('c'), VerifierUnavailableError)
  } finally {
    mock.timers.reset()
  }
})

/** Makes proofs with any header and claims, signed by a key of its own. */
class Forger {
  readonly #key: KeyObject
  /** What it signs with, whatever a header says. */
  readonly #alg: string
  readonly jwk: jose.JWK
  readonly token: string

  private constructor(key: KeyObject, alg: string, jwk: jose.JWK, token: string) {
    this.#key = key
    this.#alg = alg
    this.jwk = jwk
    this.token = token
  }

  static async make(
    alg = 'ES256',
    key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
  ): Promise<Forger> {
    const jwk = await jose.exportJWK(createPublicKey(key))
    const jkt = await jose.calculateJwkThumbprint(jwk)
    return new Forger(key, alg, jwk, await issuer.token({ cnf: { jkt } }))
  }

  proof(header: Record<string, unknown> = {}, claims: Record<string, unknown> = {}): string {
    const good = jose.decodeJwt(proof({ token: this.token }))
    return this.sign(header, JSON.stringify({ ...good, ...claims }))
  }

  sign(header: Record<string, unknown>, payload: string): string {
    const head = JSON.stringify({ typ: 'dpop+jwt', alg: this.#alg, jwk: this.jwk, ...header })
    const [first, second] = [head, payload].map((part) => Buffer.from(part).toString('base64url'))
    const how = this.#alg.startsWith('PS')
      ? { key: this.#key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }
      : { key: this.#key, dsaEncoding: 'ieee-p1363' as const }
    const signed = `${first}.${second}`
    const signature = sign(`sha${this.#alg.slice(2)}`, Buffer.from(signed), how)
    return `${signed}.${signature.toString('base64url')}`
  }
}

test('a header or claim that is not exactly that of a proof is refused', async () => {
  const checks = verifier()
  const forger = await Forger.make()
  const { jwk, token } = forger
  const named = forger.proof({ jwk: { ...jwk, kid: 'mine' } })
  await checks.verify({ token, certificate: undefined, dpop: shown(named) }, 'read')
  const headers: Record<string, unknown>[] = [
    ...['JWT', 'at+jwt', 'DPOP+JWT', '', undefined, 1].map((typ) => ({ typ })),
    ...['kid', 'b64', 'x5u', 'jku', 'x5c', 'zip', 'cty'].map((name) => ({ [name]: 'x' })),
    { crit: ['exp'], exp: 1 },
    ...['none', 'HS256', 'EdDSA', 'ES512', 'es256', '', 1].map((alg) => ({ alg })),
    { jwk: { ...jwk, d: 'AQ' } },
    { jwk: { ...jwk, crv: 'P-384' } },
    { jwk: { ...jwk, kty: 'OKP' } },
    { jwk: { ...jwk, use: 'enc' } },
    { jwk: { ...jwk, alg: 'ES384' } },
    { jwk: { ...jwk, x: jwk.y } },
    { jwk: { ...jwk, x: 7 } },
    { jwk: { kty: 'oct', k: 'AQ' } },
    { jwk: {} },
    { jwk: [] },
    { jwk: undefined },
    { jwk: (await Forger.make()).jwk },
  ]
  for (const header of headers) {
    await refused(checks, token, shown(forger.proof(header)), /does not hold/)
  }
  const now = Math.floor(Date.now() / 1_000)
  const claims: [string, unknown[]][] = [
    ['jti', [undefined, 1, '', 'x'.repeat(257)]],
    ['htm', [undefined, 1, ['GET']]],
    ['htu', [undefined, 1, `${HERE}?page=2`, `${HERE}#x`, `${HERE} `]],
    ['iat', [undefined, String(now), now + 0.5, true, now - 61, now + 70, -1]],
    ['exp', [now, now - 1, 'x']],
    ['nbf', [now + 70, 'x']],
    ['ath', [undefined, 1]],
  ]
  for (const [name, values] of claims) {
    for (const value of values) {
      const odd = shown(forger.proof({}, { [name]: value }))
      await refused(checks, token, odd, new RegExp(`\`${name}\``))
    }
  }
  for (const body of ['[]', 'null', '', '{'])
    await refused(checks, token, shown(forger.sign({}, body)), /does not hold/)
})

test('keys of other kinds prove as well, if they are strong', async () => {
  const checks = verifier()
  const rsa = (bits: number) => generateKeyPairSync('rsa', { modulusLength: bits }).privateKey
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey
  const all: [string, KeyObject, boolean][] = [
    ['ES384', ec, true],
    ['RS256', rsa(2_048), true],
    ['PS256', rsa(2_048), true],
    ['RS256', rsa(1_024), false],
  ]
  for (const [alg, own, isStrong] of all) {
    const forger = await Forger.make(alg, own)
    const dpop = shown(forger.proof())
    if (isStrong) {
      await checks.verify({ token: forger.token, certificate: undefined, dpop }, 'read')
    } else {
      await refused(checks, forger.token, dpop, /2048/)
    }
  }
})

test('where a nonce is demanded a refusal brings one that every server of the secret takes', async () => {
  const [one, two] = [SECRET, SECRET].map((dpopNonceSecret) => verifier({ dpopNonceSecret }))
  assert.ok(one !== undefined && two !== undefined)
  const error = await refused(one, bound, shown(proof()), /`nonce`/, 'use_dpop_nonce')
  const { 'dpop-nonce': nonce = '', 'www-authenticate': challenge } = error.headers
  assert.match(challenge ?? '', /^DPoP error="use_dpop_nonce"/)
  const good = { token: bound, certificate: undefined, dpop: shown(proof({ nonce })) }
  await two.verify(good, 'read')
  const other = verifier({ dpopNonceSecret: new Uint8Array(32).fill(1) })
  await refused(other, bound, shown(proof({ nonce })), /`nonce`/, 'use_dpop_nonce')
  for (const wrong of ['made-up', nonce.slice(0, -1), `${nonce}A`]) {
    await refused(one, bound, shown(proof({ nonce: wrong })), /`nonce`/, 'use_dpop_nonce')
  }
  const kept = new Nonces(SECRET)
  for (const [at, isGood] of [
    [-61, false],
    [-60, true],
    [299, true],
    [300, false],
  ] as const) {
    assert.equal(kept.accepts(kept.fresh(1_000_000), 1_000_000 + at), isGood, String(at))
  }
  assert.throws(() => verifier({ dpopNonceSecret: new Uint8Array(31) }), RangeError)
  // Who demands none takes any.
  const any = { token: bound, certificate: undefined, dpop: shown(proof({ nonce: 'anything' })) }
  await verifier().verify(any, 'read')
})
