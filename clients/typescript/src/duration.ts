// Lengths of time as the configuration and the command line write them: a whole number and a unit.

import { create } from '@bufbuild/protobuf'
import { type Duration as Wire, DurationSchema } from '@bufbuild/protobuf/wkt'

import { RequestError } from './errors.js'

/** A whole number and one of `ms`, `s`, `m`, `h`, `d`: `30m`. */
export type Duration = `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`

const UNITS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1_000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
])
/** The broker's bounds are far below. */
const MOST_MS = 10 * 365 * 86_400_000

/** Milliseconds of a length; `field` is named if it is none. */
export function milliseconds(field: string, text: Duration): number {
  const [, digits = '', unit = ''] = /^(\d{1,15})(ms|s|m|h|d)$/.exec(text) ?? []
  const length = Number(digits) * (UNITS.get(unit) ?? Number.NaN)
  if (digits === '' || !(length <= MOST_MS)) {
    throw RequestError.of(field, `\`${text}\` is no length of time; write it like \`30m\``)
  }
  return length
}

/** A length as the contract has it; nothing for nothing. */
export function toWire(field: string, text: Duration | undefined): Wire | undefined {
  if (text === undefined) return undefined
  const length = milliseconds(field, text)
  const seconds = Math.floor(length / 1_000)
  return create(DurationSchema, { seconds: BigInt(seconds), nanos: (length % 1_000) * 1_000_000 })
}
