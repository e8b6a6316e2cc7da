import assert from 'node:assert/strict'
import { createHash, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'

import {
  type Credential,
  type Presented,
  Sidecar,
  type Task,
  TokenRefusedError,
  VerifierUnavailableError,
} from '../src/index.js'
import { AUDIENCE, Broker, SUMMARIZER } from './support/broker.js'
import { call, type Running, start, stop } from './support/sidecar.js'

const ENTRIES = `${AUDIENCE}/entries`
let broker: Broker
let running: Running

before(async () => {
  broker = await Broker.start()
  running = await start(broker)
})

after(async () => {
  await stop(running)
  await broker.remove()
})

const sidecar = () => new Sidecar({ audience: AUDIENCE, socketPath: running.socketPath })

/** A task, and a token of its agent with the certificate that it is bound to. */
async function issued(): Promise<{ task: Task; credential: Credential; shown: Presented }> {
  const grant = { [AUDIENCE]: ['read', 'annotate'] }
  const work = { agent: SUMMARIZER, grant, tier: 'standard', duration: '10m' } as const
  const task = await broker.as('orchestrator').begin(work)
  const credential = await broker.as('summarizer').task(task.id).credential({ audience: AUDIENCE })
  const { token, cert } = await credential.tokenWithKey()
  assert.ok(cert)
  return { task, credential, shown: { token, certificate: new X509Certificate(cert).raw } }
}

function refused(status: number, error: string, challenge: string) {
  return (thrown: unknown) => {
    assert.ok(thrown instanceof TokenRefusedError, String(thrown))
    assert.deepEqual([thrown.status, thrown.error], [status, error])
    assert.equal(thrown.headers['www-authenticate'], thrown.wwwAuthenticate)
    assert.ok(thrown.wwwAuthenticate.startsWith(challenge), thrown.wwwAuthenticate)
    return true
  }
}

test('a token is good until its task ends, and the server asks no broker', async () => {
  const { task, credential, shown } = await issued()
  const told = await sidecar().verifyActive(shown, 'annotate')
  assert.deepEqual([told.agent, told.subject], [SUMMARIZER, SUMMARIZER])
  assert.deepEqual(
    [told.taskId, told.rootTaskId, told.leaseId],
    [task.id, task.id, credential.leaseId],
  )
  await task.complete()
  const ended = refused(401, 'invalid_token', 'Bearer error="invalid_token"')
  await assert.rejects(sidecar().verify(shown, 'read'), (error) => {
    assert.ok(error instanceof TokenRefusedError)
    assert.equal(error.reason, 'EPOCH_STALE')
    return ended(error)
  })
})

test('whoever shows less is refused with the answer to give', async () => {
  const { shown } = await issued()
  const token = 'invalid_token'
  for (const [less, action, status, error, challenge] of [
    [{ ...shown, token: undefined }, 'read', 401, token, 'Bearer, DPoP algs='],
    [{ ...shown, token: 'a.b.c' }, 'read', 401, token, 'Bearer error='],
    [{ ...shown, certificate: undefined }, 'read', 401, token, 'Bearer error='],
    [{ ...shown, certificate: Buffer.from('x') }, 'read', 401, token, 'Bearer error='],
    [shown, 'delete', 403, 'insufficient_scope', 'Bearer error='],
  ] as const) {
    await assert.rejects(sidecar().verifyActive(less, action), refused(status, error, challenge))
    await assert.rejects(sidecar().admit(less, action), refused(status, error, challenge))
  }
  await assert.rejects(sidecar().verifyActive(shown, 'read', 'secret'), TokenRefusedError)
})

test('what runs is told when its credential dies, and nothing once it is closed', async () => {
  const [one, other] = [await issued(), await issued()]
  const admission = await sidecar().admit(one.shown, 'read')
  assert.equal(admission.token.taskId, one.task.id)
  const unharmed = await sidecar().admit(other.shown, 'read')
  await one.task.complete()
  assert.equal(await admission.revoked, 'EPOCH_STALE')
  admission.close()
  unharmed.close()
  assert.equal(await unharmed.revoked, undefined)
})

test('a proof is good once, for the request that it is for', async (t) => {
  const { task } = await issued()
  const agent = broker.as('summarizer').task(task.id)
  const credential = await agent.credential({ audience: AUDIENCE, proof: 'dpop' })
  const young = await start(broker)
  t.after(() => stop(young))
  const sidecar = () => new Sidecar({ audience: AUDIENCE, socketPath: young.socketPath })
  const made = async (nonce?: string) => {
    const headers = await credential.headers('GET', ENTRIES, nonce)
    const token = headers['authorization']?.split(' ')[1]
    return { token, values: [headers['dpop'] ?? ''] }
  }
  const { token, values: early } = await made()
  const shown = { token, certificate: undefined }
  const place = { method: 'GET', url: `${ENTRIES}?page=2` }
  let nonce: string | undefined
  const tooEarly = sidecar().verifyActive({ ...shown, dpop: { ...place, values: early } }, 'read')
  await assert.rejects(tooEarly, (thrown: unknown) => {
    nonce = (thrown as TokenRefusedError).headers['dpop-nonce']
    return refused(401, 'use_dpop_nonce', 'DPoP')(thrown)
  })
  const dpop = { ...place, values: (await made(nonce)).values }
  await sidecar().verifyActive({ ...shown, dpop }, 'read')
  const fresh = { ...dpop, values: (await made()).values }
  const proof = 'invalid_dpop_proof'
  for (const [wrong, status, error] of [
    [dpop, 401, proof],
    [{ ...fresh, method: 'POST' }, 401, proof],
    [{ ...fresh, url: `${AUDIENCE}/other` }, 401, proof],
    [{ ...fresh, values: [] }, 401, proof],
    [{ ...fresh, values: [...fresh.values, ...fresh.values] }, 400, 'invalid_request'],
    [undefined, 401, 'invalid_token'],
  ] as const) {
    const asked = sidecar().verifyActive({ ...shown, dpop: wrong }, 'read')
    await assert.rejects(asked, refused(status, error, wrong === undefined ? 'Bearer' : 'DPoP'))
  }
})

test('without a sidecar, or with that of somebody else, there is no yes', async () => {
  const { shown } = await issued()
  const nobody = new Sidecar({ audience: AUDIENCE, socketPath: join(running.dir, 'none.sock') })
  const other = new Sidecar({ audience: 'https://x.example', socketPath: running.socketPath })
  for (const [asked, message] of [
    [nobody, /cannot be asked/],
    [other, /another audience/],
  ] as const) {
    const unavailable = { name: 'VerifierUnavailableError', message, status: 503 }
    await assert.rejects(asked.verifyActive(shown, 'read'), unavailable)
    await assert.rejects(asked.admit(shown, 'read'), unavailable)
  }
})

test('whatever is no clear yes is none', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'lh-'))
  const socketPath = join(dir, 's')
  let said = ''
  const server = createServer((peer) => peer.once('data', () => peer.end(said)))
  server.listen(socketPath)
  await once(server, 'listening')
  const empty = JSON.stringify({ active: true, audience: AUDIENCE, claims: {} })
  // The very words of a yes, under another status.
  const yes = await documented((await issued()).shown)
  assert.equal(yes.status, 200)
  for (const [status, body] of [
    [200, ''],
    [200, '{}'],
    [200, '{"active":1}'],
    [200, '{"active":true}'],
    [200, empty],
    [200, '{"active":false}'],
    [401, '{"active":false,"status":403,"message":"no"}'],
    [401, '{"active":true,"status":401}'],
    [503, '{"active":false,"status":503,"message":"too old"}'],
    [422, '{"error":"bad_call","message":"unknown field"}'],
    [500, 'oops'],
    [201, yes.text],
    [401, yes.text],
    [503, yes.text],
  ] as const) {
    said = `HTTP/1.1 ${String(status)} x\r\ncontent-length: ${String(body.length)}\r\n\r\n${body}`
    const asked = new Sidecar({ audience: AUDIENCE, socketPath })
    const shown = { token: 'a.b.c', certificate: undefined }
    await assert.rejects(asked.verifyActive(shown, 'read'), VerifierUnavailableError, body)
    await assert.rejects(asked.admit(shown, 'read'), VerifierUnavailableError, body)
  }
  server.removeAllListeners('connection')
  server.on('connection', (peer) => peer.resume())
  const silent = new Sidecar({ audience: AUDIENCE, socketPath, timeoutMs: 50 })
  await assert.rejects(silent.verify({ token: 'a.b.c', certificate: undefined }, 'read'), {
    name: 'VerifierUnavailableError',
    message: /does not answer/,
  })
  const closed = once(server, 'close')
  server.close()
  await closed
  rmSync(dir, { recursive: true })
})

test('a sidecar that stops leaves what runs without news', async () => {
  const { shown } = await issued()
  const mine = await start(broker)
  const asked = new Sidecar({ audience: AUDIENCE, socketPath: mine.socketPath })
  const admission = await asked.admit(shown, 'read')
  await stop(mine, 'SIGKILL')
  assert.equal(await admission.revoked, undefined)
})

test('the call is as it is documented', async () => {
  const { task, shown } = await issued()
  const { status, text } = await documented(shown)
  const said = JSON.parse(text) as Record<string, unknown>
  assert.deepEqual([status, said['active'], said['task']], [200, true, task.id])
  assert.deepEqual(said['path'], [{ task: task.id, epoch: 1 }])
})

function documented({ token = '', certificate = Buffer.alloc(0) }: Presented) {
  return call(running.socketPath, 'POST', '/v1/verify', {
    authorization: `Bearer ${token}`,
    certificate_sha256: createHash('sha256').update(certificate).digest('base64url'),
    actions: ['read'],
  })
}
