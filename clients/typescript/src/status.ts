// From a failed call to an error: what the broker says in `grpc-status-details-bin`, or why there was no broker to say it.

import { Code, ConnectError } from '@connectrpc/connect'

import { diagnose } from './diagnosis.js'
import { errorOf, LeaseholdError } from './errors.js'
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  RetryInfoSchema,
} from './gen/google/rpc/error_details_pb.js'

const DOMAIN = 'leasehold'

/** The error of a call. `requestId` is that of one which changes something. */
export function fromFailure(failure: unknown, address: string, requestId?: string): LeaseholdError {
  if (failure instanceof LeaseholdError) return failure
  const status = ConnectError.from(failure)
  const info = status.findDetails(ErrorInfoSchema).find((info) => info.domain === DOMAIN)
  if (info === undefined) return withoutDetails(status, address, requestId)
  const fields = status.findDetails(BadRequestSchema).flatMap((bad) => bad.fieldViolations)
  const delay = status.findDetails(RetryInfoSchema)[0]?.retryDelay
  return errorOf({
    reason: info.reason,
    code: codeName(status.code),
    message: status.rawMessage,
    fieldViolations: fields.map(({ field, description }) => ({ field, description })),
    retryDelayMs: delay && Number(delay.seconds) * 1_000 + delay.nanos / 1_000_000,
    requestId,
    currentEpoch: currentEpoch(status),
    dpopNonce: info.metadata['nonce'],
  })
}

/** No broker has spoken: the connection failed, time ran out, or something in between answered. */
function withoutDetails(status: ConnectError, address: string, requestId?: string): LeaseholdError {
  const code = codeName(status.code)
  if (status.code === Code.DeadlineExceeded) {
    const message = `\`${address}\` did not answer in time`
    return errorOf({ reason: 'DEADLINE_EXCEEDED', code, message, requestId })
  }
  const { reason, problem, remedy } = diagnose(status, address)
  // What the problem is leaves open what to do; so the message says it.
  const message = `${problem}; ${remedy}`
  return errorOf({ reason, code, message, remedy, requestId, cause: status })
}

function currentEpoch(status: ConnectError): number | undefined {
  const violations = status
    .findDetails(PreconditionFailureSchema)
    .flatMap((failure) => failure.violations)
  const subject = violations.find((violation) => violation.type === 'EPOCH')?.subject
  const [, epoch] = /^epoch:(\d{1,15})$/.exec(subject ?? '') ?? []
  return epoch === undefined ? undefined : Number(epoch)
}

/** gRPC's own spelling: `FailedPrecondition` is `FAILED_PRECONDITION`. */
function codeName(code: Code): string {
  if (code === Code.Canceled) return 'CANCELLED'
  return Code[code].replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase()
}
