import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { after, before, test } from 'node:test'

import { decodeJwt } from 'jose'

import {
  type BeginOptions,
  type Credential,
  DeniedError,
  EpochStaleError,
  LeaseError,
  NotFoundError,
  type Task,
  TaskEndedError,
  TaskStateError,
} from '../src/index.js'
import { AUDIENCE, Broker, RESEARCHER, SUMMARIZER } from './support/broker.js'
import { Documents } from './support/documents.js'
import { eventually } from './support/eventually.js'

const WORK: BeginOptions = {
  agent: SUMMARIZER,
  tier: 'standard',
  grant: { [AUDIENCE]: ['read', 'annotate'] },
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

/** A task as its orchestrator and as its agent hold it. */
async function begin(changes: Partial<BeginOptions> = {}): Promise<{ task: Task; agent: Task }> {
  const task = await broker.as('orchestrator').begin({ ...WORK, ...changes })
  return { task, agent: broker.as('summarizer').task(task.id) }
}

function read(credential: Pick<Credential, 'fetch'>): Promise<number> {
  return credential.fetch(`${documents.url}/documents`).then((answer) => answer.status)
}

test('a credential opens what its task is for, and says what the agent needs to go on', async () => {
  const checkpoint = Buffer.from('page 7')
  const { agent } = await begin({ step: 'draft', checkpoint })
  const credential = await agent.credential({ audience: AUDIENCE })
  assert.equal(await read(credential), 200)
  assert.equal(credential.step, 'draft')
  assert.deepEqual(Buffer.from(credential.checkpoint), checkpoint)
  assert.match(credential.leaseId, /^lse_/)
  const claims = decodeJwt(await credential.token())
  assert.equal(claims.exp, credential.expiresAt.getTime() / 1_000)
  assert.equal(claims.aud, AUDIENCE)
})

test('it asks for less than the task has, and for no longer', async () => {
  const { agent } = await begin()
  const grant = { [AUDIENCE]: ['read'] }
  const credential = await agent.credential({ audience: AUDIENCE, grant, ttl: '1m' })
  const { authorization_details, exp, iat } = decodeJwt(await credential.token())
  assert.deepEqual(authorization_details, [
    { type: 'resource_access', audience: AUDIENCE, actions: ['read'] },
  ])
  assert.equal((exp ?? 0) - (iat ?? 0), 60)
})

test('the audience must be one of the grant, and the caller the agent', async () => {
  const { task, agent } = await begin()
  await assert.rejects(
    agent.credential({ audience: 'https://other.example' }),
    (error) => error instanceof DeniedError && error.reason === 'TARGET_NOT_ALLOWED',
  )
  await assert.rejects(
    broker.as('researcher').task(task.id).credential({ audience: AUDIENCE }),
    (error) => error instanceof NotFoundError,
  )
})

test('it is renewed in the background, under the same lease, before it ends', async () => {
  const { agent } = await begin({ tier: 'brisk' })
  const credential = await agent.credential({ audience: AUDIENCE })
  const [first, lease] = [await credential.token(), credential.leaseId]
  const end = credential.expiresAt.getTime()
  // Nobody asks for it meanwhile.
  await eventually('a later end', () => credential.expiresAt.getTime() > end)
  assert.ok(Date.now() < end, 'it was renewed only after it had ended')
  assert.notEqual(await credential.token(), first)
  assert.equal(credential.leaseId, lease)
  assert.equal(await read(credential), 200)
})

test('it is renewed again and again', async () => {
  const { agent } = await begin({ tier: 'quick' })
  const credential = await agent.credential({ audience: AUDIENCE })
  for (let n = 0; n < 3; n++) {
    const end = credential.expiresAt.getTime()
    await eventually('a later end', () => credential.expiresAt.getTime() > end)
  }
  assert.equal(await read(credential), 200)
})

test('it goes on when the task does: what a server refuses is asked for anew', async () => {
  const { task, agent } = await begin()
  const credential = await agent.credential({ audience: AUDIENCE })
  const [first, lease] = [await credential.token(), credential.leaseId]
  await task.advance({ step: 'review' })
  documents.seen.length = 0
  assert.equal(await read(credential), 200)
  assert.deepEqual(
    documents.seen.map(({ status }) => status),
    [401, 200],
  )
  assert.notEqual(await credential.token(), first)
  assert.notEqual(credential.leaseId, lease)
  const { leasehold } = decodeJwt<{ leasehold: { path: [string, number][] } }>(
    await credential.token(),
  )
  assert.deepEqual(leasehold.path, [[task.id, 2]])
})

test('across an advance it goes on in the background as well', async () => {
  const { task, agent } = await begin({ tier: 'quick' })
  const credential = await agent.credential({ audience: AUDIENCE })
  const lease = credential.leaseId
  await task.advance({ step: 'review' })
  await eventually('a new lease', () => credential.leaseId !== lease)
  documents.seen.length = 0
  assert.equal(await read(credential), 200)
  assert.equal(documents.seen.length, 1)
})

test('one that was asked for one epoch is over with it', async () => {
  const { task, agent } = await begin()
  const credential = await agent.credential({ audience: AUDIENCE, expectedEpoch: 1 })
  await task.advance({ step: 'review' })
  await assert.rejects(read(credential), (error) => error instanceof EpochStaleError)
  assert.ok(credential.signal.reason instanceof EpochStaleError)
})

test('what the task lost the credential has lost, for good', async () => {
  const { task, agent } = await begin({
    grant: { [AUDIENCE]: ['read'], 'https://b.example': ['read'] },
  })
  const credential = await agent.credential({ audience: AUDIENCE })
  await task.advance({ grant: { 'https://b.example': ['read'] } })
  await assert.rejects(read(credential), { name: 'DeniedError', reason: 'TARGET_NOT_ALLOWED' })
  await assert.rejects(credential.token(), { reason: 'TARGET_NOT_ALLOWED' })
})

test('when the task ends it is dead: at the server, in the client, and it says why', async () => {
  const { task, agent } = await begin()
  const credential = await agent.credential({ audience: AUDIENCE })
  await task.complete()
  await assert.rejects(read(credential), (error) => error instanceof TaskEndedError)
  assert.ok(credential.signal.reason instanceof TaskEndedError)
  await assert.rejects(credential.token(), /the task has ended as `?completed/i)
  const asked = documents.seen.length
  await assert.rejects(read(credential), (error) => error instanceof TaskEndedError)
  assert.equal(documents.seen.length, asked, 'a dead credential was sent')
})

test('that the task has ended is learned in the background too', async () => {
  const { task, agent } = await begin({ tier: 'quick' })
  const credential = await agent.credential({ audience: AUDIENCE })
  await task.fail()
  await eventually('the signal', () => credential.signal.aborted)
  assert.ok(credential.signal.reason instanceof TaskEndedError)
})

test('an operator ends the task, or kills the lease: the first is final, the second is not', async () => {
  const { task, agent } = await begin()
  const credential = await agent.credential({ audience: AUDIENCE })
  const lease = credential.leaseId
  await broker.cli('operator', 'revoke', 'lease', lease)
  assert.equal(await read(credential), 200)
  assert.notEqual(credential.leaseId, lease)
  await broker.cli('operator', 'revoke', 'task', task.id)
  await assert.rejects(read(credential), (error) => error instanceof TaskEndedError)
})

test('a quarantine stops it until it is lifted', async () => {
  const { agent } = await begin({ tier: 'quick' })
  const credential = await agent.credential({ audience: AUDIENCE })
  const scope = `principal:${SUMMARIZER}`
  await broker.cli('operator', 'quarantine', scope)
  try {
    assert.equal(await read(credential), 401)
    await assert.rejects(
      agent.credential({ audience: AUDIENCE }),
      (error) => error instanceof TaskStateError && error.reason === 'QUARANTINED',
    )
    assert.equal(credential.signal.aborted, false)
  } finally {
    await broker.cli('operator', 'quarantine', 'lift', scope)
  }
  await eventually('it goes on', async () => (await read(credential)) === 200)
})

test('a suspension stops it until the task is resumed', async () => {
  const { task, agent } = await begin({ tier: 'quick' })
  const credential = await agent.credential({ audience: AUDIENCE })
  await task.suspend()
  assert.equal(await read(credential), 401)
  await assert.rejects(credential.refresh(), { reason: 'TASK_SUSPENDED' })
  assert.equal(credential.signal.aborted, false)
  await task.resume()
  await eventually('it goes on', async () => (await read(credential)) === 200)
})

test('at the ceiling it is over', async () => {
  const { agent } = await begin({ tier: 'capped' })
  const credential = await agent.credential({ audience: AUDIENCE })
  await eventually('the signal', () => credential.signal.aborted)
  assert.ok(credential.signal.reason instanceof LeaseError)
  assert.equal(credential.signal.reason.reason, 'CEILING_REACHED')
})

test('what the deadline of the task ends is not renewed for nothing', async () => {
  const { agent } = await begin({ tier: 'brisk', duration: '3s' })
  const credential = await agent.credential({ audience: AUDIENCE })
  const lease = credential.leaseId
  await eventually('the signal', () => credential.signal.aborted)
  assert.ok(credential.signal.reason instanceof TaskEndedError)
  const told = await broker.cli('summarizer', 'lease', 'get', lease, '--output', 'json')
  assert.equal((JSON.parse(told) as { lease: { renewals: number } }).lease.renewals, 0)
})

test('one that is closed while it is being renewed plans no further renewal', async (context) => {
  const { agent } = await begin()
  const credential = await agent.credential({ audience: AUDIENCE })
  const refreshed = credential.refresh()
  credential.close()
  const timers = context.mock.method(globalThis, 'setTimeout')
  await assert.rejects(refreshed, { reason: 'CLOSED' })
  const plans = timers.mock.calls.filter(({ arguments: [callback] }) =>
    String(callback).includes('#renewOnce'),
  )
  assert.equal(plans.length, 0)
})

test('handed to another agent it is not found any more', async () => {
  const { task, agent } = await begin()
  const credential = await agent.credential({ audience: AUDIENCE })
  await task.advance({ agent: RESEARCHER })
  await assert.rejects(read(credential), (error) => error instanceof NotFoundError)
})

test('what is left gives its lease back, and what is closed does not', async () => {
  const { agent } = await begin()
  let token = ''
  {
    await using credential = await agent.credential({ audience: AUDIENCE })
    token = await credential.token()
    assert.equal(await read(credential), 200)
  }
  const file = broker.file('left.token')
  const { writeFile } = await import('node:fs/promises')
  await writeFile(file, token)
  const inactive = { code: 1, stdout: /^inactive/ }
  await assert.rejects(broker.cli('documents', 'token', 'introspect', file), inactive)
  const closed = await agent.credential({ audience: AUDIENCE })
  await writeFile(file, await closed.token())
  closed.close()
  await assert.rejects(closed.token(), { reason: 'CLOSED' })
  assert.match(await broker.cli('documents', 'token', 'introspect', file), /^active/)
})

test('giving back what is over already is no error', async () => {
  const { task, agent } = await begin()
  const credential = await agent.credential({ audience: AUDIENCE })
  await task.complete()
  await credential.release()
  await credential.release()
})

test('a fresh key is proved to the broker, and the token is bound to its certificate', async () => {
  const { agent } = await begin({ tier: 'quick' })
  const credential = await agent.credential({ audience: AUDIENCE, proof: 'key' })
  const first = await credential.tokenWithKey()
  const leaf = new X509Certificate(first.cert ?? '')
  assert.match(leaf.subjectAltName ?? '', /URI:spiffe:\/\/leasehold\.example\/task\/tsk_/)
  assert.equal(await read(credential), 200)
  const end = credential.expiresAt.getTime()
  await eventually('its renewal', () => credential.expiresAt.getTime() > end)
  assert.notEqual((await credential.tokenWithKey()).key, first.key)
  assert.equal(await read(credential), 200)
})

test('a bearer token is bound to nothing, where the tier allows that', async () => {
  const { agent } = await begin({ tier: 'open' })
  const credential = await agent.credential({ audience: AUDIENCE, proof: 'bearer' })
  assert.equal(decodeJwt(await credential.token())['cnf'], undefined)
  assert.deepEqual(Object.keys(await credential.tokenWithKey()), ['token'])
  assert.equal(await read(credential), 200)
  const { agent: strict } = await begin()
  await assert.rejects(strict.credential({ audience: AUDIENCE, proof: 'bearer' }), {
    name: 'IdentityError',
    reason: 'PROOF_INVALID',
  })
})

test('a certificate is for a key that was made here, and is renewed with another', async () => {
  const { agent } = await begin({ tier: 'quick' })
  await using certificate = await agent.certificate({ audience: AUDIENCE })
  const first = await certificate.pem()
  assert.match(
    certificate.spiffeId,
    /^spiffe:\/\/leasehold\.example\/task\/tsk_.*\/e\/1\/summarizer$/,
  )
  const chain = first.cert.match(/BEGIN CERTIFICATE/g)?.length
  assert.equal(chain, 2)
  const { fingerprint256 } = new X509Certificate(first.cert)
  const later = await eventually('its renewal', async () => {
    const { cert } = await certificate.pem()
    return new X509Certificate(cert).fingerprint256 !== fingerprint256 && cert
  })
  assert.equal(new X509Certificate(later).subjectAltName, `URI:${certificate.spiffeId}`)
  assert.equal((await certificate.fetch(`${documents.url}/open`)).status, 200)
  assert.equal(documents.seen.at(-1)?.authorization, undefined)
})

test('who closes the client stops what it renews', async () => {
  const { task } = await begin()
  const client = broker.as('summarizer')
  const credential = await client.task(task.id).credential({ audience: AUDIENCE })
  client.close()
  assert.ok(credential.signal.aborted)
  await assert.rejects(read(credential), { reason: 'CLOSED' })
})
