// Sidecars to test beside: `leasehold verify`, which follows the broker as any verifier does.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { AUDIENCE, type Broker, leasehold } from './broker.js'
import { eventually } from './eventually.js'

export interface Running {
  readonly dir: string
  readonly socketPath: string
  readonly process: ChildProcess
}

export async function start(broker: Broker): Promise<Running> {
  // A short name, as sockets need it.
  const dir = mkdtempSync(join(tmpdir(), 'lh-'))
  const socketPath = join(dir, 'verify.sock')
  const { address, ca, identity } = broker.way('documents')
  const what = ['verify', '--listen', `unix:${socketPath}`, '--audience', AUDIENCE]
  const way = ['--broker', address, '--ca', ca, '--cert', identity.cert, '--key', identity.key]
  const args = [...what, '--public-url', AUDIENCE, ...way]
  const child = spawn(leasehold(), args, { stdio: 'ignore' })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  child.once('exit', () => process.off('exit', kill))
  const isReady = async () => (await call(socketPath, 'GET', '/readyz')).status === 200
  await eventually('the sidecar is ready', () => isReady().catch(() => false))
  return { dir, socketPath, process: child }
}

export async function stop({ dir, process: child }: Running, signal: NodeJS.Signals = 'SIGTERM') {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill(signal)
    await once(child, 'exit')
  }
  rmSync(dir, { recursive: true })
}

/** The call as it is documented, without this package. */
export async function call(socketPath: string, method: string, path: string, body?: object) {
  return new Promise<{ status: number | undefined; text: string }>((resolve, reject) => {
    const headers = { 'content-type': 'application/json' }
    const asked = request({ socketPath, method, path, headers, agent: false }, (answer) => {
      let text = ''
      answer.on('data', (chunk: Buffer) => (text += chunk.toString()))
      answer.once('end', () => {
        resolve({ status: answer.statusCode, text })
      })
      answer.once('error', reject)
    })
    asked.once('error', reject)
    asked.end(body && JSON.stringify(body))
  })
}
