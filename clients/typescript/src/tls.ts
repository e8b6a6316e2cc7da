// What a TLS connection trusts and shows: a CA, and a certificate with its key, from files that others keep fresh.

import { createPrivateKey, X509Certificate } from 'node:crypto'

import { WatchedFiles } from './files.js'
import { type Identity, unreadable } from './identity.js'

/** A certificate and its key, for a TLS connection. Both stay out of anything that is printed. */
export class TlsIdentity {
  readonly #cert: string
  readonly #key: string
  readonly #expires: number

  constructor(cert: string, key: string) {
    const leaf = new X509Certificate(cert)
    if (!leaf.checkPrivateKey(createPrivateKey(key))) {
      throw new Error("the key is not the certificate's")
    }
    this.#cert = cert
    this.#key = key
    this.#expires = Date.parse(leaf.validTo)
  }

  /** Whether it is over by this machine's clock. */
  get isExpired(): boolean {
    return Date.now() > this.#expires
  }

  /** What Node's TLS takes. */
  pem(): { readonly cert: string; readonly key: string } {
    return { cert: this.#cert, key: this.#key }
  }
}

/** Whom a connection trusts, and what it shows. */
export interface TlsSettings {
  /** A CA in PEM; nothing: the roots of Node. */
  readonly ca: string | undefined
  readonly identity: TlsIdentity | undefined
}

/** Settings as Node's TLS takes them. The peer is verified, whatever the environment says of that. */
export function tlsOptions({ ca, identity }: TlsSettings) {
  const trust = { rejectUnauthorized: true, minVersion: 'TLSv1.2' } as const
  return { ...trust, ...(ca !== undefined && { ca }), ...identity?.pem() }
}

/** Settings as the files have them now. */
export class TlsFiles {
  readonly #hasCa: boolean
  readonly #paths: readonly string[]
  readonly #files: WatchedFiles
  #contents: readonly string[] | undefined
  #settings: TlsSettings | undefined

  constructor(ca: string | undefined, identity: Identity | undefined) {
    this.#hasCa = ca !== undefined
    const pair = identity !== undefined && 'cert' in identity ? [identity.cert, identity.key] : []
    this.#paths = ca === undefined ? pair : [ca, ...pair]
    this.#files = new WatchedFiles(this.#paths)
  }

  /** The settings: the same object as long as nothing changed. */
  async read(): Promise<TlsSettings> {
    try {
      const contents = await this.#files.read()
      if (this.#settings === undefined || contents !== this.#contents) {
        this.#settings = this.#parsed(contents)
        this.#contents = contents
      }
      return this.#settings
    } catch (cause) {
      // In the middle of a rotation: half of a pair, or none. The old one does until it expires.
      if (this.#settings !== undefined && this.#settings.identity?.isExpired !== true) {
        return this.#settings
      }
      throw unreadable(this.#paths.map((path) => `\`${path}\``).join(', '), cause)
    }
  }

  #parsed(contents: readonly string[]): TlsSettings {
    const ca = this.#hasCa ? contents[0] : undefined
    const [cert, key] = this.#hasCa ? contents.slice(1) : contents
    if (ca !== undefined && !ca.includes('-----BEGIN CERTIFICATE-----')) {
      throw new Error('`ca` holds no certificate in PEM')
    }
    const identity =
      cert === undefined || key === undefined ? undefined : new TlsIdentity(cert, key)
    return { ca, identity }
  }
}
