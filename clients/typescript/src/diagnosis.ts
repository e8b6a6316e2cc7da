// Why a broker cannot be reached: found in the chain of causes, in words that say what to change.

/** What is wrong with a connection, and what to do. */
export interface Diagnosis {
  readonly reason: 'BROKER_UNREACHABLE' | 'BROKER_UNTRUSTED' | 'IDENTITY_UNVERIFIED'
  readonly problem: string
  readonly remedy: string
}

const UNKNOWN_CA: Diagnosis = {
  reason: 'BROKER_UNTRUSTED',
  problem: 'its certificate was not issued by a CA that you trust',
  remedy: "name in `ca` the PEM of the CA that issued the broker's certificate",
}
const NO_TLS: Diagnosis = away('it does not speak TLS', "is it the broker's gRPC port?")

/** By Node's code of an error. */
const KNOWN: ReadonlyMap<string, Diagnosis> = new Map([
  [
    'ECONNREFUSED',
    away(
      'nothing listens there',
      'start the broker with `leasehold serve`, or name another `address`',
    ),
  ],
  ['ENOTFOUND', away('its name is not known', 'check `address`')],
  ['EAI_AGAIN', away('its name cannot be looked up now', 'check `address` and the name server')],
  [
    'ETIMEDOUT',
    away('it does not answer', 'is the address right, and does a firewall let you through?'),
  ],
  ['ECONNRESET', away('it closed the connection', "is it the broker's gRPC port?")],
  ['ERR_SSL_WRONG_VERSION_NUMBER', NO_TLS],
  ['ERR_SSL_PACKET_LENGTH_TOO_LONG', NO_TLS],
  ['ERR_HTTP2_ERROR', away('it does not speak HTTP/2', "is it the broker's gRPC port?")],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', UNKNOWN_CA],
  ['UNABLE_TO_GET_ISSUER_CERT', UNKNOWN_CA],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', UNKNOWN_CA],
  ['SELF_SIGNED_CERT_IN_CHAIN', UNKNOWN_CA],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', UNKNOWN_CA],
  ['CERT_SIGNATURE_FAILURE', UNKNOWN_CA],
  [
    'CERT_HAS_EXPIRED',
    untrusted('its certificate has expired', 'whoever runs the broker must replace it'),
  ],
  [
    'CERT_NOT_YET_VALID',
    untrusted('its certificate is not valid yet', "is this machine's clock right?"),
  ],
  [
    'ERR_TLS_CERT_ALTNAME_INVALID',
    untrusted(
      'its certificate is for other names than this',
      'name the broker in `address` as its certificate does',
    ),
  ],
])

/** The first cause that says something. */
export function diagnose(failure: unknown, address: string): Diagnosis {
  let innermost = 'there was no answer'
  for (const error of causes(failure)) {
    innermost = error.message
    const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
    const known = KNOWN.get(code) ?? ofAlert(code)
    if (known !== undefined) return { ...known, problem: `\`${address}\`: ${known.problem}` }
  }
  return away(
    `\`${address}\` cannot be reached: ${innermost}`,
    'check `address`, `ca` and `identity`',
  )
}

/** OpenSSL's names of the alerts by which the broker ends a handshake (RFC 8446 section 6.2). */
function ofAlert(code: string): Diagnosis | undefined {
  if (!/^ERR_SSL_.*ALERT_/.test(code)) return undefined
  const remedy =
    "it must be an X.509-SVID of a trust domain in the broker's `[[trust.spiffe]]`, with its chain"
  return code.endsWith('CERTIFICATE_REQUIRED')
    ? refused('it asks for a client certificate', 'give `identity` with `cert` and `key`')
    : refused('it refuses the certificate in `identity`', remedy)
}

function away(problem: string, remedy: string): Diagnosis {
  return { reason: 'BROKER_UNREACHABLE', problem, remedy }
}

function untrusted(problem: string, remedy: string): Diagnosis {
  return { reason: 'BROKER_UNTRUSTED', problem, remedy }
}

function refused(problem: string, remedy: string): Diagnosis {
  return { reason: 'IDENTITY_UNVERIFIED', problem, remedy }
}

/** The errors of a chain, outermost first. */
function* causes(failure: unknown): Generator<Error> {
  const seen = new Set<unknown>()
  for (let error = failure; error instanceof Error && !seen.has(error); error = error.cause) {
    seen.add(error)
    yield error
    if (error instanceof AggregateError) {
      for (const inner of error.errors) yield* causes(inner)
    }
  }
}
