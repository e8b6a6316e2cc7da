import assert from 'node:assert/strict'
import { test } from 'node:test'

import { allows } from '../src/allowance.js'

const LEDGER = 'https://ledger.example'
const ENTRY = { type: 'resource_access', audience: LEDGER, actions: ['read', 'list'] }

test('an action is allowed by an entry that names it for the audience', () => {
  assert.ok(
    allows([{ ...ENTRY, audience: 'https://other.example' }, ENTRY], LEDGER, 'list', undefined),
  )
  assert.ok(
    allows([{ ...ENTRY, data_class: ['public'], max_ttl_seconds: 5 }], LEDGER, 'read', 'public'),
  )
})

test('anything else allows nothing', () => {
  const none = {
    'another action': [{ ...ENTRY, actions: ['write'] }],
    'another audience': [{ ...ENTRY, audience: `${LEDGER}/` }],
    'another type': [{ ...ENTRY, type: 'payment' }],
    'a member that is not known': [{ ...ENTRY, only_on: 'sundays' }],
    'actions that are no list': [{ ...ENTRY, actions: 'read' }],
    'no type': [{ audience: LEDGER, actions: ['read'] }],
    'no object': [[ENTRY], null, 'read'],
    'a wildcard': [{ ...ENTRY, actions: ['*'] }],
    nothing: [],
  }
  for (const [what, details] of Object.entries(none)) {
    assert.equal(allows(details, LEDGER, 'read', undefined), false, what)
  }
})

test('a class of data is allowed only where it is named, and two halves are no whole', () => {
  assert.equal(allows([ENTRY], LEDGER, 'read', 'public'), false)
  const halves = [
    { ...ENTRY, actions: ['read'], data_class: ['secret'] },
    { ...ENTRY, actions: ['write'], data_class: ['public'] },
  ]
  assert.equal(allows(halves, LEDGER, 'read', 'public'), false)
})
