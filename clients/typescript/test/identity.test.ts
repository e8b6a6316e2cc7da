import assert from 'node:assert/strict'
import { createHash, X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { after, before, test } from 'node:test'

import { decodeJwt } from 'jose'

import {
  type BeginOptions,
  type Credential,
  IdentityError,
  LeaseholdError,
  Verifier,
  VerifierUnavailableError,
} from '../src/index.js'
import { replace, type Svid, TestAuthority } from './support/authority.js'
import { AUDIENCE, Broker, SUMMARIZER } from './support/broker.js'
import { Documents } from './support/documents.js'
import { eventually } from './support/eventually.js'

const WORK: BeginOptions = {
  agent: SUMMARIZER,
  tier: 'standard',
  grant: { [AUDIENCE]: ['read'] },
  duration: '30m',
}

let broker: Broker
let documents: Documents

before(async () => {
  broker = await Broker.start()
  documents = await Documents.start(broker)
})

after(async () => {
  await documents.stop()
  await broker.remove()
})

/** Files with an SVID of the summarizer, and how to rotate them. */
function rotating(name: string) {
  const identity = { cert: broker.file(`${name}.pem`), key: broker.file(`${name}.key`) }
  const put = (svid: Partial<Svid>) => {
    if (svid.cert !== undefined) replace(identity.cert, svid.cert)
    if (svid.key !== undefined) replace(identity.key, svid.key)
  }
  return { way: { ...broker.way('summarizer'), identity }, put }
}

async function boundTo(credential: Credential): Promise<unknown> {
  return decodeJwt<{ cnf?: { 'x5t#S256'?: string } }>(await credential.token()).cnf?.['x5t#S256']
}

function thumbprint(svid: Svid): string {
  const { raw } = new X509Certificate(svid.cert)
  return createHash('sha256').update(raw).digest('base64url')
}

test('an SVID that rotates on disk is picked up, and what is issued is bound to the new one', async () => {
  const { way, put } = rotating('rotating')
  const [first, second] = [
    await broker.authority.svid(SUMMARIZER),
    await broker.authority.svid(SUMMARIZER),
  ]
  put(first)
  const task = await broker.as('orchestrator').begin(WORK)
  const agent = broker.client(way).task(task.id)
  const credential = await agent.credential({ audience: AUDIENCE })
  const lease = credential.leaseId
  assert.equal(await boundTo(credential), thumbprint(first))
  put(second)
  // Until it is renewed, the token goes with the certificate that it is bound to.
  documents.seen.length = 0
  assert.equal((await credential.fetch(`${documents.url}/documents`)).status, 200)
  assert.equal(documents.seen.length, 1)
  await credential.refresh()
  assert.equal(await boundTo(credential), thumbprint(second))
  assert.equal(credential.leaseId, lease)
  documents.seen.length = 0
  assert.equal((await credential.fetch(`${documents.url}/documents`)).status, 200)
  assert.equal(documents.seen.length, 1)
})

test('in the middle of a rotation the old SVID goes on', async () => {
  const { way, put } = rotating('halfway')
  const [first, second] = [
    await broker.authority.svid(SUMMARIZER),
    await broker.authority.svid(SUMMARIZER),
  ]
  put(first)
  const task = await broker.as('orchestrator').begin(WORK)
  const agent = broker.client(way).task(task.id)
  const get = async () => boundTo(await agent.credential({ audience: AUDIENCE }))
  assert.equal(await get(), thumbprint(first))
  put({ cert: second.cert })
  assert.equal(await get(), thumbprint(first))
  put({ key: second.key })
  assert.equal(await get(), thumbprint(second))
})

test('when the old SVID has expired, half a new one is an error that names the files', async () => {
  const { way, put } = rotating('expiring')
  const soon = await broker.authority.svid(SUMMARIZER, { lifeMs: 2_000 })
  put(soon)
  const client = broker.client(way)
  const task = await broker.as('orchestrator').begin(WORK)
  await client.get(task.id)
  put({ cert: (await broker.authority.svid(SUMMARIZER)).cert })
  const error = await eventually('it fails', () =>
    client
      .get(task.id)
      .then(() => undefined)
      .catch((error: unknown) => error),
  )
  assert.ok(error instanceof IdentityError)
  assert.equal(error.reason, 'IDENTITY_UNREADABLE')
  assert.match(error.message, /expiring\.key.*the key is not the certificate's/)
})

test('files that are not there, or hold something else, are named', async () => {
  const nowhere = { cert: broker.file('nowhere.pem'), key: broker.file('nowhere.key') }
  const call = (options: object) =>
    broker
      .client({ ...broker.way('summarizer'), ...options })
      .get('tsk_0000000000000000000000000000')
  const unreadable = { name: 'IdentityError', reason: 'IDENTITY_UNREADABLE' }
  await assert.rejects(call({ identity: nowhere }), { ...unreadable, message: /nowhere\.pem/ })
  await assert.rejects(call({ ca: broker.file('leasehold.toml') }), {
    ...unreadable,
    message: /no certificate/,
  })
  await assert.rejects(call({ identity: { tokenFile: nowhere.cert } }), {
    ...unreadable,
    message: /nowhere\.pem/,
  })
  writeFileSync(broker.file('empty.jwt'), '\n')
  await assert.rejects(call({ identity: { tokenFile: broker.file('empty.jwt') } }), {
    ...unreadable,
    message: /no token/,
  })
  const token = () => Promise.reject(new Error('the metadata server is away'))
  await assert.rejects(call({ identity: { token } }), { ...unreadable, message: /metadata server/ })
})

test('an OIDC token in a file drives tasks, and is read again when it changes', async () => {
  const tokenFile = broker.file('alice.jwt')
  replace(tokenFile, `${await broker.oidc('alice')}\n`)
  const client = broker.client({ ...broker.way('orchestrator'), identity: { tokenFile } })
  const work = { ...WORK, agent: 'oidc:dev:reporter' }
  const task = await client.begin(work)
  assert.equal(task.info?.orchestrator, 'alice')
  replace(tokenFile, await broker.oidc('reporter'))
  await assert.rejects(client.begin(work), { name: 'DeniedError', reason: 'ROLE_MISSING' })
})

test('an agent without a certificate gets a token that is bound to a key of its own', async () => {
  const identity = { token: () => broker.oidc('alice') }
  const orchestrator = broker.client({ ...broker.way('orchestrator'), identity })
  const task = await orchestrator.begin({ ...WORK, agent: 'oidc:dev:reporter' })
  const reporter = broker.client({
    ...broker.way('orchestrator'),
    identity: { token: () => broker.oidc('reporter') },
  })
  const credential = await reporter.task(task.id).credential({ audience: AUDIENCE })
  assert.equal(typeof (await boundTo(credential)), 'string')
  assert.equal((await credential.fetch(`${documents.url}/documents`)).status, 200)
  await assert.rejects(
    reporter.task(task.id).credential({ audience: AUDIENCE, proof: 'certificate' }),
    { name: 'RequestError', message: /`key`/ },
  )
})

test('whom nobody vouches for is told so, and so is who talks to a stranger', async () => {
  const stranger = await TestAuthority.make()
  const { way, put } = rotating('stranger')
  put(await stranger.svid(SUMMARIZER))
  const call = (options: object) =>
    broker
      .client({ ...broker.way('summarizer'), ...options })
      .get('tsk_0000000000000000000000000000')
  await assert.rejects(call(way), { name: 'IdentityError', reason: 'IDENTITY_UNVERIFIED' })
  writeFileSync(broker.file('stranger-ca.pem'), stranger.pem)
  await assert.rejects(call({ ca: broker.file('stranger-ca.pem') }), {
    name: 'IdentityError',
    reason: 'BROKER_UNTRUSTED',
    message: /`ca`/,
  })
  const identity = { token: () => 'x.y.z' }
  await assert.rejects(call({ identity }), { name: 'IdentityError', reason: 'IDENTITY_UNVERIFIED' })
})

test('no variable of the environment makes us trust a stranger', async () => {
  const stranger = await TestAuthority.make()
  writeFileSync(broker.file('stranger-ca.pem'), stranger.pem)
  const ca = broker.file('stranger-ca.pem')
  const task = await broker.as('orchestrator').begin(WORK)
  const held = await broker.as('summarizer').task(task.id).credential({ audience: AUDIENCE, ca })
  const verifier = new Verifier({ issuer: broker.issuer, audience: AUDIENCE, ca })
  const presented = { token: await held.token(), certificate: undefined }
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0'
  try {
    const client = broker.client({ ...broker.way('summarizer'), ca })
    await assert.rejects(client.get(task.id), { reason: 'BROKER_UNTRUSTED' })
    await assert.rejects(held.fetch(`${documents.url}/open`), /fetch failed/)
    await assert.rejects(verifier.verify(presented, 'read'), VerifierUnavailableError)
  } finally {
    Reflect.deleteProperty(process.env, 'NODE_TLS_REJECT_UNAUTHORIZED')
  }
})

test('an address that is no broker of ours is refused before anything is sent', () => {
  for (const address of [
    '',
    'x',
    'http://127.0.0.1:1',
    'https://127.0.0.1:1/path',
    'https://u@127.0.0.1:1',
  ]) {
    assert.throws(
      () => broker.client({ ...broker.way('summarizer'), address }),
      (error) => error instanceof LeaseholdError && error.fieldViolations[0]?.field === 'address',
      address,
    )
  }
})
