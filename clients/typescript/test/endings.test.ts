// Whoever ends something is told how far that is: who might still accept its credentials, and until when.

import assert from 'node:assert/strict'
import { type ChildProcess } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'

import {
  type BeginOptions,
  type Changed,
  type Client,
  type EndOptions,
  RequestError,
  Sidecar,
  type Task,
} from '../src/index.js'
import { AUDIENCE, Broker, SUMMARIZER } from './support/broker.js'
import { eventually } from './support/eventually.js'
import { type Running, start, stop } from './support/sidecar.js'

const DOCUMENTS = 'spiffe://dev.example/api/documents'
const WORK: BeginOptions = {
  agent: SUMMARIZER,
  tier: 'calm',
  grant: { [AUDIENCE]: ['read'] },
  duration: '10m',
}
/** Long for whoever lives, and less than the tier's `freshness`. */
const SOON = { waitTimeout: '500ms' } as const
const FRESHNESS_MS = 10_000

type Verb = (task: Task, options: EndOptions) => Promise<Changed>
const VERBS: readonly Verb[] = [
  (task, options) => task.advance({ step: 'next', ...options }),
  (task, options) => task.suspend(options),
  (task, options) => task.complete(options),
  (task, options) => task.fail(options),
  (task, options) => task.cancel(options),
]

let broker: Broker
let orchestrator: Client
let running: Running

before(async () => {
  broker = await Broker.start('', { patient: true })
  orchestrator = broker.as('orchestrator')
  running = await start(broker)
  await settled()
})

after(async () => {
  await stop(running)
  await broker.remove()
})

/** The broker knows who follows it, and nobody else counts. */
async function settled(): Promise<void> {
  const isFenced = async () => (await (await begin()).complete(SOON)).fencedAt !== undefined
  await eventually('endings are known by acknowledgement', isFenced)
}

const begin = () => orchestrator.begin(WORK)

/** Meanwhile it does nothing, and its connections stay. */
async function halted(process: ChildProcess, what: () => Promise<void>): Promise<void> {
  process.kill('SIGSTOP')
  try {
    // The kernel's letter for it, behind a name in brackets.
    const stat = () =>
      readFileSync(`/proc/${String(process.pid)}/stat`, 'utf8')
        .split(') ')
        .at(-1)
    await eventually('it is halted', () => stat()?.startsWith('T'))
    await what()
  } finally {
    process.kill('SIGCONT')
  }
}

test('a verifier that lives is waited for, and then nobody is missing', async () => {
  for (const verb of VERBS) {
    const task = await begin()
    const { task: info, ...told } = await verb(task, { waitTimeout: '5s' })
    assert.deepEqual([task.info, task.revocation], [info, told])
    assert.deepEqual([told.enforcement, told.drainedAt, told.pending], ['fenced', undefined, []])
    assert.ok(told.fencedAt && told.fencedAtLatest)
    assert.ok(told.recordedAt <= told.fencedAt && told.fencedAt < told.fencedAtLatest)
  }
})

test('one that is halted is named, with the time until which it might accept', async () => {
  const tasks = await Promise.all(VERBS.map(begin))
  await halted(running.process, async () => {
    for (const [n, task] of tasks.entries()) {
      const told = await VERBS[n]?.(task, SOON)
      assert.deepEqual([told?.enforcement, told?.fencedAt], ['recorded', undefined])
      const [missing, ...others] = told?.pending ?? []
      assert.ok(told && missing)
      assert.equal(others.length, 0)
      assert.equal(missing.name, DOCUMENTS)
      assert.ok(missing.instance && missing.broker)
      const left = missing.mayAcceptUntil.getTime() - told.recordedAt.getTime()
      assert.ok(left >= FRESHNESS_MS && left <= 1.05 * FRESHNESS_MS, String(left))
      assert.ok(told.fencedAtLatest && told.fencedAtLatest >= missing.mayAcceptUntil)
    }
  })
  // Asked again, how far it is now.
  const now = await tasks[2]?.complete()
  assert.deepEqual([now?.enforcement, now?.pending], ['fenced', []])
})

test('who does not say for how long waits until it is certain, whatever calls may take', async () => {
  const hasty = broker.client({ ...broker.way('orchestrator'), timeoutMs: 500 })
  const task = await hasty.begin({ ...WORK, tier: 'open' })
  await halted(running.process, async () => {
    const { fencedAt, recordedAt } = await task.complete()
    assert.ok(fencedAt && fencedAt.getTime() - recordedAt.getTime() >= 1_000)
  })
})

test('whoever waits for nobody is told by when it is certain', async () => {
  const told = await (await begin()).complete({ waitFor: 'recorded' })
  assert.deepEqual([told.enforcement, told.fencedAt, told.pending], ['recorded', undefined, []])
  assert.ok(told.fencedAtLatest && told.fencedAtLatest > told.recordedAt)
})

test('drained is once nothing runs any more, and never where a verifier is gone', async () => {
  const [task, other] = [await begin(), await begin()]
  const credential = await broker.as('summarizer').task(task.id).credential({ audience: AUDIENCE })
  const { token, cert } = await credential.tokenWithKey()
  assert.ok(cert)
  const sidecar = new Sidecar({ audience: AUDIENCE, socketPath: running.socketPath })
  const shown = { token, certificate: new X509Certificate(cert).raw }
  const admission = await sidecar.admit(shown, 'read')
  const early = await task.complete({ waitFor: 'drained', ...SOON })
  assert.deepEqual([early.enforcement, early.drainedAt], ['fenced', undefined])
  assert.deepEqual([early.undrained, early.drainUnknown], [[DOCUMENTS], []])
  admission.close()
  const late = await task.complete({ waitFor: 'drained' })
  assert.deepEqual([late.enforcement, late.undrained], ['drained', []])
  assert.ok(late.drainedAt)
  const gone = await start(broker)
  await stop(gone, 'SIGKILL')
  const told = await other.complete({ waitFor: 'drained', waitTimeout: '40s' })
  assert.ok(told.fencedAt)
  assert.deepEqual([told.drainedAt, told.drainUnknown], [undefined, [DOCUMENTS]])
  await settled()
})

test('work that is done or throws waits as it was told to', async () => {
  const tasks: Task[] = []
  const fault = new Error('the work')
  await halted(running.process, async () => {
    await orchestrator.withTask({ ...WORK, ...SOON }, (task) => tasks.push(task))
    const failing = orchestrator.withTask({ ...WORK, ...SOON }, (task) => {
      tasks.push(task)
      throw fault
    })
    await assert.rejects(failing, (error) => error === fault)
  })
  for (const [n, state] of ['completed', 'failed'].entries()) {
    assert.equal(tasks[n]?.state, state)
    assert.deepEqual(
      tasks[n].revocation?.pending.map(({ name }) => name),
      [DOCUMENTS],
    )
  }
})

test('a wait that makes no sense is refused by name, and nothing is done', async () => {
  const task = await begin()
  for (const [wait, field] of [
    [{ waitTimeout: '61s' }, 'wait_timeout'],
    [{ waitTimeout: '0s' }, 'wait_timeout'],
    [{ waitTimeout: 'soon' }, 'waitTimeout'],
    [{ waitFor: 'soon' }, 'waitFor'],
  ] as const) {
    const wrong = wait as unknown as EndOptions
    await assert.rejects(task.complete(wrong), (error) => {
      assert.ok(error instanceof RequestError)
      assert.equal(error.fieldViolations[0]?.field, field)
      return true
    })
    if (field === 'waitFor') {
      const work = orchestrator.withTask({ ...WORK, waitFor: wrong.waitFor }, () => {
        assert.fail('it was begun')
      })
      await assert.rejects(work, RequestError)
    }
  }
  assert.equal((await task.refresh()).state, 'active')
})
