// A fresh key and its PKCS #10 request (RFC 2986), in DER. The broker uses nothing of it but the key and the signature, so it
// asks for no name.

import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'

/** A key that was made here, and the request that proves it. */
export interface FreshKey {
  readonly privateKey: KeyObject
  readonly csrDer: Uint8Array
}

/** Makes a P-256 key and its request. */
export function freshKey(): FreshKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const version = Buffer.of(0x02, 0x01, 0x00)
  const subject = sequence()
  const attributes = Buffer.of(0xa0, 0x00)
  const info = sequence(
    version,
    subject,
    publicKey.export({ type: 'spki', format: 'der' }),
    attributes,
  )
  const signature = sign('sha256', info, privateKey)
  return { privateKey, csrDer: sequence(info, ECDSA_WITH_SHA256, bitString(signature)) }
}

/** SEQUENCE { OBJECT IDENTIFIER 1.2.840.10045.4.3.2 }, RFC 5758 section 3.2. */
const ECDSA_WITH_SHA256 = Buffer.from('300a06082a8648ce3d040302', 'hex')

function sequence(...parts: readonly Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(parts))
}

function bitString(bytes: Buffer): Buffer {
  return tagged(0x03, Buffer.concat([Buffer.of(0), bytes]))
}

function tagged(tag: number, content: Buffer): Buffer {
  const { length } = content
  const size =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.of(tag, ...size), content])
}
