import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { promisify, inspect } from 'node:util'

import { TokenRefusedError, Verifier } from '../src/index.js'
import { AUDIENCE, Broker, SUMMARIZER } from './support/broker.js'

let broker: Broker

before(async () => {
  broker = await Broker.start()
})

after(() => broker.remove())

/** All that can be printed of a value. */
function printed(value: unknown): string {
  const whole = { showHidden: true, depth: Infinity, maxArrayLength: null, maxStringLength: null }
  const parts = [
    inspect(value),
    inspect(value, whole),
    inspect(value, { ...whole, customInspect: false }),
  ]
  return [...parts, JSON.stringify(value), String(value)].join('\n')
}

test('no token and no key is in anything that is printed', async () => {
  const orchestrator = broker.as('orchestrator')
  const task = await orchestrator.begin({
    agent: SUMMARIZER,
    tier: 'standard',
    grant: { [AUDIENCE]: ['read'] },
    duration: '30m',
  })
  const client = broker.as('summarizer')
  const agent = client.task(task.id)
  const credential = await agent.credential({ audience: AUDIENCE })
  const bound = await agent.credential({ audience: AUDIENCE, proof: 'key' })
  const certificate = await agent.certificate({ audience: AUDIENCE })
  const { ca, identity } = broker.way('documents')
  const verifier = new Verifier({ issuer: broker.issuer, audience: AUDIENCE, ca, identity })
  const token = await credential.token()
  const failures = await Promise.all([
    credential.fetch('https://127.0.0.1:1/').catch((error: unknown) => error),
    credential.fetch('http://127.0.0.1:1/').catch((error: unknown) => error),
    verifier.verify({ token, certificate: undefined }, 'read').catch((error: unknown) => error),
    verifier
      .verify({ token: `${token}x`, certificate: undefined }, 'read')
      .catch((error: unknown) => error),
    agent.credential({ audience: 'https://other.example' }).catch((error: unknown) => error),
  ])
  assert.ok(failures.every((failure) => failure instanceof Error))
  assert.ok(failures[2] instanceof TokenRefusedError)
  const secrets = [
    token.slice(-40),
    (await bound.tokenWithKey()).token.slice(-40),
    ...[(await bound.tokenWithKey()).key, (await certificate.pem()).key].map(inside),
    inside(readFileSync(broker.file('summarizer.key'), 'utf8')),
    'PRIVATE KEY',
  ]
  const things = {
    orchestrator,
    client,
    task,
    agent,
    credential,
    bound,
    certificate,
    verifier,
    failures,
  }
  for (const [name, thing] of Object.entries(things)) {
    const text = printed(thing)
    for (const secret of secrets) assert.ok(!text.includes(secret), `${name} prints a secret`)
  }
  assert.match(
    inspect(credential),
    /^Credential \{[^]*audience: 'https:\/\/documents\.dev\.example'/,
  )
})

test('a process that has nothing else to do ends, whatever it holds', async () => {
  const { address, ca, identity } = broker.way('summarizer')
  const task = await broker.as('orchestrator').begin({
    agent: SUMMARIZER,
    tier: 'quick',
    grant: { [AUDIENCE]: ['read'] },
    duration: '30m',
    heartbeatInterval: '30s',
  })
  const program = `
    import { Client } from '${new URL('../src/index.js', import.meta.url).href}'
    const client = new Client(${JSON.stringify({ address, ca, identity })})
    const task = client.task('${task.id}')
    const credential = await task.credential({ audience: '${AUDIENCE}' })
    task.heartbeats('1h')
    await credential.fetch('https://127.0.0.1:1/').catch(() => undefined)
    console.log('held')`
  const args = ['--input-type=module', '--eval', program]
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 20_000 })
  assert.equal(stdout, 'held\n')
})

/** A line in the middle of a key. */
function inside(pem: string | undefined): string {
  return pem?.split('\n')[1] ?? 'nothing'
}
