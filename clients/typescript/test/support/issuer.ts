// A broker's HTTP that says what a test wants: tokens of every defect, signed by a key that it publishes.

import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'

import * as jose from 'jose'

import type { TestAuthority } from './authority.js'

type Keys = readonly [jose.GenerateKeyPairResult, jose.GenerateKeyPairResult]

export class FakeIssuer {
  readonly url: string
  /** The key that it publishes. */
  readonly jwk: jose.JWK
  readonly ca: string
  /** How often each path was asked for. */
  readonly asked = new Map<string, number>()
  /** Who asked last, by a header. */
  authorization: string | undefined
  /** What introspection answers. */
  introspection: { status: number; body: string } = { status: 200, body: '{"active":false}' }
  /** Whether the keys can be had. */
  isAway = false
  readonly #server: Server
  readonly #keys: jose.GenerateKeyPairResult
  /** A key of another kind, which it publishes as well. */
  readonly #rsa: jose.GenerateKeyPairResult

  private constructor(server: Server, ca: string, [own, rsa]: Keys, jwks: readonly jose.JWK[]) {
    this.#server = server
    this.#keys = own
    this.#rsa = rsa
    this.jwk = jwks[0] ?? {}
    this.ca = ca
    this.url = `https://localhost:${String((server.address() as AddressInfo).port)}`
    server.on('request', (request, response) => {
      const path = request.url ?? ''
      this.authorization = request.headers.authorization
      this.asked.set(path, (this.asked.get(path) ?? 0) + 1)
      if (this.isAway) response.writeHead(503).end()
      else if (path === '/oauth2/jwks') response.end(JSON.stringify({ keys: jwks }))
      else response.writeHead(this.introspection.status).end(this.introspection.body)
    })
  }

  static async start(authority: TestAuthority, caFile: string): Promise<FakeIssuer> {
    writeFileSync(caFile, authority.pem)
    const server = createServer(await authority.svid('spiffe://dev.example/fake', { server: true }))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const keys = await jose.generateKeyPair('ES256')
    const rsa = await jose.generateKeyPair('RS256')
    const publish = async (key: jose.CryptoKey, members: jose.JWK) => ({
      ...(await jose.exportJWK(key)),
      ...members,
    })
    const jwks = [
      await publish(keys.publicKey, { kid: 'k1', alg: 'ES256', use: 'sig' }),
      await publish(rsa.publicKey, { kid: 'rsa', alg: 'RS256', use: 'sig' }),
    ]
    return new FakeIssuer(server, caFile, [keys, rsa], jwks)
  }

  /** A token by the other key that it publishes. */
  async rsaToken(claims: Record<string, unknown>): Promise<string> {
    return this.token(claims, { alg: 'RS256', kid: 'rsa' }, this.#rsa.privateKey)
  }

  /** A token as the broker mints them, but for what is changed. */
  async token(
    claims: Record<string, unknown> = {},
    header: Record<string, unknown> = {},
    key: jose.CryptoKey = this.#keys.privateKey,
  ): Promise<string> {
    const now = Math.floor(Date.now() / 1_000)
    const task = 'tsk_00000000000000000000000000'
    const all = {
      iss: this.url,
      sub: 'spiffe://dev.example/agents/a',
      client_id: 'spiffe://dev.example/agents/a',
      aud: 'https://api.example',
      ...{ iat: now, nbf: now - 5, exp: now + 300, jti: 'j', txn: task },
      authorization_details: [
        { type: 'resource_access', audience: 'https://api.example', actions: ['read'] },
      ],
      leasehold: { v: 1, path: [[task, 3]], lease: 'lse_0', tier: 'standard' },
      ...claims,
    }
    return new jose.SignJWT(all)
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: 'k1', ...header })
      .sign(key)
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }
}
