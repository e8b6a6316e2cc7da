// Connections to the broker: one for as long as the identity stays the same, a new one when its files have changed.

import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node'
import type { Transport } from '@connectrpc/connect'

import { RequestError } from './errors.js'
import { WatchedFiles } from './files.js'
import { bearer, type Identity, TlsIdentity, unreadable } from './identity.js'

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
  /** The certificate that it shows: what tokens issued over it are bound to. */
  readonly tls: TlsIdentity | undefined
  /** The CA in PEM. */
  readonly ca: string | undefined
  readonly #session: Http2SessionManager

  constructor(address: string, ca: string | undefined, tls: TlsIdentity | undefined) {
    const pings = {
      pingIntervalMs: PING_AFTER_MS,
      pingTimeoutMs: PING_TIMEOUT_MS,
      idleConnectionTimeoutMs: IDLE_MS,
    }
    this.#session = new Http2SessionManager(address, pings, {
      ...(ca !== undefined && { ca }),
      ...tls?.pem(),
      minVersion: 'TLSv1.2',
    })
    this.transport = createGrpcTransport({
      baseUrl: address,
      sessionManager: this.#session,
      acceptCompression: [],
      readMaxBytes: MOST_ANSWER_BYTES,
    })
    this.tls = tls
    this.ca = ca
  }

  close(): void {
    this.#session.abort()
  }
}

/** The connection of now. */
export class Connections {
  readonly address: string
  readonly #identity: Identity
  readonly #caFile: string | undefined
  readonly #files: WatchedFiles
  readonly #tokenFile: WatchedFiles | undefined
  #contents: readonly string[] | undefined
  #current: Connection | undefined
  #previous: Connection | undefined
  #looking: Promise<Connection> | undefined

  constructor({ address, ca, identity }: Way) {
    this.address = checked(address)
    this.#identity = identity
    this.#caFile = ca
    const files = ca === undefined ? [] : [ca]
    if ('cert' in identity) files.push(identity.cert, identity.key)
    this.#files = new WatchedFiles(files)
    this.#tokenFile = 'tokenFile' in identity ? new WatchedFiles([identity.tokenFile]) : undefined
  }

  /** A connection that shows the identity as its files have it now. */
  get(): Promise<Connection> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined
    })
    return this.#looking
  }

  /** The headers that a call shows: an OIDC token, if that is who we are. */
  async headers(): Promise<Headers> {
    const headers = new Headers()
    const identity = this.#identity
    if ('token' in identity) {
      const token = await fromFunction(identity.token)
      headers.set('authorization', bearer(token, '`identity.token`'))
    } else if ('tokenFile' in identity) {
      const where = `\`${identity.tokenFile}\``
      const text = await this.#tokenFile?.read().catch((cause: unknown) => {
        throw unreadable(where, cause)
      })
      headers.set('authorization', bearer(text?.[0] ?? '', where))
    }
    return headers
  }

  /** Closes what is open; a later call opens it again. */
  close(): void {
    this.#previous?.close()
    this.#current?.close()
    this.#previous = this.#current = this.#contents = undefined
  }

  async #look(): Promise<Connection> {
    try {
      const contents = await this.#files.read()
      if (this.#current !== undefined && contents === this.#contents) return this.#current
      const next = this.#made(contents)
      // The one before lives on for the calls that are under way on it, and closes when it is idle.
      this.#previous?.close()
      this.#previous = this.#current
      this.#current = next
      this.#contents = contents
      return next
    } catch (cause) {
      // In the middle of a rotation: half of a pair, or none. The old one does until it expires.
      if (this.#current !== undefined && this.#current.tls?.isExpired !== true) return this.#current
      throw unreadable(this.#names(), cause)
    }
  }

  #made(contents: readonly string[]): Connection {
    const [ca, [cert, key]] =
      this.#caFile === undefined ? [undefined, contents] : [contents[0], contents.slice(1)]
    if (ca !== undefined && !ca.includes('-----BEGIN CERTIFICATE-----')) {
      throw new Error('`ca` holds no certificate in PEM')
    }
    const tls = cert !== undefined && key !== undefined ? new TlsIdentity(cert, key) : undefined
    return new Connection(this.address, ca, tls)
  }

  #names(): string {
    const identity = 'cert' in this.#identity ? [this.#identity.cert, this.#identity.key] : []
    return [this.#caFile ?? [], identity]
      .flat()
      .map((file) => `\`${file}\``)
      .join(', ')
  }
}

async function fromFunction(token: () => string | Promise<string>): Promise<string> {
  try {
    return await token()
  } catch (cause) {
    throw unreadable('`identity.token`', cause)
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
