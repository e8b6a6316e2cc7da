// Connections to the broker: one for as long as the identity stays the same, a new one when its files have changed.

import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node'
import type { Transport } from '@connectrpc/connect'

import { RequestError } from './errors.js'
import { Authorization, type Identity } from './identity.js'
import { TlsFiles, tlsOptions, type TlsSettings } from './tls.js'

/** An answer is never larger; a list of 1,000 tasks with their checkpoints comes nearest. */
const MOST_ANSWER_BYTES = 16 * 1024 * 1024
/** A connection that was quiet for so long is tried with a PING before it is used. */
const PING_AFTER_MS = 20_000
const PING_TIMEOUT_MS = 5_000
/** One that an identity has left behind closes so long after its last call. */
const IDLE_MS = 60_000

/** Where a broker is, whom to trust, who we are. */
export interface Way {
  /** `https://` and the broker's gRPC address. */
  readonly address: string
  /** File with the CA that issued the broker's certificate, in PEM; default: the roots of Node. */
  readonly ca?: string | undefined
  readonly identity: Identity
}

/** One connection, and what it proves. */
export class Connection {
  readonly transport: Transport
  /** The certificate that it shows is what tokens issued over it are bound to. */
  readonly tls: TlsSettings
  readonly #session: Http2SessionManager

  constructor(address: string, tls: TlsSettings) {
    const pings = {
      pingIntervalMs: PING_AFTER_MS,
      pingTimeoutMs: PING_TIMEOUT_MS,
      idleConnectionTimeoutMs: IDLE_MS,
    }
    this.#session = new Http2SessionManager(address, pings, tlsOptions(tls))
    this.transport = createGrpcTransport({
      baseUrl: address,
      sessionManager: this.#session,
      acceptCompression: [],
      readMaxBytes: MOST_ANSWER_BYTES,
    })
    this.tls = tls
  }

  close(): void {
    this.#session.abort()
  }
}

/** The connection of now. */
export class Connections {
  readonly address: string
  readonly authorization: Authorization
  readonly #files: TlsFiles
  #current: Connection | undefined
  #previous: Connection | undefined

  constructor({ address, ca, identity }: Way) {
    this.address = checked(address)
    this.authorization = new Authorization(identity)
    this.#files = new TlsFiles(ca, identity)
  }

  /** A connection that shows the identity as its files have it now. */
  async get(): Promise<Connection> {
    const tls = await this.#files.read()
    if (this.#current?.tls !== tls) {
      // The one before lives on for the calls that are under way on it, and closes when it is idle.
      this.#previous?.close()
      this.#previous = this.#current
      this.#current = new Connection(this.address, tls)
    }
    return this.#current
  }

  /** Closes what is open; a later call opens it again. */
  close(): void {
    this.#previous?.close()
    this.#current?.close()
    this.#previous = this.#current = undefined
  }
}

function checked(address: string): string {
  const url = URL.canParse(address) ? new URL(address) : undefined
  const isOrigin =
    url?.pathname === '/' && url.search === '' && url.hash === '' && url.username === ''
  if (url?.protocol !== 'https:' || !isOrigin) {
    const problem = `\`${address}\` is not \`https://\`, a host and a port; a broker answers over TLS only`
    throw RequestError.of('address', problem)
  }
  return url.origin
}
