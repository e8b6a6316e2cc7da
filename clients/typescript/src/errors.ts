// What can go wrong, one class for each kind of answer to it. `reason` is the broker's stable word and the one to branch on
// where a class has several.

/** A field of a request that is not what it must be. */
export interface FieldViolation {
  /** The field's name in the contract. */
  readonly field: string
  /** What is wrong with it, and what would be right. */
  readonly description: string
}

/** What an error knows of itself. */
export interface ErrorFacts {
  /**
   * The broker's stable word, such as `TASK_ENDED`. This package's own are `BROKER_UNREACHABLE`, `BROKER_UNTRUSTED`,
   * `IDENTITY_UNREADABLE` and `CLOSED`.
   */
  readonly reason: string
  /** gRPC's name of the status, such as `FAILED_PRECONDITION`. */
  readonly code: string
  /** What is wrong, in the broker's words. */
  readonly message: string
  /** What to do; default: what goes for the reason. */
  readonly remedy?: string | undefined
  readonly fieldViolations?: readonly FieldViolation[] | undefined
  /** After how many milliseconds it is worth trying again. */
  readonly retryDelayMs?: number | undefined
  /** The id with which the same change can be asked for again and is made once. */
  readonly requestId?: string | undefined
  /** The epoch in which the task is, of `EPOCH_STALE`. */
  readonly currentEpoch?: number | undefined
  /** What the next DPoP proof must have as its `nonce`, of `PROOF_NONCE_REQUIRED`. */
  readonly dpopNonce?: string | undefined
  readonly cause?: unknown
}

/** Every error of the broker, and of the way to it. */
export class LeaseholdError extends Error {
  override name = 'LeaseholdError'
  readonly reason: string
  readonly code: string
  /** What to do. Messages of the broker often say it as well. */
  readonly remedy: string
  readonly fieldViolations: readonly FieldViolation[]
  readonly retryDelayMs: number | undefined
  readonly requestId: string | undefined
  /** What the next DPoP proof must have as its `nonce`, of `PROOF_NONCE_REQUIRED`. */
  readonly dpopNonce: string | undefined

  constructor(facts: ErrorFacts) {
    super(facts.message, facts.cause === undefined ? undefined : { cause: facts.cause })
    this.reason = facts.reason
    this.code = facts.code
    this.remedy = facts.remedy ?? ''
    this.fieldViolations = facts.fieldViolations ?? []
    this.retryDelayMs = facts.retryDelayMs
    this.requestId = facts.requestId
    this.dpopNonce = facts.dpopNonce
  }
}

/** The request itself is wrong; the same one is refused again. */
export class RequestError extends LeaseholdError {
  override name = 'RequestError'

  /** A value that is wrong before anything is sent. */
  static of(field: string, description: string): LeaseholdError {
    const message = `\`${field}\`: ${description}`
    const fieldViolations = [{ field, description }]
    return new RequestError({
      reason: 'REQUEST_INVALID',
      code: 'INVALID_ARGUMENT',
      message,
      fieldViolations,
    })
  }
}

/** Who calls, or who answers, is not proved. */
export class IdentityError extends LeaseholdError {
  override name = 'IdentityError'
}

/** Known, and not allowed. */
export class DeniedError extends LeaseholdError {
  override name = 'DeniedError'
}

/** There is no such thing, or it is not the caller's: the broker does not tell which. */
export class NotFoundError extends LeaseholdError {
  override name = 'NotFoundError'
}

/** The task is not in a state for this: suspended, quarantined, held by another instance. */
export class TaskStateError extends LeaseholdError {
  override name = 'TaskStateError'
}

/** The task, or one above it, has ended. Nothing revives it. */
export class TaskEndedError extends TaskStateError {
  override name = 'TaskEndedError'
}

/** The task changed since the caller looked: get it, and decide again. */
export class EpochStaleError extends TaskStateError {
  override name = 'EpochStaleError'
  /** The epoch in which the task is. */
  readonly currentEpoch: number | undefined

  constructor(facts: ErrorFacts) {
    super(facts)
    this.currentEpoch = facts.currentEpoch
  }
}

/** The lease is over, or too little is left of it. */
export class LeaseError extends LeaseholdError {
  override name = 'LeaseError'
}

/** The broker, its store or the way there is away or has no room. The same call may succeed later. */
export class UnavailableError extends LeaseholdError {
  override name = 'UnavailableError'
}

type ErrorClass = new (facts: ErrorFacts) => LeaseholdError

const AGAIN = 'try again; with the same `requestId` it is done once, however often it is sent'

/** The class and the remedy of every reason. */
export const REASONS: ReadonlyMap<string, readonly [ErrorClass, string]> = new Map<
  string,
  readonly [ErrorClass, string]
>([
  ['REQUEST_INVALID', [RequestError, 'correct the fields in `fieldViolations`']],
  ['AUTHORIZATION_DETAILS_INVALID', [RequestError, 'correct the grant']],
  ['REQUEST_ID_REUSED', [RequestError, 'draw a new UUID for a new request']],
  [
    'IDENTITY_UNVERIFIED',
    [
      IdentityError,
      'show who you are: `identity` with an X.509-SVID (`cert` and `key`) or an OIDC token',
    ],
  ],
  [
    'IDENTITY_UNREADABLE',
    [IdentityError, 'see that the files are there, whole, and yours to read'],
  ],
  [
    'BROKER_UNTRUSTED',
    [IdentityError, "name in `ca` the PEM of the CA that issued the broker's certificate"],
  ],
  ['SUBJECT_TOKEN_INVALID', [IdentityError, 'fetch a new token for the subject']],
  ['ACTOR_TOKEN_INVALID', [IdentityError, 'fetch a new token for the actor']],
  ['PROOF_INVALID', [IdentityError, 'choose another `proof` for the credential']],
  ['PROOF_NONCE_REQUIRED', [IdentityError, 'prove again, with the nonce that the broker sent']],
  ['PROOF_REPLAYED', [IdentityError, 'make a new proof for every request']],
  ['ROLE_MISSING', [DeniedError, 'ask an operator for a `[[roles]]` entry that matches you']],
  ['POLICY_DENIED', [DeniedError, 'ask for less, or ask whoever writes the policy']],
  ['TARGET_NOT_ALLOWED', [DeniedError, 'ask the orchestrator for a grant that names the audience']],
  ['GRANT_WIDENS', [DeniedError, 'ask for no more than the parent has']],
  ['APPROVAL_REQUIRED', [DeniedError, 'ask an approver']],
  ['NOT_FOUND', [NotFoundError, 'check the id, and that it is yours']],
  ['TASK_SUSPENDED', [TaskStateError, 'wait until it is resumed']],
  ['QUARANTINED', [TaskStateError, 'wait until an operator lifts the quarantine']],
  [
    'INSTANCE_MISMATCH',
    [TaskStateError, 'have the task handed over by `advance`, or begun with more `instances`'],
  ],
  ['TASK_ENDED', [TaskEndedError, 'begin another task']],
  ['EPOCH_STALE', [EpochStaleError, 'refresh the task, and decide again']],
  ['LEASE_REVOKED', [LeaseError, 'issue a new credential']],
  ['CEILING_REACHED', [LeaseError, 'have the orchestrator begin a new task']],
  ['TTL_BELOW_MINIMUM', [LeaseError, 'refresh what the message names, and ask again']],
  ['CLOSED', [LeaseError, 'ask the task for another']],
  ['DEPENDENCY_UNAVAILABLE', [UnavailableError, AGAIN]],
  ['NOT_DURABLE', [UnavailableError, AGAIN]],
  ['SIGNING_KEY_QUARANTINED', [UnavailableError, AGAIN]],
  ['PARTITION_CLOSED', [UnavailableError, AGAIN]],
  ['INCARNATION_UNKNOWN', [UnavailableError, AGAIN]],
  ['RATE_LIMITED', [UnavailableError, AGAIN]],
  ['FELL_BEHIND', [UnavailableError, 'subscribe again']],
  ['CONTENDED', [UnavailableError, AGAIN]],
  ['DEADLINE_EXCEEDED', [UnavailableError, AGAIN]],
  [
    'BROKER_UNREACHABLE',
    [UnavailableError, 'see that the broker runs, and that `address` names it'],
  ],
  ['INTERNAL', [LeaseholdError, 'tell whoever runs the broker; its log says why']],
])
/** Of a reason that a newer broker has made up. */
const UNKNOWN: readonly [ErrorClass, string] = [
  LeaseholdError,
  'see the message; a newer version of this package may know the reason',
]

/** The error of a reason. */
export function errorOf(facts: ErrorFacts): LeaseholdError {
  const [kind, remedy] = REASONS.get(facts.reason) ?? UNKNOWN
  return new kind({ ...facts, remedy: facts.remedy ?? remedy })
}
