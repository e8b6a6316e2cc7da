// A resource server, as examples/resource-server.ts shows one, that tells what it was asked.

import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'

import { presentedBy, TokenRefusedError, Verifier } from '../../src/index.js'
import { AUDIENCE, type Broker } from './broker.js'

export interface Seen {
  readonly path: string
  readonly authorization: string | undefined
  /** The values of its `dpop` header. */
  readonly proofs: readonly string[]
  /** Whether its connection showed a certificate. */
  readonly hasCertificate: boolean
  readonly status: number
  readonly body: string
}

export class Documents {
  readonly seen: Seen[] = []
  readonly url: string
  readonly #server: Server
  readonly #verifier: Verifier

  private constructor(server: Server, verifier: Verifier, seen: Seen[]) {
    this.#server = server
    this.#verifier = verifier
    this.seen = seen
    this.url = `https://localhost:${String((server.address() as AddressInfo).port)}`
  }

  static async start(broker: Broker, dpopNonceSecret?: Uint8Array): Promise<Documents> {
    const { ca, identity } = broker.way('documents')
    const verifier = new Verifier({
      issuer: broker.issuer,
      audience: AUDIENCE,
      ca,
      identity,
      acceptBearer: true,
      dpopNonceSecret,
    })
    const origin = () => `https://localhost:${String((server.address() as AddressInfo).port)}`
    const seen: Seen[] = []
    const tls = { cert: readFileSync(identity.cert), key: readFileSync(identity.key) }
    // Whose certificate it is is the token's business: it says which one it must be.
    const server = createServer({ ...tls, requestCert: true, rejectUnauthorized: false })
    server.on('request', (request, response) => {
      const answer = async () => {
        const chunks: Buffer[] = []
        for await (const chunk of request) chunks.push(chunk as Buffer)
        const path = request.url ?? ''
        let status = 200
        if (path === '/moved') {
          status = 302
          response.setHeader('location', request.headers['x-to'] ?? '')
        } else if (path === '/never') {
          status = 401
        } else if (path !== '/open') {
          const shown = presentedBy(request, origin())
          await verifier.verifyActive(shown, 'read').catch((error: unknown) => {
            const isRefused = error instanceof TokenRefusedError
            status = isRefused ? error.status : 503
            if (isRefused) response.setHeaders(new Map(Object.entries(error.headers)))
          })
        }
        const { authorization } = request.headers
        const proofs = request.headersDistinct['dpop'] ?? []
        const hasCertificate = presentedBy(request).certificate !== undefined
        const body = Buffer.concat(chunks).toString()
        seen.push({ path, authorization, proofs, hasCertificate, status, body })
        response.writeHead(status).end(JSON.stringify({ status }))
      }
      void answer()
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new Documents(server, verifier, seen)
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    this.#verifier.close()
    await once(this.#server, 'close')
  }
}
