// Asking for a credential and for its renewal: the same for tokens and certificates.

import type { Duration as WireDuration } from '@bufbuild/protobuf/wkt'

import { type Caller, requestIdOf } from './call.js'
import type { Connection } from './connection.js'
import { type FreshKey, freshKey } from './csr.js'
import { type DpopKey, Prover } from './dpop.js'
import { type Duration, toWire } from './duration.js'
import { RequestError } from './errors.js'
import {
  CredentialService,
  type IssueCredentialResponse,
  type RenewCredentialResponse,
  TtlClamp,
} from './gen/leasehold/v1/credential_service_pb.js'
import { type Grant, toJson } from './grant.js'
import type { CallOptions, Proof } from './options.js'
import { Stopwatch } from './stopwatch.js'
import { date, lacking } from './lacking.js'
import { TlsIdentity } from './tls.js'

/** What is asked for. */
export interface Terms {
  readonly taskId: string
  readonly kind: 'token' | 'certificate'
  readonly audience: string
  readonly grant: Grant | undefined
  readonly ttl: Duration | undefined
  readonly expectedEpoch: number | undefined
  readonly proof: Exclude<Proof, DpopKey> | undefined
  /** Of tokens that are bound by DPoP. */
  readonly prover: Prover | undefined
}

/** A credential, and what is known of it. Never leaves the package as a whole. */
export interface Minted {
  readonly leaseId: string
  /** Nothing of a certificate. */
  readonly token: string | undefined
  /** What a connection shows along with it; nothing with a bearer token, or one that is bound by DPoP. */
  readonly tls: TlsIdentity | undefined
  /** Makes the proofs that go with it, if it is bound by DPoP. */
  readonly prover: Prover | undefined
  /** Of a certificate, or a token that was minted with one. */
  readonly spiffeId: string | undefined
  /** By the broker's clock. */
  readonly expiresAt: Date
  readonly lifeMs: number
  readonly extensible: boolean
  /** Runs since it was asked for, so that it never looks younger than it is. */
  readonly age: Stopwatch
  /** Whether renewing it takes a new key. */
  readonly ownKey: boolean
}

/** The first credential of a lease, and what the agent needs to go on. */
export interface First {
  readonly minted: Minted
  readonly step: string
  readonly checkpoint: Uint8Array
}

/** Issues a credential. */
export async function issue(caller: Caller, terms: Terms, options: CallOptions): Promise<First> {
  const connection = await caller.connections.get()
  const proof = terms.proof ?? (connection.tls.identity === undefined ? 'key' : 'certificate')
  if (proof === 'certificate' && connection.tls.identity === undefined) {
    throw RequestError.of('proof', 'you call without a certificate to bind to; say `key`')
  }
  const key = terms.kind === 'certificate' || proof === 'key' ? freshKey() : undefined
  const ttl = toWire('ttl', terms.ttl)
  const input = {
    requestId: requestIdOf({}),
    taskId: terms.taskId,
    expectedEpoch: BigInt(terms.expectedEpoch ?? 0),
    audience: terms.audience,
    authorizationDetails: terms.grant === undefined ? '' : toJson(terms.grant),
    ...(ttl && { ttl }),
    credential: wanted(terms.kind, proof, key),
  }
  const age = new Stopwatch()
  const answer = await caller.callOn(connection, CredentialService.method.issueCredential, input, {
    ...options,
    prover: terms.prover,
  })
  const bound = proof === 'certificate' ? connection : undefined
  return {
    minted: minted(answer, age, bound, key ?? terms.prover),
    step: answer.step,
    checkpoint: answer.checkpoint,
  }
}

/** Issues the next credential under the same lease. */
export async function renew(
  caller: Caller,
  last: Minted,
  ttl: Duration | undefined,
  options: CallOptions,
): Promise<Minted> {
  const connection = await caller.connections.get()
  const key = last.ownKey ? freshKey() : undefined
  const wireTtl: WireDuration | undefined = toWire('ttl', ttl)
  const input = {
    requestId: requestIdOf({}),
    leaseId: last.leaseId,
    ...(wireTtl && { ttl: wireTtl }),
    ...(key && { csrDer: key.csrDer }),
  }
  const age = new Stopwatch()
  const answer = await caller.callOn(connection, CredentialService.method.renewCredential, input, {
    ...options,
    prover: last.prover,
  })
  return minted(answer, age, last.tls && connection, key ?? last.prover)
}

/** Gives a lease back: its credentials die. */
export async function release(
  caller: Caller,
  leaseId: string,
  options: CallOptions,
): Promise<void> {
  const input = { requestId: requestIdOf({}), leaseId }
  await caller.call(CredentialService.method.releaseCredential, input, options)
}

function wanted(
  kind: Terms['kind'],
  proof: NonNullable<Terms['proof']>,
  key: FreshKey | undefined,
) {
  if (kind === 'certificate') {
    return { case: 'x509Svid', value: { csrDer: key?.csrDer ?? new Uint8Array() } } as const
  }
  if (key !== undefined) {
    return {
      case: 'accessToken',
      value: { proof: { case: 'csrDer', value: key.csrDer } },
    } as const
  }
  return proof === 'bearer' || proof === 'dpop'
    ? ({ case: 'accessToken', value: { proof: { case: proof, value: true } } } as const)
    : ({ case: 'accessToken', value: {} } as const)
}

/** What cannot live longer if it is renewed. */
const FIXED_ENDS: ReadonlySet<TtlClamp> = new Set([TtlClamp.TASK_DEADLINE, TtlClamp.LEASE_CEILING])

function minted(
  answer: IssueCredentialResponse | RenewCredentialResponse,
  age: Stopwatch,
  bound: Connection | undefined,
  key: FreshKey | Prover | undefined,
): Minted {
  const { lease, credential } = answer
  if (lease === undefined) throw lacking('lease')
  if (credential === undefined) throw lacking('credential')
  const prover = key instanceof Prover ? key : undefined
  if (prover !== undefined && lease.jkt !== prover.key.thumbprint) throw lacking('lease.jkt')
  const own = key instanceof Prover ? undefined : key
  const expiresAt = date('expire_time', answer.expireTime)
  return {
    leaseId: lease.leaseId,
    token: credential.accessToken || undefined,
    tls: own === undefined ? bound?.tls.identity : identityOf(credential.certificateChainDer, own),
    prover,
    spiffeId: credential.spiffeId || undefined,
    expiresAt,
    lifeMs: expiresAt.getTime() - date('lease.issue_time', lease.issueTime).getTime(),
    extensible: !FIXED_ENDS.has(answer.ttlClamp),
    age,
    ownKey: own !== undefined,
  }
}

function identityOf(chain: readonly Uint8Array[], key: FreshKey): TlsIdentity {
  if (chain.length === 0) throw lacking('credential.certificate_chain_der')
  const pem = chain.map((der) => {
    const lines =
      Buffer.from(der)
        .toString('base64')
        .match(/.{1,64}/g) ?? []
    return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n')
  })
  return new TlsIdentity(
    pem.join(''),
    key.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  )
}
