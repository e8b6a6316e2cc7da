import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Budget } from '../src/budget.js'
import { Heartbeats } from '../src/heartbeats.js'
import { renewInMs, retryInMs } from '../src/schedule.js'

test('renewal is due at two thirds of a life, or up to a tenth of it earlier', () => {
  const life = { lifeMs: 300_000, extensible: true }
  assert.equal(Math.round(renewInMs(life, 0)), 200_000)
  assert.equal(Math.round(renewInMs(life, 0.5)), 185_000)
  assert.ok(renewInMs(life, 0.999_999) > 170_000)
})

test('what cannot live longer is not asked for again before its end', () => {
  assert.equal(renewInMs({ lifeMs: 300_000, extensible: false }, 0.5), 300_000)
})

test('no life is so short that renewing becomes a loop, and none so long that a timer fires at once', () => {
  assert.equal(renewInMs({ lifeMs: 1, extensible: true }, 0), 250)
  assert.equal(renewInMs({ lifeMs: Number.MAX_SAFE_INTEGER, extensible: true }, 0), 2 ** 31 - 1)
})

test('waits double up to half a minute, and half of each is left to chance', () => {
  assert.deepEqual(
    [1, 2, 3, 7, 8, 1_000].map((n) => retryInMs(n, 1)),
    [500, 1_000, 2_000, 30_000, 30_000, 30_000],
  )
  assert.equal(retryInMs(1, 0), 250)
  assert.equal(retryInMs(0, 0), 250)
})

test('never sooner than the broker asks, and never longer than a timer takes', () => {
  assert.equal(retryInMs(1, 0, 1_500), 1_500)
  assert.equal(retryInMs(8, 1, 1_500), 30_000)
  assert.equal(retryInMs(1, 0, Number.POSITIVE_INFINITY), 2 ** 31 - 1)
})

test('a budget is spent and refills', async (context) => {
  context.mock.method(performance, 'now', () => now)
  let now = 0
  const budget = new Budget(2, 1_000)
  assert.deepEqual([budget.take(), budget.take(), budget.take()], [true, true, false])
  now += 1_000
  assert.deepEqual([budget.take(), budget.take()], [true, false])
  now += 60_000
  assert.deepEqual([budget.take(), budget.take(), budget.take()], [true, true, false])
  await Promise.resolve()
})

test('heartbeats come before each interval is over, until they are disposed of', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  let beats = 0
  const sent = Promise.resolve()
  {
    using _beats = new Heartbeats(
      1_000,
      () => {
        beats += 1
        return sent
      },
      () => true,
    )
    context.mock.timers.tick(999)
    assert.equal(beats, 1)
  }
  context.mock.timers.tick(10_000)
  assert.equal(beats, 1)
})
