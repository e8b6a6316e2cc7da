// jose verifies access tokens by what the broker publishes, and by nothing else.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, test } from 'node:test'

import * as jose from 'jose'

const folder = process.env.LEASEHOLD_INTEROP_WORLD
const evidence = JSON.parse(readFileSync(join(folder, 'evidence.json')))
const { token, audience } = evidence
let metadata, keys

before(async () => {
  const answer = await fetch(`${evidence.base_url}/.well-known/openid-configuration`)
  metadata = await answer.json()
  keys = jose.createRemoteJWKSet(new URL(metadata.jwks_uri))
})

function verify(compact, changes = {}, by = keys) {
  const requiredClaims = ['sub', 'client_id', 'jti', 'iat', 'nbf', 'exp', 'cnf', 'txn', 'authorization_details', 'leasehold']
  const rules = { algorithms: ['ES256'], typ: 'at+jwt', issuer: metadata.issuer, audience, requiredClaims }
  return jose.jwtVerify(compact, by, { ...rules, ...changes })
}

/** The token with one of its three parts changed. */
function changed(part, change) {
  const parts = token.split('.')
  parts[part] = jose.base64url.encode(change(Buffer.from(jose.base64url.decode(parts[part]))))
  assert.notEqual(parts.join('.'), token)
  return parts.join('.')
}

test('a token verifies by the published keys alone', async () => {
  const { payload, protectedHeader } = await verify(token)
  assert.equal(payload.iss, evidence.base_url)
  assert.equal(payload.sub, evidence.agent)
  assert.deepEqual(payload.leasehold.path, [[evidence.task, 1]])
  assert.equal(payload.leasehold.lease, evidence.lease)
  assert.deepEqual(Object.keys(protectedHeader).sort(), ['alg', 'kid', 'typ'])
})

test('another audience is refused', async () => {
  const code = { code: 'ERR_JWT_CLAIM_VALIDATION_FAILED', claim: 'aud' }
  await assert.rejects(verify(token, { audience: evidence.other_audience }), code)
})

test('another issuer is refused', async () => {
  const code = { code: 'ERR_JWT_CLAIM_VALIDATION_FAILED', claim: 'iss' }
  await assert.rejects(verify(token, { issuer: `${evidence.base_url}/` }), code)
})

test('it is no identity token', async () => {
  const code = { code: 'ERR_JWT_CLAIM_VALIDATION_FAILED', claim: 'typ' }
  await assert.rejects(verify(token, { typ: 'JWT' }), code)
})

test('from the second of its expiry on it is refused', async () => {
  const { exp } = jose.decodeJwt(token)
  await verify(token, { currentDate: new Date((exp - 1) * 1000) })
  await assert.rejects(verify(token, { currentDate: new Date(exp * 1000) }), { code: 'ERR_JWT_EXPIRED' })
})

test('before its time it is refused', async () => {
  const { nbf } = jose.decodeJwt(token)
  await verify(token, { currentDate: new Date(nbf * 1000) })
  const code = { code: 'ERR_JWT_CLAIM_VALIDATION_FAILED', claim: 'nbf' }
  await assert.rejects(verify(token, { currentDate: new Date((nbf - 1) * 1000) }), code)
})

test('a tampered token is refused', async () => {
  const code = { code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED' }
  const wider = changed(1, (claims) => Buffer.from(claims.toString().replace('"list"', '"edit"')))
  await assert.rejects(verify(wider), code)
  const other = changed(2, (signature) => { signature[0] ^= 1; return signature })
  await assert.rejects(verify(other), code)
  const header = changed(0, (header) => Buffer.from(header.toString().replace('at+jwt', 'AT+jwt')))
  await assert.rejects(verify(header), code)
})

test('a token by another key is refused', async () => {
  const { privateKey } = await jose.generateKeyPair('ES256')
  const header = jose.decodeProtectedHeader(token)
  const forged = await new jose.SignJWT(jose.decodeJwt(token)).setProtectedHeader(header).sign(privateKey)
  await assert.rejects(verify(forged), { code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED' })
})

test('without the published keys nothing verifies', async () => {
  const none = jose.createLocalJWKSet({ keys: [] })
  await assert.rejects(verify(token, {}, none), { code: 'ERR_JWKS_NO_MATCHING_KEY' })
})
