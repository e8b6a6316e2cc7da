// A broker of its own for a test file: `leasehold dev` in a folder of its own, on free ports.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'

import { Client, type ClientOptions } from '../../src/index.js'
import { TestAuthority } from './authority.js'

export const AUDIENCE = 'https://documents.dev.example'
export const SUMMARIZER = 'spiffe://dev.example/agents/summarizer/1'
export const RESEARCHER = 'spiffe://dev.example/agents/researcher/1'
const PATIENCE_MS = 60_000

export type Workload = 'orchestrator' | 'summarizer' | 'researcher' | 'documents' | 'operator'

/** The program under test. */
export function leasehold(): string {
  const program = process.env['LEASEHOLD_BIN']
  if (program === undefined) throw new Error('set LEASEHOLD_BIN to the `leasehold` program')
  return resolve(program)
}

/** Tiers that end soon, or want less, beside those of the playground. */
const TIERS = `quick = { ttl = "2s", ceiling = "1h", min_ttl = "1s", freshness = "1s" }
brisk = { ttl = "6s", ceiling = "1h", min_ttl = "1s", freshness = "1s" }
open = { ttl = "5m", ceiling = "1h", proof = "optional", freshness = "1s" }
capped = { ttl = "2s", ceiling = "3s", min_ttl = "1s", freshness = "1s" }
`

/** Verifiers need not be told for so long. */
const CALM = 'calm = { ttl = "5m", ceiling = "1h", min_ttl = "1s", freshness = "10s" }\n'

export class Broker {
  readonly dir: string
  /** More identities of the playground's trust domain. */
  readonly authority: TestAuthority
  #process: ChildProcess | undefined
  readonly #clients: Client[] = []

  private constructor(dir: string, authority: TestAuthority) {
    this.dir = dir
    this.authority = authority
  }

  /** `more` goes to the end of its configuration; with `patient` its store allows the tier `calm`. */
  static async start(more = '', { patient = false } = {}): Promise<Broker> {
    const dir = mkdtempSync(join(tmpdir(), 'leasehold-ts-'))
    const broker = new Broker(dir, await TestAuthority.make())
    const anywhere = ['--grpc', '127.0.0.1:0', '--http', '127.0.0.1:0']
    await broker.#run(anywhere)
    await broker.stop()
    const config = broker.file('leasehold.toml')
    let text = readFileSync(config, 'utf8')
      .replace('[tiers]\n', `[tiers]\n${TIERS}`)
      .replaceAll('"critical"]', '"critical", "quick", "brisk", "open", "capped"]')
    if (patient) {
      text = text
        .replace('[tiers]\n', `[tiers]\n${CALM}`)
        .replaceAll('"capped"]', '"capped", "calm"]')
    }
    writeFileSync(config, text + more)
    if (patient) {
      rmSync(broker.file('data'), { recursive: true })
      const made = ['store', 'init', '--config', config, '--delta-max', '10s']
      await promisify(execFile)(leasehold(), made)
    }
    writeFileSync(broker.file('root.pem'), broker.authority.pem, { flag: 'a' })
    await broker.start()
    return broker
  }

  /** Starts it again, where it was. */
  async start(): Promise<void> {
    await this.#run([])
  }

  /** Stops it; its store and its addresses stay. */
  async stop(): Promise<void> {
    const running = this.#process
    this.#process = undefined
    if (running?.exitCode !== null) return
    running.kill('SIGTERM')
    await once(running, 'exit')
  }

  /** Stops it for good. */
  async remove(): Promise<void> {
    for (const client of this.#clients) client.close()
    await this.stop()
    rmSync(this.dir, { recursive: true })
  }

  file(name: string): string {
    return join(this.dir, name)
  }

  get address(): string {
    return `https://${this.#configured(/^grpc = "(.*)"$/m)}`
  }

  get issuer(): string {
    return this.#configured(/^base_url = "(.*)"$/m)
  }

  /** How a workload calls. */
  way(workload: Workload): {
    address: string
    ca: string
    identity: { cert: string; key: string }
  } {
    const identity = { cert: this.file(`${workload}.pem`), key: this.file(`${workload}.key`) }
    return { address: this.address, ca: this.file('root.pem'), identity }
  }

  /** A client for a workload, closed at the end. */
  as(workload: Workload): Client {
    return this.client(this.way(workload))
  }

  client(options: ClientOptions): Client {
    const client = new Client(options)
    this.#clients.push(client)
    return client
  }

  /** Runs the command line as a workload: a peer that shares no code with this package. */
  async cli(workload: Workload, ...args: readonly string[]): Promise<string> {
    const { address, ca, identity } = this.way(workload)
    const way = ['--broker', address, '--ca', ca, '--cert', identity.cert, '--key', identity.key]
    const { stdout } = await promisify(execFile)(leasehold(), [...args, ...way])
    return stdout
  }

  /** An OIDC token of the playground's issuer. */
  async oidc(subject: string): Promise<string> {
    const args = ['dev', 'token', '--dir', this.dir, '--subject', subject]
    return (await promisify(execFile)(leasehold(), args)).stdout.trim()
  }

  #configured(pattern: RegExp): string {
    const [, value = ''] = pattern.exec(readFileSync(this.file('leasehold.toml'), 'utf8')) ?? []
    return value
  }

  async #run(args: readonly string[]): Promise<void> {
    const stdio = ['ignore', 'pipe', 'pipe'] as const
    const running = spawn(leasehold(), ['dev', '--dir', this.dir, ...args], { stdio: [...stdio] })
    this.#process = running
    // Whatever becomes of the tests, it does not outlive them.
    const kill = () => running.kill('SIGKILL')
    process.once('exit', kill)
    running.once('exit', () => process.off('exit', kill))
    let said = ''
    await new Promise<void>((ready, failed) => {
      const hear = (chunk: Buffer) => {
        said += chunk.toString()
        if (said.includes('Ctrl-C stops it')) ready()
      }
      running.stdout.on('data', hear)
      running.stderr.on('data', hear)
      running.once('error', failed)
      running.once('exit', (code) => {
        failed(new Error(`the broker ended with ${String(code)}:\n${said}`))
      })
      setTimeout(() => {
        failed(new Error(`the broker does not get ready:\n${said}`))
      }, PATIENCE_MS).unref()
    })
  }
}
