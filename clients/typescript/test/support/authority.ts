// A second root of the playground's trust domain, which makes as many X.509-SVIDs as a test likes.

import { webcrypto } from 'node:crypto'
import { writeFileSync, renameSync } from 'node:fs'

import 'reflect-metadata'
import * as x509 from '@peculiar/x509'

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const DAY_MS = 86_400_000

export interface Svid {
  readonly cert: string
  readonly key: string
}

export class TestAuthority {
  readonly pem: string
  readonly #root: x509.X509Certificate
  readonly #key: webcrypto.CryptoKey

  private constructor(root: x509.X509Certificate, key: webcrypto.CryptoKey) {
    this.#root = root
    this.#key = key
    this.pem = `${root.toString('pem')}\n`
  }

  static async make(): Promise<TestAuthority> {
    x509.cryptoProvider.set(webcrypto)
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
    const root = await x509.X509CertificateGenerator.createSelfSigned({
      name: 'CN=Another root of the playground',
      serialNumber: '01',
      ...life(DAY_MS),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(
          x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
          true,
        ),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: 'spiffe://dev.example' }]),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    })
    return new TestAuthority(root, keys.privateKey)
  }

  /** A new SVID with a new key; a server's has the name `localhost` as well. */
  async svid(id: string, { lifeMs = DAY_MS, server = false } = {}): Promise<Svid> {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
    const certificate = await x509.X509CertificateGenerator.create({
      issuer: this.#root.subject,
      subject: 'CN=workload',
      ...life(lifeMs),
      signingAlgorithm: ALGORITHM,
      publicKey: keys.publicKey,
      signingKey: this.#key,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([
          x509.ExtendedKeyUsage.serverAuth,
          x509.ExtendedKeyUsage.clientAuth,
        ]),
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: id },
          ...(server ? [{ type: 'dns', value: 'localhost' } as const] : []),
        ]),
        await x509.AuthorityKeyIdentifierExtension.create(this.#root),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    })
    const key = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)
    return {
      cert: `${certificate.toString('pem')}\n`,
      key: `${x509.PemConverter.encode(key, 'PRIVATE KEY')}\n`,
    }
  }
}

/** Puts a file in place of another as helpers do that rotate identities. */
export function replace(path: string, text: string): void {
  writeFileSync(`${path}.next`, text, { mode: 0o600 })
  renameSync(`${path}.next`, path)
}

function life(ms: number) {
  return { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + ms) }
}
