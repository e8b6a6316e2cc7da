// What an access token says, read into a type after its signature was checked.

import type { JWTPayload } from 'jose'

import { TokenRefusedError } from './refusal.js'

/** The claims of an access token, as the broker's documentation lists them. */
export interface Claims {
  readonly iss: string
  /** For whom, in the end: the root task's agent. */
  readonly sub: string
  /** This task's agent. */
  readonly client_id: string
  readonly aud: string
  readonly iat: number
  readonly nbf: number
  readonly exp: number
  readonly jti: string
  /** The root task. */
  readonly txn: string
  /** RFC 9396; entries of unknown form allow nothing. */
  readonly authorization_details: readonly unknown[]
  /** What it is bound to; nothing for a bearer token. */
  readonly cnf: Confirmation | undefined
  /** Where in which tasks it belongs. */
  readonly leasehold: Execution
}

/** The thumbprint of a certificate (RFC 8705 section 3.1), or of a key that signs DPoP proofs (RFC 9449 section 6.1). */
export type Confirmation = { readonly 'x5t#S256': string } | { readonly jkt: string }

/** The claim `leasehold`. */
export interface Execution {
  readonly v: 1
  /** `[task, branch]` for each ancestor from the root, `[task, epoch]` last. */
  readonly path: readonly (readonly [string, number])[]
  readonly lease: string
  readonly tier: string
  readonly step: string | undefined
}

/** The claims of a payload; refused if one is missing or of another form. */
export function claimsOf(payload: JWTPayload, audience: string): Claims {
  const { iss, sub, aud, iat, nbf, exp, jti } = payload
  const { client_id, txn, authorization_details, cnf, leasehold } = payload
  // One audience, and not a list with it (RFC 9068 leaves both open; these tokens have one).
  if (aud !== audience) throw TokenRefusedError.invalid('the token is for another audience')
  if (!isText(iss) || !isText(sub) || !isText(client_id)) throw malformed('a party')
  if (!isText(jti) || !isText(txn)) throw malformed('an id')
  if (!isNumber(iat) || !isNumber(nbf) || !isNumber(exp)) throw malformed('a time')
  if (!Array.isArray(authorization_details)) throw malformed('`authorization_details`')
  const details: readonly unknown[] = authorization_details
  const execution = executionOf(leasehold)
  const confirmation = cnf === undefined ? undefined : confirmationOf(cnf)
  return {
    ...{ iss, sub, client_id, aud, iat, nbf, exp, jti, txn },
    authorization_details: details,
    cnf: confirmation,
    leasehold: execution,
  }
}

/** A binding that is none of ours to check must not pass as none. */
function confirmationOf(cnf: unknown): Confirmation {
  if (!isObject(cnf) || Object.keys(cnf).length !== 1) throw malformed('`cnf`')
  const { 'x5t#S256': certificate, jkt } = cnf
  if (isText(certificate)) return { 'x5t#S256': certificate }
  if (isText(jkt)) return { jkt }
  throw malformed('`cnf`')
}

function executionOf(claim: unknown): Execution {
  if (!isObject(claim) || claim['v'] !== 1) throw malformed('`leasehold`')
  const { path, lease, tier, step } = claim
  if (!isPath(path) || !isText(lease) || !isText(tier)) throw malformed('`leasehold`')
  return { v: 1, path, lease, tier, step: isText(step) ? step : undefined }
}

function isPath(path: unknown): path is readonly (readonly [string, number])[] {
  return Array.isArray(path) && path.length > 0 && path.every(isHop)
}

function isHop(hop: unknown): hop is readonly [string, number] {
  return Array.isArray(hop) && hop.length === 2 && isText(hop[0]) && isNumber(hop[1])
}

/** Whether a value of JSON is an object. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Whether it is a text that is not empty. */
export function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

function isNumber(value: unknown): value is number {
  return Number.isSafeInteger(value)
}

function malformed(what: string): TokenRefusedError {
  return TokenRefusedError.invalid(
    `the token is not of the published form: ${what} is missing or of another kind`,
  )
}
