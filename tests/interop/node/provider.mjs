// An OpenID provider that is not ours, on this machine: `node provider.mjs PORT KEYS OFFSET`.
//
// KEYS is a JWK set with private keys; it signs with the first. OFFSET is how many seconds its clock is ahead. It logs in
// whoever comes as `reporter`, says `ready` and serves until it is stopped.

import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'

const [port, keys, offset] = process.argv.slice(2)
const wallClock = Date.now
Date.now = () => wallClock() + Number(offset) * 1000

const { default: Provider } = await import('oidc-provider')

const client = {
  client_secret: 'a secret of nobody but the test',
  grant_types: ['implicit', 'client_credentials'],
  id_token_signed_response_alg: 'ES256',
  redirect_uris: ['https://agent.invalid/callback'],
  response_types: ['id_token'],
  token_endpoint_auth_method: 'client_secret_post',
}
const resource = { scope: 'tasks', audience: 'leasehold', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } }
const resources = { enabled: true, defaultResource: () => 'https://leasehold.invalid', getResourceServerInfo: () => resource }

const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: JSON.parse(readFileSync(keys)),
  clients: ['leasehold', 'other'].map((name) => ({ ...client, client_id: name })),
  cookies: { keys: [randomUUID()] },
  responseTypes: ['id_token'],
  features: { clientCredentials: { enabled: true }, devInteractions: { enabled: false }, resourceIndicators: resources },
  findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  async loadExistingGrant({ oidc }) {
    const grant = new provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId })
    grant.addOIDCScope('openid')
    await grant.save()
    return grant
  },
})

const answer = provider.callback()
const server = createServer((request, response) => {
  if (!request.url.startsWith('/interaction/')) return answer(request, response)
  return provider.interactionFinished(request, response, { login: { accountId: 'reporter' } })
})
server.listen(Number(port), '127.0.0.1', () => console.log('ready'))
