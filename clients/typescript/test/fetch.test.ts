import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import type { Credential, CredentialOptions } from '../src/index.js'
import { AUDIENCE, Broker, SUMMARIZER } from './support/broker.js'
import { Documents } from './support/documents.js'

let broker: Broker
let documents: Documents
let elsewhere: Documents

before(async () => {
  broker = await Broker.start()
  documents = await Documents.start(broker)
  elsewhere = await Documents.start(broker)
})

after(async () => {
  await documents.stop()
  await elsewhere.stop()
  await broker.remove()
})

async function credential(options: Partial<CredentialOptions> = {}): Promise<Credential> {
  const task = await broker.as('orchestrator').begin({
    agent: SUMMARIZER,
    tier: 'standard',
    grant: { [AUDIENCE]: ['read'] },
    duration: '30m',
  })
  return broker
    .as('summarizer')
    .task(task.id)
    .credential({ audience: AUDIENCE, ...options })
}

test('whatever fetch takes as a body arrives, also the second time', async () => {
  const form = new FormData()
  form.set('name', 'value')
  const bodies: [NonNullable<RequestInit['body']>, RegExp][] = [
    ['text', /^text$/],
    [new Uint8Array([0x62, 0x79]), /^by$/],
    [new URLSearchParams({ a: 'b' }), /^a=b$/],
    [new Blob(['blob']), /^blob$/],
    [form, /name="name"\r\n\r\nvalue/],
  ]
  const held = await credential()
  for (const [body, expected] of bodies) {
    await broker.cli('operator', 'revoke', 'lease', held.leaseId)
    documents.seen.length = 0
    const answer = await held.fetch(`${documents.url}/documents`, { method: 'POST', body })
    assert.equal(answer.status, 200)
    assert.deepEqual(
      documents.seen.map(({ status }) => status),
      [401, 200],
    )
    for (const seen of documents.seen) assert.match(seen.body, expected)
  }
})

test('a request object is sent as it is, with the token', async () => {
  const held = await credential()
  const request = new Request(`${documents.url}/documents`, {
    method: 'PUT',
    headers: { 'x-a': 'b' },
  })
  assert.equal((await held.fetch(request)).status, 200)
  assert.equal((await held.fetch(new URL(`${documents.url}/documents`))).status, 200)
})

test('an authorization of the caller gives way to the token', async () => {
  const held = await credential()
  const headers = { authorization: 'Basic eDp5' }
  assert.equal((await held.fetch(`${documents.url}/documents`, { headers })).status, 200)
  assert.equal(documents.seen.at(-1)?.authorization, `Bearer ${await held.token()}`)
})

test('a stream is sent once', async () => {
  const held = await credential()
  await broker.cli('operator', 'revoke', 'lease', held.leaseId)
  documents.seen.length = 0
  const body = new Blob(['stream']).stream()
  const answer = await held.fetch(`${documents.url}/documents`, { method: 'POST', body })
  assert.equal(answer.status, 401)
  assert.deepEqual(
    documents.seen.map(({ body }) => body),
    ['stream'],
  )
  assert.equal((await held.fetch(`${documents.url}/documents`)).status, 200)
})

test('a server that always says 401 does not make us ask the broker for ever', async () => {
  const held = await credential()
  const tokens = new Set<string>()
  documents.seen.length = 0
  for (let n = 0; n < 10; n++) {
    assert.equal((await held.fetch(`${documents.url}/never`)).status, 401)
    tokens.add(await held.token())
  }
  assert.ok(tokens.size <= 7, `${String(tokens.size)} tokens`)
  assert.ok(documents.seen.length <= 17, `${String(documents.seen.length)} requests`)
})

test('the token follows no redirect to another origin', async () => {
  const held = await credential()
  elsewhere.seen.length = 0
  const headers = { 'x-to': `${elsewhere.url}/open` }
  assert.equal((await held.fetch(`${documents.url}/moved`, { headers })).status, 200)
  assert.deepEqual(
    elsewhere.seen.map(({ authorization }) => authorization),
    [undefined],
  )
})

test('no redirect leads to an origin that was not named, or out of TLS', async () => {
  const held = await credential({ origins: [documents.url] })
  elsewhere.seen.length = 0
  const moved = (to: string) => held.fetch(`${documents.url}/moved`, { headers: { 'x-to': to } })
  await assert.rejects(moved(`${elsewhere.url}/open`), { name: 'RequestError', message: /origins/ })
  assert.deepEqual(elsewhere.seen, [])
  assert.equal((await moved(`${documents.url}/open`)).status, 200)
  const anywhere = await credential()
  const headers = { 'x-to': 'http://localhost:65000/' }
  await assert.rejects(anywhere.fetch(`${documents.url}/moved`, { headers }), {
    name: 'RequestError',
    message: /TLS/,
  })
})

test('nothing is sent without TLS, or to an origin that was not named', async () => {
  const held = await credential({ origins: [documents.url] })
  await assert.rejects(held.fetch('http://localhost:1/'), { name: 'RequestError', message: /TLS/ })
  elsewhere.seen.length = 0
  await assert.rejects(held.fetch(`${elsewhere.url}/open`), {
    name: 'RequestError',
    message: /origins/,
  })
  assert.deepEqual(elsewhere.seen, [])
  assert.equal((await held.fetch(`${documents.url}/documents`)).status, 200)
})

test('a call that is given up is given up', async () => {
  const held = await credential()
  const signal = AbortSignal.abort(new Error('enough'))
  await assert.rejects(held.fetch(`${documents.url}/documents`, { signal }), /enough/)
})

test('it can be handed on as a function', async () => {
  const { fetch } = await credential()
  assert.equal((await fetch(`${documents.url}/documents`)).status, 200)
})
