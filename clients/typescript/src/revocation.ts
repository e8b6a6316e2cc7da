// How far an ending is: recorded, refused by every verifier, nothing running any more; and who is still missing.

import { type Timestamp, timestampDate } from '@bufbuild/protobuf/wkt'

import { type Duration, milliseconds, toWire } from './duration.js'
import { RequestError } from './errors.js'
import {
  Enforcement as Wire,
  type Revocation as WireRevocation,
} from './gen/leasehold/v1/types_pb.js'
import { date, lacking } from './lacking.js'

/**
 * How far an ending is. `recorded`: durably; nothing is issued any more for what it concerns, and introspection says inactive.
 * `fenced`: no verifier that follows the feed accepts it any more. `drained`: nothing runs any more that one had let in.
 */
export type Enforcement = 'recorded' | 'fenced' | 'drained'

/** A verifier, or a broker with all that follow it, that did not yet say that it knows of an ending. */
export interface PendingVerifier {
  /** The run of its process; empty for a broker. */
  readonly instance: string
  /** Empty for a broker. */
  readonly name: string
  /** The broker that speaks for it. */
  readonly broker: string
  /** From then on it surely accepts no more what the ending concerns. */
  readonly mayAcceptUntil: Date
}

/** How far an ending was when the broker answered. */
export interface Revocation {
  readonly enforcement: Enforcement
  /** From then on nothing is issued for what it concerns, and introspection says inactive. */
  readonly recordedAt: Date
  /** When it was known that no verifier that follows the feed accepts it any more; nothing as long as one might. */
  readonly fencedAt: Date | undefined
  /** When it was known that nothing runs any more that such a verifier had let in; nothing as long as something might. */
  readonly drainedAt: Date | undefined
  /** Who might still accept it, and until when; empty once it is fenced, and where nobody could be asked. */
  readonly pending: readonly PendingVerifier[]
  /** By then it is fenced, whatever is cut off, slow or dead. */
  readonly fencedAtLatest: Date | undefined
  /** The verifiers at which something still runs that they had let in. */
  readonly undrained: readonly string[]
  /** Those that are gone, or never say: whether anything runs there will not be known. */
  readonly drainUnknown: readonly string[]
}

/** What a call that ends something waits for. What is not reached in time is no error: the answer says how far it is. */
export interface WaitOptions {
  /** How far it is to be when the call answers; default: `fenced`. */
  readonly waitFor?: Enforcement | undefined
  /**
   * How long to wait at most, beside `timeoutMs`; a minute at most; default: until `fenced` is certain, and 10 s for `drained`.
   */
  readonly waitTimeout?: Duration | undefined
}

/** The broker waits no longer, whatever it is asked for. */
const LONGEST_WAIT_MS = 60_000

/** The words of the contract's numbers. */
const ENFORCEMENTS: readonly (readonly [Wire, Enforcement])[] = [
  [Wire.RECORDED, 'recorded'],
  [Wire.FENCED, 'fenced'],
  [Wire.DRAINED, 'drained'],
]

/** What to wait for, as the contract has it. */
export function waitToWire({ waitFor = 'fenced', waitTimeout }: WaitOptions) {
  const found = ENFORCEMENTS.find(([, word]) => word === waitFor)
  if (found === undefined) {
    const words = ENFORCEMENTS.map(([, word]) => `\`${word}\``).join(', ')
    throw RequestError.of('waitFor', `\`${waitFor}\` is none; there are ${words}`)
  }
  const timeout = toWire('waitTimeout', waitTimeout)
  return { waitFor: found[0], ...(timeout && { waitTimeout: timeout }) }
}

/** How much longer than others a call may take that waits. */
export function patienceMs({ waitFor, waitTimeout }: WaitOptions): number {
  if (waitFor === 'recorded') return 0
  return waitTimeout === undefined ? LONGEST_WAIT_MS : milliseconds('waitTimeout', waitTimeout)
}

/** A revocation, of an answer. */
export function revocation(told: WireRevocation | undefined): Revocation {
  const enforcement = ENFORCEMENTS.find(([wire]) => wire === told?.enforcement)?.[1]
  if (told === undefined || enforcement === undefined) throw lacking('revocation')
  return {
    enforcement,
    recordedAt: date('revocation.recorded_at', told.recordedAt),
    fencedAt: optional(told.fencedAt),
    drainedAt: optional(told.drainedAt),
    pending: told.pending.map(({ instance, name, broker, mayAcceptUntil }) => ({
      instance,
      name,
      broker,
      mayAcceptUntil: date('revocation.pending.may_accept_until', mayAcceptUntil),
    })),
    fencedAtLatest: optional(told.fencedAtLatest),
    undrained: told.undrained,
    drainUnknown: told.drainUnknown,
  }
}

function optional(time: Timestamp | undefined): Date | undefined {
  return time && timestampDate(time)
}
