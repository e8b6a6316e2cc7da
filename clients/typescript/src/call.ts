// One call of the contract, tried again while that helps: every call either reads, or carries an id under which it is done once.

import type {
  DescMessage,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from '@bufbuild/protobuf'
import { Code, ConnectError } from '@connectrpc/connect'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

import type { Connection, Connections } from './connection.js'
import type { Prover } from './dpop.js'
import { type LeaseholdError, UnavailableError } from './errors.js'
import type { CallOptions, ChangeOptions } from './options.js'
import { retryInMs } from './schedule.js'
import { fromFailure } from './status.js'

const MOST_TRIES = 4

/** How a call is made that may go with a DPoP proof. */
interface ProvedOptions extends CallOptions {
  readonly prover?: Prover | undefined
}

/** The id of a change. */
export function requestIdOf(options: ChangeOptions): string {
  return options.requestId ?? randomUUID()
}

/** Makes calls to one broker. */
export class Caller {
  readonly connections: Connections
  /** How long a call may take that does not say so itself. */
  readonly timeoutMs: number

  constructor(connections: Connections, timeoutMs: number) {
    this.connections = connections
    this.timeoutMs = timeoutMs
  }

  /** Calls, on the connection of now. */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    input: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    return this.callOn(await this.connections.get(), method, input, options)
  }

  /** Calls on one connection, all tries: what is bound to its certificate is then bound to that one. */
  async callOn<I extends DescMessage, O extends DescMessage>(
    connection: Connection,
    method: DescMethodUnary<I, O>,
    input: MessageInitShape<I>,
    { signal, timeoutMs = this.timeoutMs, prover }: ProvedOptions = {},
  ): Promise<MessageShape<O>> {
    const began = performance.now()
    const url = `${this.connections.address}/${method.parent.typeName}/${method.name}`
    let wasGivenNonce = false
    for (let tries = 1; ; tries++) {
      const left = timeoutMs - (performance.now() - began)
      try {
        const headers = {
          ...(await this.connections.authorization.header()),
          ...(prover && { dpop: prover.proof({ method: 'POST', url }) }),
        }
        const answer = await connection.transport.unary(
          method,
          signal,
          Math.max(Math.ceil(left), 1),
          headers,
          input,
        )
        return answer.message
      } catch (failure) {
        signal?.throwIfAborted()
        const error = fromFailure(failure, this.connections.address, requestIdIn(input))
        if (prover !== undefined && error.dpopNonce !== undefined && !wasGivenNonce) {
          // Refused for want of this nonce: it is sent again with it, once.
          wasGivenNonce = true
          prover.learn(url, error.dpopNonce)
          continue
        }
        const wait = waitAfter(error, tries)
        const remaining = timeoutMs - (performance.now() - began)
        if (wait === undefined || wait >= remaining) throw error
        await sleep(wait, undefined, { signal }).catch(() => signal?.throwIfAborted())
      }
    }
  }

  /** The answers of a call that has any number of them, tried once. The first one comes within `timeoutMs`, or none does. */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    input: MessageInitShape<I>,
    { signal, timeoutMs = this.timeoutMs }: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const [stop, late] = [new AbortController(), new AbortController()]
    const timer = setTimeout(() => {
      late.abort()
    }, timeoutMs)
    const over = [stop.signal, late.signal, ...(signal === undefined ? [] : [signal])]
    try {
      const { transport } = await this.connections.get()
      const headers = await this.connections.authorization.header()
      const any = AbortSignal.any(over)
      const answer = await transport.stream(method, any, undefined, headers, once(input))
      for await (const message of answer.message) {
        clearTimeout(timer)
        yield message
      }
    } catch (failure) {
      signal?.throwIfAborted()
      const isLate = late.signal.aborted
      throw fromFailure(isLate ? tooLate() : failure, this.connections.address)
    } finally {
      clearTimeout(timer)
      // Whoever reads no further has no use for the rest.
      stop.abort()
    }
  }
}

async function* once<T>(value: T): AsyncGenerator<T, void, undefined> {
  yield await Promise.resolve(value)
}

function tooLate(): ConnectError {
  return new ConnectError('no answer in time', Code.DeadlineExceeded)
}

/** How long to wait before the next try; nothing if there is none. */
export function waitAfter(error: LeaseholdError, tries: number): number | undefined {
  const mayHelp = error instanceof UnavailableError && tries < MOST_TRIES
  return mayHelp ? retryInMs(tries, Math.random(), error.retryDelayMs) : undefined
}

function requestIdIn(input: object): string | undefined {
  return 'requestId' in input && typeof input.requestId === 'string' ? input.requestId : undefined
}
