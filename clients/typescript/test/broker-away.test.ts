import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { after, before, test } from 'node:test'

import { type BeginOptions, UnavailableError } from '../src/index.js'
import { AUDIENCE, Broker, SUMMARIZER } from './support/broker.js'
import { eventually } from './support/eventually.js'

const WORK: BeginOptions = {
  agent: SUMMARIZER,
  tier: 'quick',
  grant: { [AUDIENCE]: ['read'] },
  duration: '30m',
}

let broker: Broker

before(async () => {
  broker = await Broker.start()
})

after(() => broker.remove())

test('where nobody listens, that is what is said', async () => {
  const client = broker.client({ ...broker.way('orchestrator'), address: 'https://127.0.0.1:1' })
  await assert.rejects(client.begin(WORK), (error) => {
    assert.ok(error instanceof UnavailableError)
    assert.equal(error.reason, 'BROKER_UNREACHABLE')
    assert.match(error.message, /nothing listens there; start the broker with `leasehold serve`/)
    assert.match(error.requestId ?? '', /^[0-9a-f-]{36}$/)
    return true
  })
})

test('a wait that is longer than the time that is left is not begun', async (context) => {
  context.mock.method(Math, 'random', () => 0.999)
  const address = 'https://127.0.0.1:1'
  const client = broker.client({ ...broker.way('orchestrator'), address, timeoutMs: 3_000 })
  const began = performance.now()
  // After waits of half a second and a whole one, the next would be of two.
  await assert.rejects(client.begin(WORK), { reason: 'BROKER_UNREACHABLE' })
  assert.ok(performance.now() - began < 3_000)
})

test('a call that waits for its next try can be given up', async (context) => {
  context.mock.method(Math, 'random', () => 0.999)
  const address = 'https://127.0.0.1:1'
  const client = broker.client({ ...broker.way('orchestrator'), address, timeoutMs: 60_000 })
  const giveUp = new AbortController()
  const began = performance.now()
  const call = client.begin({ ...WORK, signal: giveUp.signal })
  setTimeout(() => {
    giveUp.abort(new Error('enough'))
  }, 600)
  // In the middle of a wait of a whole second.
  await assert.rejects(call, { message: 'enough' })
  assert.ok(performance.now() - began < 1_400)
})

test('who does not answer is waited for no longer than was said', async () => {
  const silent = createServer().listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const { port } = silent.address() as AddressInfo
  const address = `https://127.0.0.1:${String(port)}`
  const client = broker.client({ ...broker.way('orchestrator'), address, timeoutMs: 300 })
  const began = performance.now()
  await assert.rejects(client.begin(WORK), {
    name: 'UnavailableError',
    reason: 'DEADLINE_EXCEEDED',
  })
  assert.ok(performance.now() - began < 5_000)
  const enough = client.begin({ ...WORK, signal: AbortSignal.abort(new Error('enough')) })
  await assert.rejects(enough, /enough/)
  silent.close()
})

test('a broker that comes back in time is not missed', async () => {
  const client = broker.client({ ...broker.way('orchestrator'), timeoutMs: 60_000 })
  const requestId = '7d444840-9dc0-41d1-9245-5ffdce74fad2'
  const before = await client.begin({ ...WORK, requestId })
  await broker.stop()
  const call = client.begin({ ...WORK, requestId })
  await broker.start()
  assert.equal((await call).id, before.id)
})

test('a credential outlives its broker until its end, and goes on when that is back', async () => {
  const task = await broker.as('orchestrator').begin(WORK)
  const agent = broker.client({ ...broker.way('summarizer'), timeoutMs: 1_000 }).task(task.id)
  const credential = await agent.credential({ audience: AUDIENCE })
  await broker.stop()
  const first = await credential.token()
  assert.ok(first)
  const error = await eventually('it ends', () =>
    credential
      .token()
      .then(() => undefined)
      .catch((error: unknown) => error),
  )
  assert.ok(error instanceof UnavailableError)
  assert.equal(credential.signal.aborted, false)
  await broker.start()
  // By itself: nobody asks for it meanwhile.
  const end = credential.expiresAt.getTime()
  await eventually('it goes on', () => credential.expiresAt.getTime() > end)
  assert.notEqual(await credential.token(), first)
})

test('work that ended its task and then throws says only that', async () => {
  const client = broker.client({ ...broker.way('orchestrator'), timeoutMs: 500 })
  const fault = new Error('the work')
  const work = client.withTask(WORK, async (task) => {
    await task.complete()
    await broker.stop()
    throw fault
  })
  await assert.rejects(work, (error) => error === fault)
  await broker.start()
})

test('work whose task cannot be ended says both', async () => {
  const client = broker.client({ ...broker.way('orchestrator'), timeoutMs: 500 })
  const fault = new Error('the work')
  const work = client.withTask(WORK, async () => {
    await broker.stop()
    throw fault
  })
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof AggregateError)
    assert.equal(error.errors[0], fault)
    assert.ok(error.errors[1] instanceof UnavailableError)
    return true
  })
  await broker.start()
})
