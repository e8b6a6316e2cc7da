// Tokens that are bound to a key without certificate: got, renewed and sent with a proof each time.

import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { after, before, test } from 'node:test'
import { inspect } from 'node:util'

import * as jose from 'jose'

import {
  type Credential,
  DpopKey,
  type Proof,
  RequestError,
  type Task,
  Verifier,
} from '../src/index.js'
import { AUDIENCE, Broker, SUMMARIZER } from './support/broker.js'
import { Documents } from './support/documents.js'

const HERE = 'https://documents.example:8443/report'
const READER = 'oidc:dev:reader'
const MORE = `
[[roles]]
role = "agent"
class = "reader"
owner = "library"
tiers = ["standard"]
issuer = "dev"
subject = "reader"
`
let broker: Broker
let demanding: Broker
let documents: Documents
let nonces: Documents

before(async () => {
  broker = await Broker.start(MORE)
  demanding = await Broker.start('\n[dpop]\nnonce = "required"\n')
  documents = await Documents.start(broker)
  nonces = await Documents.start(broker, new Uint8Array(32))
})

after(async () => {
  await documents.stop()
  await nonces.stop()
  await broker.remove()
  await demanding.remove()
})

function claimsOf(proof = '') {
  return jose.decodeJwt(proof)
}

async function begin(of = broker, agent = SUMMARIZER): Promise<Task> {
  const grant = { [AUDIENCE]: ['read'] }
  return of.as('orchestrator').begin({ agent, tier: 'standard', grant, duration: '30m' })
}

async function held(proof: Proof = 'dpop'): Promise<{ task: Task; credential: Credential }> {
  const task = await begin()
  const mine = broker.as('summarizer').task(task.id)
  return { task, credential: await mine.credential({ audience: AUDIENCE, proof }) }
}

test('a proof says what RFC 9449 wants, and another library reads it', async () => {
  const key = new DpopKey()
  const proof = key.proof({
    method: 'POST',
    url: `${HERE}?page=2#end`,
    token: 'a.b.c',
    nonce: 'once',
  })
  const { protectedHeader } = await jose.compactVerify(proof, jose.EmbeddedJWK)
  assert.deepEqual(Object.keys(protectedHeader).sort(), ['alg', 'jwk', 'typ'])
  assert.equal(protectedHeader.typ, 'dpop+jwt')
  const { jwk = {} } = protectedHeader
  assert.equal(key.thumbprint, await jose.calculateJwkThumbprint(jwk as jose.JWK))
  assert.deepEqual(Object.keys(jwk).sort(), ['crv', 'kty', 'x', 'y'])
  const { jti, iat, ...rest } = claimsOf(proof)
  const ath = Buffer.from(await crypto.subtle.digest('SHA-256', Buffer.from('a.b.c'))).toString(
    'base64url',
  )
  assert.deepEqual(rest, { htm: 'POST', htu: HERE, ath, nonce: 'once' })
  assert.ok(Math.abs((iat ?? 0) - Date.now() / 1_000) < 10)
  const others = Array.from({ length: 100 }, () =>
    claimsOf(key.proof({ method: 'GET', url: HERE })),
  )
  assert.equal(new Set([...others.map((claims) => claims.jti), jti]).size, 101)
  assert.deepEqual(Object.keys(others[0] ?? {}).sort(), ['htm', 'htu', 'iat', 'jti'])
})

test('a key that others keep is read, and what is none is refused', () => {
  const pem = (curve: string) =>
    generateKeyPairSync('ec', { namedCurve: curve }).privateKey.export({
      type: 'pkcs8',
      format: 'pem',
    })
  const kept = pem('P-256')
  assert.equal(DpopKey.fromPem(kept).thumbprint, DpopKey.fromPem(Buffer.from(kept)).thumbprint)
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2_048 }).privateKey
  const wrong = [
    '',
    '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----',
    pem('P-384'),
    rsa.export({ type: 'pkcs8', format: 'pem' }),
  ]
  for (const pem of wrong) assert.throws(() => DpopKey.fromPem(pem), RequestError)
  assert.throws(() => new DpopKey(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey))
})

test('the key is in nothing that is printed', () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { d = '' } = privateKey.export({ format: 'jwk' })
  const key: unknown = new DpopKey(privateKey)
  const whole = { showHidden: true, depth: Infinity, customInspect: false }
  const printed = [inspect(key), inspect(key, whole), JSON.stringify(key), String(key)].join('\n')
  assert.ok(!printed.includes(d))
  assert.ok(printed.includes(new DpopKey(privateKey).thumbprint))
})

test('a token is bound to the key, and renewed by it', async () => {
  const key = new DpopKey()
  const { task, credential } = await held(key)
  const { ca, identity } = broker.way('documents')
  const api = new Verifier({ issuer: broker.issuer, audience: AUDIENCE, ca, identity })
  const bound = async () => {
    const claims = await api.introspect(await credential.token())
    assert.deepEqual(claims?.['cnf'], { jkt: key.thumbprint })
  }
  await bound()
  assert.deepEqual(Object.keys(await credential.tokenWithKey()), ['token'])
  const { leaseId } = credential
  const first = await credential.token()
  await credential.refresh()
  assert.notEqual(await credential.token(), first)
  assert.equal(credential.leaseId, leaseId, 'a renewal, not another lease')
  await bound()
  await task.advance({ step: 'review' })
  await credential.refresh()
  assert.notEqual(credential.leaseId, leaseId)
  await bound()
  api.close()
})

test('a caller with an OIDC token needs no certificate at all', async () => {
  const task = await begin(broker, READER)
  const { address, ca } = broker.way('summarizer')
  const reader = broker.client({ address, ca, identity: { token: () => broker.oidc('reader') } })
  const credential = await reader.task(task.id).credential({ audience: AUDIENCE, proof: 'dpop' })
  assert.equal((await credential.fetch(`${documents.url}/documents`)).status, 200)
  await credential.refresh()
  assert.equal((await credential.fetch(`${documents.url}/documents`)).status, 200)
})

test('a nonce that the broker demands is taken once, and used from then on', async () => {
  const made: (string | undefined)[] = []
  class Noting extends DpopKey {
    override proof(request: Parameters<DpopKey['proof']>[0]): string {
      made.push(request.nonce)
      return super.proof(request)
    }
  }
  const task = await begin(demanding)
  const agent = demanding.as('summarizer').task(task.id)
  const credential = await agent.credential({ audience: AUDIENCE, proof: new Noting() })
  assert.equal(made.length, 2)
  assert.equal(made[0], undefined)
  await credential.refresh()
  assert.deepEqual(made.slice(2), [made[1]], 'it is still good, and no call is refused for it')
})

test('a proof that the broker refuses is not made again', async () => {
  let made = 0
  class Elsewhere extends DpopKey {
    override proof(request: Parameters<DpopKey['proof']>[0]): string {
      made += 1
      return super.proof({ ...request, url: 'https://elsewhere.example/' })
    }
  }
  await assert.rejects(held(new Elsewhere()), { name: 'IdentityError', reason: 'PROOF_INVALID' })
  assert.equal(made, 1)
})

test('a token that the broker bound to another key is not taken', async () => {
  class Another extends DpopKey {
    override get thumbprint(): string {
      return new DpopKey().thumbprint
    }
  }
  await assert.rejects(held(new Another()), { message: /jkt/ })
})

test('every request has a proof of its own, and no certificate', async () => {
  const { credential } = await held()
  documents.seen.length = 0
  for (const method of ['GET', 'POST', 'GET']) {
    const body = method === 'GET' ? null : 'note'
    const answer = await credential.fetch(`${documents.url}/a?page=2`, { method, body })
    assert.equal(answer.status, 200)
  }
  const token = await credential.token()
  const claims = documents.seen.map(({ proofs, authorization, hasCertificate }) => {
    assert.equal(proofs.length, 1)
    assert.equal(authorization, `DPoP ${token}`)
    assert.equal(hasCertificate, false)
    return claimsOf(proofs[0])
  })
  const url = `${documents.url}/a`
  assert.deepEqual(
    claims.map(({ htm, htu }) => [htm, htu]),
    ['GET', 'POST', 'GET'].map((method) => [method, url]),
  )
  assert.equal(new Set(claims.map(({ jti }) => jti)).size, 3)
})

test('after a change a request is sent with a new token, and after the end with none', async () => {
  const { task, credential } = await held()
  const get = () => credential.fetch(`${documents.url}/documents`)
  assert.equal((await get()).status, 200)
  await task.advance({ step: 'review' })
  documents.seen.length = 0
  assert.equal((await get()).status, 200)
  assert.deepEqual(
    documents.seen.map(({ status }) => status),
    [401, 200],
  )
  await task.complete()
  await assert.rejects(get(), { name: 'TaskEndedError' })
})

test('a nonce that a server demands goes into the next proof', async () => {
  const { credential } = await held()
  const token = await credential.token()
  nonces.seen.length = 0
  const post = (body: string | ReadableStream) =>
    credential.fetch(`${nonces.url}/documents`, { method: 'POST', body })
  // A stream is sent once: its answer is the demand, and the next request has the nonce.
  assert.equal((await post(new Blob(['stream']).stream())).status, 401)
  assert.equal((await post('text')).status, 200)
  const another = (await held()).credential
  const before = await another.token()
  assert.equal((await another.fetch(`${nonces.url}/documents`)).status, 200)
  assert.equal(await another.token(), before)
  assert.equal((await post('text')).status, 200)
  assert.equal(await credential.token(), token, 'no other token was asked for')
  assert.deepEqual(
    nonces.seen.map(({ proofs }) => claimsOf(proofs[0])['nonce'] !== undefined),
    [false, true, false, true, true],
  )
})

test('a redirect takes neither token nor proof elsewhere, and has a new proof here', async () => {
  const { credential } = await held()
  documents.seen.length = nonces.seen.length = 0
  const moved = (to: string) =>
    credential.fetch(`${documents.url}/moved`, { headers: { 'x-to': to } })
  assert.equal((await moved(`${documents.url}/documents`)).status, 200)
  assert.equal((await moved(`${nonces.url}/open`)).status, 200)
  const shown = documents.seen.map(({ proofs }) => claimsOf(proofs[0])['htu'])
  const [first, second] = [`${documents.url}/moved`, `${documents.url}/documents`]
  assert.deepEqual(shown, [first, second, first])
  assert.deepEqual(
    nonces.seen.map(({ authorization, proofs }) => [authorization, proofs]),
    [[undefined, []]],
  )
})

test('headers for other clients are for one request', async () => {
  const { credential } = await held()
  const [one, two] = [await credential.headers('GET', HERE), await credential.headers('GET', HERE)]
  assert.equal(one['authorization'], `DPoP ${await credential.token()}`)
  assert.notEqual(one['dpop'], two['dpop'])
  const other = await held('certificate')
  const token = await other.credential.token()
  assert.deepEqual(await other.credential.headers('GET', HERE), {
    authorization: `Bearer ${token}`,
  })
})
