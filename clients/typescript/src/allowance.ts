// Whether `authorization_details` (RFC 9396) allow something: some one entry must, and one with a member that is not known
// allows nothing, since it may be the member that narrows it.

import { isObject } from './claims.js'

const MEMBERS: ReadonlySet<string> = new Set([
  'type',
  'audience',
  'actions',
  'data_class',
  'max_ttl_seconds',
])

/** Whether an action, on a class of data if one is named, is allowed on an audience. */
export function allows(
  details: readonly unknown[],
  audience: string,
  action: string,
  dataClass: string | undefined,
): boolean {
  return details.some((entry) => {
    if (!isObject(entry) || !Object.keys(entry).every((member) => MEMBERS.has(member))) return false
    if (entry['type'] !== 'resource_access' || entry['audience'] !== audience) return false
    return (
      includes(entry['actions'], action) &&
      (dataClass === undefined || includes(entry['data_class'], dataClass))
    )
  })
}

function includes(list: unknown, text: string): boolean {
  return Array.isArray(list) && list.includes(text)
}
