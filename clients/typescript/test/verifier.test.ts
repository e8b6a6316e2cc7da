import assert from 'node:assert/strict'
import { createHash, X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'

import * as jose from 'jose'

import {
  type Presented,
  TokenRefusedError,
  Verifier,
  VerifierUnavailableError,
  type VerifierOptions,
} from '../src/index.js'
import { replace, TestAuthority } from './support/authority.js'
import { FakeIssuer } from './support/issuer.js'

const AUDIENCE = 'https://api.example'
const dir = mkdtempSync(join(tmpdir(), 'leasehold-verifier-'))
let issuer: FakeIssuer
let certificate: Uint8Array
let cnf: { 'x5t#S256': string }
const identity = { cert: join(dir, 'api.pem'), key: join(dir, 'api.key') }

before(async () => {
  const authority = await TestAuthority.make()
  issuer = await FakeIssuer.start(authority, join(dir, 'ca.pem'))
  const svid = await authority.svid('spiffe://dev.example/agents/a')
  certificate = new X509Certificate(svid.cert).raw
  cnf = { 'x5t#S256': createHash('sha256').update(certificate).digest('base64url') }
  const api = await authority.svid('spiffe://dev.example/api')
  replace(identity.cert, api.cert)
  replace(identity.key, api.key)
})

after(async () => {
  await issuer.stop()
  rmSync(dir, { recursive: true })
})

function verifier(options: Partial<VerifierOptions> = {}): Verifier {
  return new Verifier({
    issuer: issuer.url,
    audience: AUDIENCE,
    ca: issuer.ca,
    identity,
    ...options,
  })
}

async function presented(claims: Record<string, unknown> = {}, header = {}): Promise<Presented> {
  return { token: await issuer.token({ cnf, ...claims }, header), certificate }
}

function refused(status: 401 | 403, problem: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof TokenRefusedError, String(error))
    assert.match(error.message, problem)
    assert.equal(error.status, status)
    return true
  }
}

test('a token is good for what it allows, with the key it is bound to', async () => {
  const token = await verifier().verify(await presented(), 'read')
  assert.equal(token.agent, 'spiffe://dev.example/agents/a')
  assert.deepEqual(token.claims.leasehold.path, [[token.taskId, 3]])
  assert.equal(token.leaseId, 'lse_0')
  assert.ok(token.expiresAt.getTime() > Date.now())
})

test('claims that are wrong are refused', async () => {
  const now = Math.floor(Date.now() / 1_000)
  const hop = ['tsk_0', 1]
  const wrong: [string, Record<string, unknown>][] = [
    ['another issuer', { iss: `${issuer.url}/` }],
    ['another audience', { aud: 'https://other.example' }],
    ['a list of audiences', { aud: [AUDIENCE] }],
    ['more audiences', { aud: [AUDIENCE, 'https://other.example'] }],
    ['expired this second', { exp: now }],
    ['not yet valid', { nbf: now + 60 }],
    ['no end', { exp: undefined }],
    ['no begin', { nbf: undefined }],
    ['no id', { jti: undefined }],
    ['no agent', { client_id: undefined }],
    ['no root task', { txn: '' }],
    ['no details', { authorization_details: undefined }],
    ['details that are no list', { authorization_details: { type: 'resource_access' } }],
    ['no execution', { leasehold: undefined }],
    ['another version', { leasehold: { v: 2, path: [hop], lease: 'l', tier: 't' } }],
    ['no path', { leasehold: { v: 1, path: [], lease: 'l', tier: 't' } }],
    [
      'a path of something else',
      { leasehold: { v: 1, path: [hop, [1, 'x']], lease: 'l', tier: 't' } },
    ],
  ]
  const checks = verifier()
  for (const [what, claims] of wrong) {
    await assert.rejects(
      checks.verify(await presented(claims), 'read'),
      refused(401, /token/),
      what,
    )
  }
})

test('another kind of JWT is refused, whoever signed it', async () => {
  const checks = verifier()
  for (const header of [
    { typ: 'JWT' },
    { typ: undefined },
    { typ: 'application/at+jwt' },
    { typ: 'AT+JWT' },
  ]) {
    await assert.rejects(checks.verify(await presented({}, header), 'read'), refused(401, /token/))
  }
  for (const header of [{ kid: 'k2' }, { kid: undefined }]) {
    await assert.rejects(checks.verify(await presented({}, header), 'read'), refused(401, /token/))
  }
})

test('other algorithms and other keys are refused', async () => {
  const checks = verifier()
  const { privateKey } = await jose.generateKeyPair('ES256')
  const forged = await issuer.token({ cnf }, {}, privateKey)
  await assert.rejects(checks.verify({ token: forged, certificate }, 'read'), refused(401, /verif/))
  const claims = jose.decodeJwt(forged)
  const rsa = await issuer.rsaToken({ cnf })
  await assert.rejects(checks.verify({ token: rsa, certificate }, 'read'), refused(401, /verif/))
  const secret = new TextEncoder().encode(JSON.stringify(issuer.jwk))
  const hmac = new jose.SignJWT(claims).setProtectedHeader({
    alg: 'HS256',
    typ: 'at+jwt',
    kid: 'k1',
  })
  await assert.rejects(
    checks.verify({ token: await hmac.sign(secret), certificate }, 'read'),
    refused(401, /verif/),
  )
  const none = new jose.UnsecuredJWT(claims).encode()
  await assert.rejects(checks.verify({ token: none, certificate }, 'read'), refused(401, /verif/))
})

test('tampering, odd and oversized tokens, and none at all are refused', async () => {
  const checks = verifier()
  const { token = '' } = await presented()
  const [head, body, signature] = token.split('.')
  const { token: long = '' } = await presented({ pad: 'a'.repeat(8_192) })
  for (const odd of [
    '',
    'x',
    'x.y.z',
    `${token}.`,
    `${head}.${body}.`,
    `${head}.${body}A.${signature}`,
    long,
  ]) {
    await assert.rejects(checks.verify({ token: odd, certificate }, 'read'), refused(401, /token/))
  }
  await assert.rejects(
    checks.verify({ token: undefined, certificate }, 'read'),
    refused(401, /no token/),
  )
})

test('without the key that it is bound to a token is good for nobody', async () => {
  const checks = verifier()
  const { token } = await presented()
  await assert.rejects(
    checks.verify({ token, certificate: undefined }, 'read'),
    refused(401, /shows none/),
  )
  const other = Buffer.from(certificate)
  other[other.length - 1] = (other.at(-1) ?? 0) ^ 1
  await assert.rejects(
    checks.verify({ token, certificate: other }, 'read'),
    refused(401, /another certificate/),
  )
})

test('a binding of another kind is not taken for none', async () => {
  const lenient = verifier({ acceptBearer: true })
  const both = { jkt: 'x', 'x5t#S256': 'x' }
  for (const odd of [{}, 'x', null, { 'x5t#S256': '' }, { 'x5t#S256': 1 }, { jkt: 1 }, both]) {
    await assert.rejects(lenient.verify(await presented({ cnf: odd }), 'read'), refused(401, /cnf/))
  }
})

test('a bearer token is taken only where that was said', async () => {
  const bearer = await presented({ cnf: undefined })
  await assert.rejects(verifier().verify(bearer, 'read'), refused(401, /no key/))
  await verifier({ acceptBearer: true }).verify({ ...bearer, certificate: undefined }, 'read')
})

test('what the token does not allow is forbidden, not unauthorized', async () => {
  const checks = verifier()
  await assert.rejects(checks.verify(await presented(), 'write'), (error) => {
    assert.ok(error instanceof TokenRefusedError)
    assert.match(
      error.wwwAuthenticate,
      /^Bearer error="insufficient_scope", error_description="[^"]*`write`[^"]*"$/,
    )
    return refused(403, /`write`/)(error)
  })
  await assert.rejects(checks.verify(await presented(), 'a"\r\nb'), (error) => {
    assert.ok(error instanceof TokenRefusedError)
    assert.match(error.wwwAuthenticate, /^[\x20-\x7e]*$/)
    return true
  })
  await assert.rejects(checks.verify(await presented(), 'read', 'secret'), refused(403, /`read`/))
})

test('keys are fetched once, and no answer is no yes', async () => {
  const checks = verifier()
  const before = issuer.asked.get('/oauth2/jwks') ?? 0
  await Promise.all(
    Array.from({ length: 20 }, async () => checks.verify(await presented(), 'read')),
  )
  await checks.verify(await presented(), 'read')
  assert.equal((issuer.asked.get('/oauth2/jwks') ?? 0) - before, 1)
  issuer.isAway = true
  try {
    await checks.verify(await presented(), 'read')
    const unavailable = { name: 'VerifierUnavailableError', status: 503 }
    await assert.rejects(verifier().verify(await presented(), 'read'), unavailable)
    const nowhere = verifier({ issuer: 'https://localhost:1' })
    await assert.rejects(nowhere.verify(await presented(), 'read'), unavailable)
    const untrusted = verifier({ ca: undefined })
    await assert.rejects(untrusted.verify(await presented(), 'read'), unavailable)
  } finally {
    issuer.isAway = false
  }
})

test('what the broker calls inactive is refused, and what it does not say is no yes', async () => {
  const checks = verifier()
  issuer.introspection = { status: 200, body: '{"active":true}' }
  await checks.verifyActive(await presented(), 'read')
  issuer.introspection = { status: 200, body: '{"active":false}' }
  await assert.rejects(checks.verifyActive(await presented(), 'read'), refused(401, /not active/))
  const odd = ['{}', '[]', '{"active":"true"}', 'true', '', '<html>']
  for (const body of odd) {
    issuer.introspection = { status: 200, body }
    await assert.rejects(
      checks.verifyActive(await presented(), 'read'),
      VerifierUnavailableError,
      body,
    )
  }
  for (const status of [401, 403, 500, 503]) {
    issuer.introspection = { status, body: '{"active":true}' }
    await assert.rejects(checks.verifyActive(await presented(), 'read'), VerifierUnavailableError)
  }
})

test('who has no certificate asks with an OIDC token, and only about tokens', async () => {
  const checks = verifier({ identity: { token: () => 'mine' } })
  issuer.introspection = { status: 200, body: '{"active":true}' }
  await checks.verify(await presented(), 'read')
  assert.equal(issuer.authorization, undefined)
  await checks.verifyActive(await presented(), 'read')
  assert.equal(issuer.authorization, 'Bearer mine')
  const none = verifier({ identity: { tokenFile: join(dir, 'nowhere') } })
  await assert.rejects(none.verifyActive(await presented(), 'read'), VerifierUnavailableError)
})

test('what fails by itself is not asked about', async () => {
  const checks = verifier()
  const before = issuer.asked.get('/oauth2/introspect') ?? 0
  await assert.rejects(checks.verifyActive(await presented({ aud: 'https://x.example' }), 'read'))
  await assert.rejects(checks.verifyActive(await presented(), 'write'))
  assert.equal(issuer.asked.get('/oauth2/introspect') ?? 0, before)
})

test('who is nobody cannot introspect, and an issuer without TLS is none', async () => {
  const nobody = verifier({ identity: undefined })
  issuer.introspection = { status: 200, body: '{"active":true}' }
  await assert.rejects(nobody.verifyActive(await presented(), 'read'), VerifierUnavailableError)
  assert.throws(() => verifier({ issuer: 'http://localhost:1' }), /https/)
})
