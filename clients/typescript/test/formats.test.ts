import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { freshKey } from '../src/csr.js'
import { type Duration, milliseconds, toWire } from '../src/duration.js'
import { RequestError } from '../src/errors.js'
import { WatchedFiles } from '../src/files.js'
import { toJson } from '../src/grant.js'
import { replace } from './support/authority.js'

test('a request for a fresh key is one that OpenSSL takes', () => {
  const first = freshKey()
  const options = { input: first.csrDer, encoding: 'utf8', stdio: 'pipe' } as const
  const told = execFileSync(
    'openssl',
    ['req', '-inform', 'DER', '-verify', '-noout', '-text'],
    options,
  )
  assert.match(told, /Subject:\s*$/m)
  assert.match(told, /NIST CURVE: P-256/)
  assert.match(told, /Signature Algorithm: ecdsa-with-SHA256/)
  assert.notDeepEqual(freshKey().csrDer, first.csrDer)
})

test('lengths of time reach the wire exactly', () => {
  assert.equal(milliseconds('ttl', '30m'), 1_800_000)
  const half = toWire('ttl', '1500ms')
  assert.deepEqual([half?.seconds, half?.nanos], [1n, 500_000_000])
  assert.equal(toWire('ttl', undefined), undefined)
})

test('what is no length of time is refused by name', () => {
  for (const text of ['', '30', '-1s', '1.5s', '1 s', '1e3s', '9999999999d', '1w']) {
    assert.throws(
      () => milliseconds('ttl', text as Duration),
      (error) => error instanceof RequestError && error.fieldViolations[0]?.field === 'ttl',
      text,
    )
  }
})

test('a grant in short is the same as its entries', () => {
  const long = [
    { type: 'resource_access', audience: 'https://a.example', actions: ['read'] },
  ] as const
  assert.equal(toJson({ 'https://a.example': ['read'] }), JSON.stringify(long))
  assert.equal(toJson(long), JSON.stringify(long))
  const narrowed = [{ ...long[0], data_class: ['public'], max_ttl_seconds: 60 }] as const
  assert.equal(toJson(narrowed), JSON.stringify(narrowed))
})

test('files are read again when they were replaced, and not otherwise', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'leasehold-files-'))
  try {
    const path = join(dir, 'file')
    replace(path, 'one')
    const files = new WatchedFiles([path])
    const first = await files.read()
    assert.deepEqual(first, ['one'])
    assert.equal(await files.read(), first)
    replace(path, 'two')
    assert.deepEqual(await files.read(), ['two'])
    rmSync(path)
    await assert.rejects(files.read(), { code: 'ENOENT' })
  } finally {
    rmSync(dir, { recursive: true })
  }
})
