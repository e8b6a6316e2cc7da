/**
 * Client of Leasehold, a just-in-time credential broker: a credential lives exactly as long as its task.
 *
 * {@link Client} is the way in for orchestrators and agents, {@link Verifier} for what accepts their credentials.
 *
 * @packageDocumentation
 */

export { Client, type ClientOptions, type ListOptions, type WithTaskOptions } from './client.js'
export { Certificate, Credential } from './credential.js'
export { DpopKey, type Proved } from './dpop.js'
export type { Duration } from './duration.js'
export {
  DeniedError,
  EpochStaleError,
  type FieldViolation,
  IdentityError,
  LeaseError,
  LeaseholdError,
  NotFoundError,
  RequestError,
  TaskEndedError,
  TaskStateError,
  UnavailableError,
} from './errors.js'
export type { Grant, ResourceAccess } from './grant.js'
export type { X509Identity, Identity, TokenFileIdentity, TokenIdentity } from './identity.js'
export type {
  AdvanceOptions,
  BeginOptions,
  CallOptions,
  CertificateOptions,
  ChangeOptions,
  CredentialOptions,
  DelegateOptions,
  EndOptions,
  Proof,
} from './options.js'
export type { Enforcement, PendingVerifier, Revocation, WaitOptions } from './revocation.js'
export { Admission, Sidecar, type SidecarOptions } from './sidecar.js'
export { Task } from './task.js'
export type { Changed, TaskInfo, TaskState } from './task-info.js'
export {
  type Claims,
  type Confirmation,
  type DpopProofs,
  TokenRefusedError,
  type Presented,
  presentedBy,
  Verifier,
  VerifierUnavailableError,
  type VerifierOptions,
  type VerifiedToken,
} from './verifier.js'
