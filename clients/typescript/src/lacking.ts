// What an answer of the broker always has; without it broker and client are of different versions.

import { type Timestamp, timestampDate } from '@bufbuild/protobuf/wkt'

/** A time that is always there. */
export function date(field: string, time: Timestamp | undefined): Date {
  if (time === undefined) throw lacking(field)
  return timestampDate(time)
}

/** The broker's answer lacks what it always has. */
export function lacking(field: string): Error {
  return new Error(
    `the broker's answer has no \`${field}\`; broker and client are of different versions`,
  )
}
