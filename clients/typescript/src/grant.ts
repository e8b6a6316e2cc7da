// What a task's credentials may at most allow: RFC 9396 `authorization_details`, of the one type that there is so far.

/** One entry: actions on one audience. Members are named as in tokens; the broker refuses any other. */
export interface ResourceAccess {
  readonly type?: 'resource_access'
  /** The one resource that the entry is about. */
  readonly audience: string
  /** At least one; there are no wildcards. */
  readonly actions: readonly string[]
  /** Classes of data; absent: none. */
  readonly data_class?: readonly string[]
  /** Longest life of a credential that uses the entry, in seconds. */
  readonly max_ttl_seconds?: number
}

/** Entries, or in short the actions by their audience: `{ 'https://ledger.example': ['read'] }`. */
export type Grant = readonly ResourceAccess[] | Readonly<Record<string, readonly string[]>>

/** A grant as the contract has it: a JSON array. */
export function toJson(grant: Grant): string {
  const entries: readonly ResourceAccess[] = isEntries(grant)
    ? grant
    : Object.entries(grant).map(([audience, actions]) => ({ audience, actions }))
  return JSON.stringify(entries.map((entry) => ({ type: 'resource_access', ...entry })))
}

function isEntries(grant: Grant): grant is readonly ResourceAccess[] {
  return Array.isArray(grant)
}
