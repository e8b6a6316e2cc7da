// Whoever watches a task hears of every change and of its end, also across brokers that stop.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'

import {
  type BeginOptions,
  type Client,
  LeaseholdError,
  NotFoundError,
  TaskEndedError,
  type TaskInfo,
  UnavailableError,
} from '../src/index.js'
import { errorOf } from '../src/errors.js'
import { Watching } from '../src/watching.js'
import { replace } from './support/authority.js'
import { AUDIENCE, Broker, RESEARCHER, SUMMARIZER } from './support/broker.js'
import { eventually } from './support/eventually.js'

const WORK: BeginOptions = {
  agent: SUMMARIZER,
  tier: 'open',
  grant: { [AUDIENCE]: ['read'] },
  duration: '30m',
}

let broker: Broker
let orchestrator: Client
let agent: Client

before(async () => {
  broker = await Broker.start()
  orchestrator = broker.as('orchestrator')
  agent = broker.as('summarizer')
})

after(() => broker.remove())

/** The next thing that is told. */
async function next(told: AsyncGenerator<TaskInfo, void, undefined>): Promise<TaskInfo> {
  const { value } = await told.next()
  assert.ok(value, 'nothing more is told')
  return value
}

test('the first thing told is how it is, then each change, and the end last', async () => {
  const task = await orchestrator.begin({ ...WORK, heartbeatInterval: '1m' })
  const mine = agent.task(task.id)
  const told = mine.watch()
  assert.deepEqual(await next(told), task.info)
  await task.heartbeat()
  await task.advance({ step: 'review' })
  const changed = await next(told)
  assert.deepEqual([changed.epoch, changed.step], [2, 'review'])
  assert.equal(mine.info, changed)
  await task.suspend({ reason: 'wait' })
  assert.equal((await next(told)).state, 'suspended')
  await task.resume()
  assert.equal((await next(told)).state, 'active')
  mine.signal.throwIfAborted()
  await task.complete({ reason: 'it is written' })
  const last = await next(told)
  assert.deepEqual([last.state, last.reason], ['completed', 'it is written'])
  assert.deepEqual(await told.next(), { done: true, value: undefined })
  assert.ok(mine.signal.reason instanceof TaskEndedError)
})

test('what ends above is told with its cause, and aborts the signal of whoever follows', async () => {
  const task = await orchestrator.begin(WORK)
  const grant = { [AUDIENCE]: ['read'] }
  const child = await task.delegate({ agent: RESEARCHER, grant })
  const mine = broker.as('researcher').task(child.id)
  using _following = mine.follow()
  const told = mine.watch()
  assert.equal((await next(told)).state, 'active')
  const aborted = once(mine.signal, 'abort')
  await task.complete()
  const { state, causeId } = await next(told)
  assert.deepEqual([state, causeId], ['cancelled', task.id])
  await aborted
  assert.ok(mine.signal.reason instanceof TaskEndedError)
})

test('whoever follows no more is told nothing, and one that may not is told so', async () => {
  const task = await orchestrator.begin(WORK)
  const mine = agent.task(task.id)
  {
    using _following = mine.follow()
    await eventually('it was told', () => mine.info)
  }
  await task.advance({ step: 'two' })
  const stranger = broker.as('researcher').task(task.id)
  using _refused = stranger.follow()
  await eventually('it is refused', () => stranger.signal.aborted)
  assert.ok(stranger.signal.reason instanceof NotFoundError)
  assert.deepEqual([mine.signal.aborted, mine.epoch], [false, 1])
})

test('a watch outlives its broker, and has what was missed', async () => {
  const task = await orchestrator.begin(WORK)
  const heard: string[] = []
  for await (const { state, epoch } of agent.task(task.id).watch()) {
    heard.push(`${state} ${String(epoch)}`)
    if (heard.length === 1) {
      await broker.stop()
      await broker.start()
      await task.advance({ step: 'two' })
    } else if (state === 'active') {
      await task.complete()
    }
  }
  assert.deepEqual(heard, ['active 1', 'active 2', 'completed 2'])
})

test('what cannot be watched is said at once', async () => {
  const task = await orchestrator.begin(WORK)
  await assert.rejects(next(broker.as('researcher').task(task.id).watch()), NotFoundError)
  const address = 'https://127.0.0.1:1'
  const nobody = broker.client({ ...broker.way('summarizer'), address, timeoutMs: 1_000 })
  await assert.rejects(next(nobody.task(task.id).watch()), { reason: 'BROKER_UNREACHABLE' })
})

test('the first answer comes in the time of a call, or none does', async () => {
  const silent = createServer().listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const { port } = silent.address() as AddressInfo
  const address = `https://127.0.0.1:${String(port)}`
  const client = broker.client({ ...broker.way('summarizer'), address, timeoutMs: 300 })
  await assert.rejects(next(client.task('tsk_00').watch()), { reason: 'DEADLINE_EXCEEDED' })
  silent.close()
})

test('given up it ends with the reason, and closed it does not pass for an end', async () => {
  const task = await orchestrator.begin(WORK)
  const client = broker.client(broker.way('summarizer'))
  const giveUp = new AbortController()
  const [given, closed] = [
    client.task(task.id).watch({ signal: giveUp.signal }),
    client.task(task.id).watch(),
  ]
  await Promise.all([next(given), next(closed)])
  const [one, other] = [next(given), next(closed)]
  giveUp.abort(new Error('enough'))
  await assert.rejects(one, /enough/)
  const following = client.task(task.id)
  using _following = following.follow()
  await eventually('it was told', () => following.info)
  client.close()
  await assert.rejects(other, { reason: 'CLOSED' })
  await eventually('nobody tells any more', () => following.signal.aborted)
  assert.match(String(following.signal.reason), /the client was closed/)
})

test('whoever breaks out of the loop watches no more, and its process ends by itself', async () => {
  const task = await orchestrator.begin(WORK)
  const program = `
    import { Client } from ${JSON.stringify(new URL('../src/index.js', import.meta.url).href)}
    const client = new Client(${JSON.stringify(broker.way('summarizer'))})
    for await (const { state } of client.task(${JSON.stringify(task.id)}).watch()) {
      console.log(state)
      break
    }`
  const line = ['--input-type=module', '--eval', program]
  const { stdout } = await promisify(execFile)(process.execPath, line, { timeout: 20_000 })
  assert.equal(stdout, 'active\n')
})

test('a watch goes on with another certificate when the first has expired', async () => {
  const task = await orchestrator.begin(WORK)
  const [cert, key] = [broker.file('short.pem'), broker.file('short.key')]
  const write = async (lifeMs?: number) => {
    const svid = await broker.authority.svid(SUMMARIZER, lifeMs === undefined ? {} : { lifeMs })
    replace(key, svid.key)
    replace(cert, svid.cert)
  }
  await write(2_000)
  const client = broker.client({ ...broker.way('summarizer'), identity: { cert, key } })
  const told = client.task(task.id).watch()
  await next(told)
  await write()
  // Meanwhile the broker ends the watch of whoever is nobody any more.
  const second = next(told)
  const until = new Date((task.info?.beginTime.getTime() ?? 0) + 4_000)
  await eventually('it has expired', () => new Date() > until)
  await task.complete()
  assert.equal((await second).state, 'completed')
})

test('what is lost is waited out once it was told, and what is refused is not', () => {
  const failure = (reason: string, code = 'UNKNOWN', retryDelayMs?: number) =>
    errorOf({ reason, code, message: 'no', retryDelayMs })
  const away = failure('BROKER_UNREACHABLE')
  const first = new Watching(() => undefined)
  assert.throws(() => first.lose(away), UnavailableError)
  assert.equal(new Watching((_, failures) => failures * 7).lose(away), 7)
  const told = new Watching(
    () => undefined,
    () => 1,
  )
  const info = { state: 'active', epoch: 1 } as unknown as TaskInfo
  assert.equal(told.hear(info), true)
  assert.deepEqual(
    [away, away, failure('INTERNAL')].map((error) => told.lose(error)),
    [500, 1_000, 2_000],
  )
  assert.equal(told.hear({ ...info }), false)
  assert.equal(told.lose(failure('RATE_LIMITED', 'RESOURCE_EXHAUSTED', 9_000)), 9_000)
  for (const final of [
    failure('NOT_FOUND'),
    failure('ROLE_MISSING'),
    failure('REQUEST_INVALID'),
    failure('UNIMPLEMENTED', 'UNIMPLEMENTED'),
    failure('IDENTITY_UNVERIFIED'),
  ]) {
    assert.throws(() => told.lose(final), LeaseholdError, final.reason)
  }
  told.hear(info)
  assert.ok(told.lose(failure('IDENTITY_UNVERIFIED')) > 0, 'let in, and no longer')
})
