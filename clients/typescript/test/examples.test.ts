// The examples, as a reader would run them.

import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import { Broker } from './support/broker.js'

let broker: Broker

before(async () => {
  broker = await Broker.start()
})

after(() => broker.remove())

function example(name: string): string {
  return fileURLToPath(new URL(`../examples/${name}.js`, import.meta.url))
}

test('an orchestrator, an agent and a resource server tell the story of a task', async () => {
  const env = { ...process.env, LEASEHOLD_BROKER: broker.address }
  const args = [example('resource-server'), broker.dir, '0', broker.issuer]
  const server = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const heard: string[] = []
  try {
    const lines = createInterface({ input: server.stdout })
    lines.on('line', (line) => heard.push(line))
    const [first] = (await once(lines, 'line')) as [string]
    const [url = ''] = /https:\S+/.exec(first) ?? []
    const run = promisify(execFile)
    const orchestrator = [example('orchestrator'), broker.dir, url]
    const { stdout, stderr } = await run(process.execPath, orchestrator, { env, timeout: 30_000 })
    assert.equal(stderr, '')
    assert.deepEqual(
      stdout
        .replaceAll(/tsk_\w+/g, 'tsk')
        .split('\n')
        .filter((line) => !line.includes('read page 3')),
      [
        'orchestrator: began tsk',
        'agent: read page 1: the text of the page',
        'orchestrator: the task is in epoch 2',
        'agent: read page 2: the text of the page',
        'orchestrator: completed the task',
        'agent: the task has ended as completed; begin another one',
        '',
      ],
    )
  } finally {
    server.kill()
  }
  assert.ok(
    heard.some((line) => line.includes('refused: TokenRefusedError: the token is not active')),
  )
})
