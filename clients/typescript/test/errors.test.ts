import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

import { create } from '@bufbuild/protobuf'
import { DurationSchema } from '@bufbuild/protobuf/wkt'
import { Code, ConnectError } from '@connectrpc/connect'

import { REASONS } from '../src/errors.js'
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  RetryInfoSchema,
} from '../src/gen/google/rpc/error_details_pb.js'
import {
  EpochStaleError,
  IdentityError,
  LeaseholdError,
  RequestError,
  TaskEndedError,
  TaskStateError,
  UnavailableError,
} from '../src/index.js'
import { fromFailure } from '../src/status.js'

const ADDRESS = 'https://127.0.0.1:7700'

type Detail = NonNullable<ConstructorParameters<typeof ConnectError>[3]>[number]

function because(reason: string, domain = 'leasehold'): Detail {
  return { desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason, domain }) }
}

/** As it comes from the wire. */
function status(message: string, code: Code, ...details: Detail[]): ConnectError {
  const error = new ConnectError(message, code, undefined, details)
  return error
}

/** The package's folder; tests run from build/test/. */
const HOME = fileURLToPath(new URL('../..', import.meta.url))

test('every reason of the broker has a class, a remedy, and a line in the README', () => {
  const read = (path: string) => readFileSync(join(HOME, '..', '..', 'src', path), 'utf8')
  const refusals = read('domain/refusal.rs').matchAll(/=> "([A-Z_]+)"/g)
  const answers = read('grpc/status.rs').matchAll(/Code::\w+, "([A-Z_]+)"/g)
  const reasons = new Set([...refusals, ...answers].map(([, reason = '']) => reason))
  assert.ok(reasons.size > 20)
  const readme = readFileSync(join(HOME, 'README.md'), 'utf8')
  for (const reason of [...reasons, ...REASONS.keys()]) {
    const [kind, remedy = ''] = REASONS.get(reason) ?? []
    assert.match(remedy, /\w/, `${reason} has no remedy`)
    const row = new RegExp(`^\\| \`${kind?.name ?? ''}\`.*\`${reason}\``, 'm')
    assert.match(readme, row, `${reason} is not in the README's row of its class`)
  }
})

test('a refusal carries message, reason, code and fields', () => {
  const fieldViolations = [{ field: 'tier', description: 'is no tier; there are `standard`' }]
  const bad = { desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations }) }
  const error = fromFailure(
    status('`tier`: is no tier', Code.InvalidArgument, because('REQUEST_INVALID'), bad),
    ADDRESS,
    'id',
  )
  assert.ok(error instanceof RequestError)
  assert.equal(error.message, '`tier`: is no tier')
  assert.equal(error.reason, 'REQUEST_INVALID')
  assert.equal(error.code, 'INVALID_ARGUMENT')
  assert.equal(error.requestId, 'id')
  assert.deepEqual(error.fieldViolations, fieldViolations)
})

test('when to try again is told in milliseconds', () => {
  const retryDelay = create(DurationSchema, { seconds: 1n, nanos: 500_000_000 })
  const retry = { desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay }) }
  const error = fromFailure(
    status('away', Code.Unavailable, because('NOT_DURABLE'), retry),
    ADDRESS,
  )
  assert.ok(error instanceof UnavailableError)
  assert.equal(error.retryDelayMs, 1_500)
})

test('a stale epoch says which epoch it is', () => {
  const violations = [{ type: 'EPOCH', subject: 'epoch:7' }]
  const value = create(PreconditionFailureSchema, { violations })
  const failure = { desc: PreconditionFailureSchema, value }
  const error = fromFailure(
    status('stale', Code.FailedPrecondition, because('EPOCH_STALE'), failure),
    ADDRESS,
  )
  assert.ok(error instanceof EpochStaleError && error instanceof TaskStateError)
  assert.equal(error.currentEpoch, 7)
})

test('an ended task is a state of tasks, and a reason that is not known yet is an error all the same', () => {
  const ended = fromFailure(status('', Code.FailedPrecondition, because('TASK_ENDED')), ADDRESS)
  assert.ok(ended instanceof TaskEndedError && ended instanceof TaskStateError)
  const later = fromFailure(status('', Code.FailedPrecondition, because('MADE_UP_LATER')), ADDRESS)
  assert.equal(later.constructor, LeaseholdError)
  assert.equal(later.reason, 'MADE_UP_LATER')
  for (const error of [ended, later]) assert.match(error.remedy, /\w/)
})

test('a reason in the name of somebody else is none of the broker', () => {
  const error = fromFailure(status('', Code.Unavailable, because('TASK_ENDED', 'proxy')), ADDRESS)
  assert.equal(error.reason, 'BROKER_UNREACHABLE')
})

test('what failed on the way says what to change', () => {
  const caused = (code: string) =>
    fromFailure(new Error('outer', { cause: Object.assign(new Error(code), { code }) }), ADDRESS)
  assert.match(caused('ECONNREFUSED').message, /nothing listens there; start the broker/)
  assert.equal(caused('SELF_SIGNED_CERT_IN_CHAIN').reason, 'BROKER_UNTRUSTED')
  assert.match(caused('SELF_SIGNED_CERT_IN_CHAIN').message, /`ca`/)
  assert.match(caused('ERR_TLS_CERT_ALTNAME_INVALID').message, /`address`/)
  const alert = caused('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED')
  assert.ok(alert instanceof IdentityError)
  assert.match(alert.message, /asks for a client certificate/)
  assert.equal(caused('ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED').reason, 'IDENTITY_UNVERIFIED')
  const either = new AggregateError([Object.assign(new Error('no'), { code: 'ECONNREFUSED' })])
  assert.match(fromFailure(either, ADDRESS).message, /nothing listens/)
  assert.equal(fromFailure('odd', ADDRESS).reason, 'BROKER_UNREACHABLE')
})

test('time that ran out says how to repeat a change', () => {
  const error = fromFailure(new ConnectError('late', Code.DeadlineExceeded), ADDRESS, 'id')
  assert.equal(error.reason, 'DEADLINE_EXCEEDED')
  assert.match(error.remedy, /same `requestId`/)
  assert.equal(error.requestId, 'id')
})
