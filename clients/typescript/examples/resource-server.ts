// A resource server: an API that lets in whoever holds a living token for a task that may read.
//
//   node build/examples/resource-server.js play

import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'

import { presentedBy, TokenRefusedError, Verifier } from 'leasehold'

const [, , play = 'play', port = '8443', issuer = 'https://localhost:7701'] = process.argv
const identity = { cert: `${play}/documents.pem`, key: `${play}/documents.key` }

const verifier = new Verifier({
  issuer,
  audience: 'https://documents.dev.example',
  ca: `${play}/root.pem`,
  identity,
})

// It asks for client certificates: a token is bound to one, or to a key that signs DPoP proofs. Whether that is the one is for
// the verifier to say.
const tls = { cert: readFileSync(identity.cert), key: readFileSync(identity.key) }
const server = createServer({ ...tls, requestCert: true, rejectUnauthorized: false })

server.on('request', (request, response) => {
  verifier.verifyActive(presentedBy(request, origin()), 'read').then(
    (token) => {
      console.log(`resource server: ${request.url ?? ''} for ${token.agent} in ${token.taskId}`)
      response.end('the text of the page')
    },
    (error: unknown) => {
      console.log(`resource server: refused: ${String(error)}`)
      if (error instanceof TokenRefusedError) {
        response.writeHead(error.status, error.headers).end()
      } else {
        response.writeHead(503).end()
      }
    },
  )
})

server.listen(Number(port), 'localhost', () => {
  console.log(`resource server: ${origin()}`)
})

/** How callers call us. */
function origin(): string {
  return `https://localhost:${(server.address() as AddressInfo).port}`
}
