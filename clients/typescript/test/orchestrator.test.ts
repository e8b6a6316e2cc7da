import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'

import {
  type BeginOptions,
  Client,
  DeniedError,
  EpochStaleError,
  NotFoundError,
  RequestError,
  TaskEndedError,
} from '../src/index.js'
import { AUDIENCE, Broker, RESEARCHER, SUMMARIZER } from './support/broker.js'
import { eventually } from './support/eventually.js'

const WORK: BeginOptions = {
  agent: SUMMARIZER,
  tier: 'standard',
  grant: { [AUDIENCE]: ['read', 'annotate'] },
  duration: '30m',
  purpose: 'Summarize the report',
  labels: { team: 'docs' },
  step: 'draft',
}

let broker: Broker
let orchestrator: Client

before(async () => {
  broker = await Broker.start()
  orchestrator = broker.as('orchestrator')
})

after(() => broker.remove())

test('a task is begun, changed, suspended, resumed and completed', async () => {
  const task = await orchestrator.begin(WORK)
  assert.match(task.id, /^tsk_/)
  assert.equal(task.info?.state, 'active')
  assert.equal(task.info.epoch, 1)
  assert.equal(task.info.purpose, WORK.purpose)
  assert.deepEqual(task.info.labels, WORK.labels)
  assert.deepEqual(task.info.grant[0]?.actions, ['annotate', 'read'])
  const minutes = (task.info.deadline.getTime() - task.info.beginTime.getTime()) / 60_000
  assert.equal(Math.round(minutes), 30)
  const narrowed = await task.advance({ grant: { [AUDIENCE]: ['read'] }, step: 'review' })
  assert.equal(narrowed.task.epoch, 2)
  assert.equal(narrowed.task.step, 'review')
  assert.ok(narrowed.recordedAt >= task.info.beginTime)
  assert.equal((await task.suspend({ reason: 'wait' })).task.state, 'suspended')
  assert.equal((await task.resume()).state, 'active')
  task.signal.throwIfAborted()
  const { task: done } = await task.complete({ reason: 'it is written' })
  assert.deepEqual([done.state, done.reason], ['completed', 'it is written'])
  assert.ok(done.endTime)
  assert.throws(() => {
    task.signal.throwIfAborted()
  }, TaskEndedError)
})

test('a task fails, another is cancelled, and neither ends twice in another way', async () => {
  const [failed, cancelled] = await Promise.all([
    orchestrator.begin(WORK),
    orchestrator.begin(WORK),
  ])
  assert.equal((await failed.fail({ reason: 'no' })).task.state, 'failed')
  assert.equal((await cancelled.cancel()).task.state, 'cancelled')
  await assert.rejects(failed.complete(), (error) => error instanceof TaskEndedError)
})

test('of two who change a task the one that looked too early is told the epoch', async () => {
  const task = await orchestrator.begin(WORK)
  const other = orchestrator.task(task.id)
  await assert.rejects(other.advance({ step: 'x' }), (error) => error instanceof RequestError)
  await other.refresh()
  await task.advance({ step: 'a' })
  await assert.rejects(
    other.advance({ step: 'b' }),
    (error) => error instanceof EpochStaleError && error.currentEpoch === 2,
  )
  await other.refresh()
  assert.equal((await other.advance({ step: 'b' })).task.epoch, 3)
})

test('the same request id begins one task', async () => {
  const requestId = randomUUID()
  const first = await orchestrator.begin({ ...WORK, requestId })
  const again = await orchestrator.begin({ ...WORK, requestId })
  assert.equal(again.id, first.id)
  await assert.rejects(orchestrator.begin({ ...WORK, requestId, step: 'other' }), {
    reason: 'REQUEST_ID_REUSED',
  })
})

test('a child has no more than its parent and ends with it', async () => {
  const task = await orchestrator.begin(WORK)
  const agent = broker.as('summarizer').task(task.id)
  await agent.refresh()
  const grant = { [AUDIENCE]: ['read'] }
  const child = await agent.delegate({ agent: RESEARCHER, grant, duration: '5m' })
  assert.deepEqual([child.info?.parentId, child.info?.depth], [task.id, 1])
  await assert.rejects(
    agent.delegate({ agent: RESEARCHER, grant: { [AUDIENCE]: ['delete'] } }),
    (error) => error instanceof DeniedError && error.reason === 'GRANT_WIDENS',
  )
  await task.complete()
  const { state, causeId } = await orchestrator.task(child.id).refresh()
  assert.deepEqual([state, causeId], ['cancelled', task.id])
})

test('tasks are listed through all pages, by state', async () => {
  const begun = await Promise.all(Array.from({ length: 105 }, () => orchestrator.begin(WORK)))
  const ended = await orchestrator.begin(WORK)
  await ended.complete()
  const listed = new Set<string>()
  for await (const task of orchestrator.list({ state: 'active' })) listed.add(task.id)
  assert.ok(begun.every((task) => listed.has(task.id)))
  assert.equal(listed.has(ended.id), false)
})

test('what is wrong with a request is told by field', async () => {
  await assert.rejects(
    orchestrator.begin({ ...WORK, purpose: 'x'.repeat(1_025) }),
    (error) => error instanceof RequestError && error.fieldViolations[0]?.field === 'purpose',
  )
  await assert.rejects(
    orchestrator.begin({ ...WORK, grant: { [AUDIENCE]: [] } }),
    (error) => error instanceof RequestError && error.reason === 'AUTHORIZATION_DETAILS_INVALID',
  )
})

test('who may not is denied, and what is not there is not found', async () => {
  await assert.rejects(
    broker.as('summarizer').begin(WORK),
    (error) => error instanceof DeniedError && error.reason === 'ROLE_MISSING',
  )
  await assert.rejects(
    orchestrator.get('tsk_0000000000000000000000000000'),
    (error) => error instanceof NotFoundError,
  )
})

test('work that is done completes its task, and work that throws fails it with the class alone', async () => {
  let id = ''
  const result = await orchestrator.withTask(WORK, (task) => {
    id = task.id
    return 7
  })
  assert.equal(result, 7)
  assert.equal((await orchestrator.get(id)).state, 'completed')
  const fault = new TypeError('the secret is 42')
  const work = orchestrator.withTask(WORK, (task) => {
    id = task.id
    throw fault
  })
  await assert.rejects(work, (error) => error === fault)
  const { state, reason } = await orchestrator.task(id).refresh()
  assert.deepEqual([state, reason], ['failed', 'TypeError'])
})

test('work whose task somebody else ended does not pass for done', async () => {
  const work = orchestrator.withTask(WORK, async (task) => {
    await broker.cli('operator', 'revoke', 'task', task.id)
  })
  await assert.rejects(work, (error) => error instanceof TaskEndedError)
  const known = orchestrator.withTask(WORK, async (task) => {
    await broker.cli('operator', 'revoke', 'task', task.id)
    assert.equal((await task.refresh()).state, 'revoked')
  })
  await assert.rejects(known, (error) => error instanceof TaskEndedError)
  const own = orchestrator.withTask(WORK, (task) => task.cancel({ reason: 'not needed' }))
  assert.equal((await own).task.state, 'cancelled')
})

test('work that throws because its task has ended says why', async () => {
  const work = orchestrator.withTask(WORK, async (task) => {
    await broker.cli('operator', 'revoke', 'task', task.id)
    await task.advance({ step: 'next' })
  })
  await assert.rejects(work, { reason: 'TASK_ENDED' })
})

test('a task that is left is cancelled, and one that was completed is not', async () => {
  let left = ''
  let done = ''
  {
    await using task = await orchestrator.begin(WORK)
    await using completed = await orchestrator.begin(WORK)
    await completed.complete()
    left = task.id
    done = completed.id
    {
      // What was only looked at is not ended.
      await using looked = await orchestrator.get(task.id)
      assert.equal(looked.state, 'active')
    }
    assert.equal((await task.refresh()).state, 'active')
  }
  assert.equal((await orchestrator.get(left)).state, 'cancelled')
  assert.equal((await orchestrator.get(done)).state, 'completed')
})

test('heartbeats keep a task alive that would otherwise be suspended', async () => {
  const heartbeatInterval = '1s'
  const silent = await orchestrator.begin({ ...WORK, heartbeatInterval })
  await orchestrator.withTask({ ...WORK, heartbeatInterval }, async (task) => {
    await eventually(
      'the silent task is suspended',
      async () => (await silent.refresh()).state === 'suspended',
    )
    assert.equal((await task.refresh()).state, 'active')
  })
})

test('heartbeats learn that a task is over and stop', async () => {
  const task = await orchestrator.begin({ ...WORK, heartbeatInterval: '1s' })
  using _beats = task.heartbeats('1s')
  await broker.cli('operator', 'revoke', 'task', task.id)
  await eventually('the signal aborts', () => task.signal.aborted)
  assert.ok(task.signal.reason instanceof TaskEndedError)
})

test('what is left out comes from the environment, by the names of the command line', async () => {
  const { address, ca, identity } = broker.way('orchestrator')
  const names = {
    LEASEHOLD_BROKER: address,
    LEASEHOLD_CA: ca,
    LEASEHOLD_CERT: identity.cert,
    LEASEHOLD_KEY: identity.key,
  }
  try {
    assert.throws(() => new Client(), { name: 'RequestError', message: /LEASEHOLD_CERT/ })
    Object.assign(process.env, names)
    using client = new Client()
    assert.equal((await client.begin(WORK)).state, 'active')
    process.env['LEASEHOLD_TOKEN_FILE'] = 'x'
    assert.throws(() => new Client(), { name: 'RequestError', message: /not both/ })
    using given = new Client({ identity })
    assert.equal(given.address, address)
  } finally {
    for (const name of [...Object.keys(names), 'LEASEHOLD_TOKEN_FILE'])
      Reflect.deleteProperty(process.env, name)
  }
})
