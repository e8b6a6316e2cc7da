// One task, as whoever works with it holds it: the orchestrator drives it, the agent gets its credentials.

import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampDate, timestampFromDate } from '@bufbuild/protobuf/wkt'

import { type Caller, requestIdOf } from './call.js'
import { Certificate, Credential } from './credential.js'
import { DpopKey, Prover } from './dpop.js'
import { type Duration, milliseconds, toWire } from './duration.js'
import { errorOf, NotFoundError, RequestError, TaskEndedError } from './errors.js'
import { CredentialFetch } from './fetch.js'
import {
  type BeginTaskRequestSchema,
  HeartbeatRequestSchema,
  TaskService,
} from './gen/leasehold/v1/task_service_pb.js'
import { toJson } from './grant.js'
import { Heartbeats } from './heartbeats.js'
import type { Terms } from './minting.js'
import type {
  AdvanceOptions,
  CallOptions,
  CertificateOptions,
  ChangeOptions,
  CredentialOptions,
  DelegateOptions,
  EndOptions,
  NewTask,
} from './options.js'
import { Renewal } from './renewal.js'
import { patienceMs, type Revocation, type WaitOptions, waitToWire } from './revocation.js'
import {
  type Changed,
  changed,
  isEnded,
  type TaskInfo,
  taskInfo,
  type TaskState,
} from './task-info.js'
import { TlsFiles } from './tls.js'
import { watch } from './watch.js'

/**
 * Where a client keeps what it must close.
 *
 * @internal
 */
export interface Keeper {
  readonly caller: Caller
  readonly renewals: Set<Renewal>
  readonly watches: Set<AbortController>
}

export class Task implements AsyncDisposable {
  readonly id: string
  readonly #keeper: Keeper
  readonly #over = new AbortController()
  /** Whether it ends with the scope that it was begun in. */
  readonly #owned: boolean
  #info: TaskInfo | undefined
  #revocation: Revocation | undefined
  #endedHere = false

  /** @internal */
  constructor(keeper: Keeper, id: string, begun?: TaskInfo) {
    this.id = id
    this.#keeper = keeper
    this.#owned = begun !== undefined
    this.#info = begun
  }

  /** As the broker last told it; nothing before it was asked. */
  get info(): TaskInfo | undefined {
    return this.#info
  }

  /** Where it stood when the broker was last asked. */
  get state(): TaskState | undefined {
    return this.#info?.state
  }

  /** The epoch that it was in when the broker was last asked. */
  get epoch(): number | undefined {
    return this.#info?.epoch
  }

  /** How far the last change by this object was that killed its credentials; nothing before there was one. */
  get revocation(): Revocation | undefined {
    return this.#revocation
  }

  /**
   * Aborts when this object has learned that the task is over; its reason is the error that says why. It learns it at once while
   * it is watched: see `follow`.
   */
  get signal(): AbortSignal {
    return this.#over.signal
  }

  /** Asks how it stands now. */
  async refresh(options?: CallOptions): Promise<TaskInfo> {
    const answer = await this.#keeper.caller.call(
      TaskService.method.getTask,
      { taskId: this.id },
      options,
    )
    return this.#seen(taskInfo(answer.task))
  }

  /** Says that it changed: its credentials die, and it goes on in a new epoch. Waits as `complete` does. */
  async advance(options: AdvanceOptions): Promise<Changed> {
    const { grant, step, checkpoint, agent } = options
    const input = {
      requestId: requestIdOf(options),
      taskId: this.id,
      expectedEpoch: this.#expected(options.expectedEpoch),
      ...(grant !== undefined && { authorizationDetails: toJson(grant) }),
      ...(step !== undefined && { step }),
      ...(checkpoint !== undefined && { checkpoint }),
      ...(agent !== undefined && { agent }),
      keepChildren: options.keepChildren ?? false,
      ...waitToWire(options),
    }
    return this.#change(options, (caller, how) =>
      caller.call(TaskService.method.advanceTask, input, how),
    )
  }

  /** Stops it and all below it; its credentials die; it can go on. Waits as `complete` does. */
  async suspend(options: EndOptions = {}): Promise<Changed> {
    const input = this.#end(options)
    return this.#change(options, (caller, how) =>
      caller.call(TaskService.method.suspendTask, input, how),
    )
  }

  /** Lets it go on after a suspension. */
  async resume(
    options: ChangeOptions & { readonly expectedEpoch?: number | undefined } = {},
  ): Promise<TaskInfo> {
    const expectedEpoch = this.#expected(options.expectedEpoch)
    const input = { requestId: requestIdOf(options), taskId: this.id, expectedEpoch }
    const answer = await this.#keeper.caller.call(TaskService.method.resumeTask, input, options)
    return this.#seen(taskInfo(answer.task))
  }

  /**
   * Ends it as done. When this answers, nothing of it is issued any more; and it is as far as `waitFor` says, or the answer names
   * who is missing, and until when.
   */
  async complete(options: EndOptions = {}): Promise<Changed> {
    const input = this.#end(options)
    const change = await this.#change(options, (caller, how) =>
      caller.call(TaskService.method.completeTask, input, how),
    )
    this.#endedHere = true
    return change
  }

  /** Ends it as failed; waits as `complete` does. */
  async fail(options: EndOptions = {}): Promise<Changed> {
    const input = this.#end(options)
    const change = await this.#change(options, (caller, how) =>
      caller.call(TaskService.method.failTask, input, how),
    )
    this.#endedHere = true
    return change
  }

  /** Ends it as not wanted any more; waits as `complete` does. */
  async cancel(options: EndOptions = {}): Promise<Changed> {
    const input = this.#end(options)
    const change = await this.#change(options, (caller, how) =>
      caller.call(TaskService.method.cancelTask, input, how),
    )
    this.#endedHere = true
    return change
  }

  /**
   * The task as it is, then again whenever it or one above it changed; its end is the last of it. Where the broker stops or is away
   * it is watched again, and the next thing told is what was missed. `timeoutMs` bounds what the first answer takes; after that,
   * an error means that nothing more will be told. Whoever breaks out of the loop, or aborts `signal`, watches no more.
   */
  async *watch(options: CallOptions = {}): AsyncGenerator<TaskInfo, void, undefined> {
    const { caller, watches } = this.#keeper
    const stop = new AbortController()
    const { signal } = options
    const any = signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal])
    watches.add(stop)
    try {
      for await (const info of watch(caller, this.id, { ...options, signal: any })) {
        yield this.#seen(info)
      }
    } finally {
      watches.delete(stop)
    }
  }

  /**
   * Watches it in the background until it is disposed of: `signal` aborts as soon as the task is over, whoever ended it; and also
   * when nobody will tell any more, with the error that says why. A process does not end while it is watched.
   */
  follow(): Disposable {
    const stop = new AbortController()
    const hear = async () => {
      for await (const { state } of this.watch({ signal: stop.signal })) if (isEnded(state)) return
    }
    hear().catch((error: unknown) => {
      if (!stop.signal.aborted) this.#over.abort(error)
    })
    return {
      [Symbol.dispose]: () => {
        stop.abort()
      },
    }
  }

  /** Says that the orchestrator is still there. The answer is when silence acts, if a heartbeat is expected at all. */
  async heartbeat(options: ChangeOptions = {}): Promise<Date | undefined> {
    const input = create(HeartbeatRequestSchema, {
      requestId: requestIdOf(options),
      taskId: this.id,
    })
    const answer = await this.#keeper.caller.call(TaskService.method.heartbeat, input, options)
    return answer.silenceTime && timestampDate(answer.silenceTime)
  }

  /** Sends heartbeats in the background until it is disposed of, or the task is over: then `signal` aborts. */
  heartbeats(interval: Duration): Disposable {
    const beat = () => this.heartbeat({ signal: this.#over.signal })
    return new Heartbeats(milliseconds('interval', interval), beat, (error) => {
      if (error instanceof TaskEndedError || error instanceof NotFoundError) this.#over.abort(error)
      return !this.#over.signal.aborted
    })
  }

  /** Begins a child, for another agent, with no more than this one has. */
  async delegate(options: DelegateOptions): Promise<Task> {
    const { requestId, ...rest } = newTask(options)
    const input = {
      requestId,
      parentTaskId: this.id,
      expectedEpoch: this.#expected(options.expectedEpoch),
      tier: options.tier ?? '',
      ...rest,
    }
    const answer = await this.#keeper.caller.call(TaskService.method.delegateTask, input, options)
    const child = taskInfo(answer.task)
    return new Task(this.#keeper, child.id, child)
  }

  /** Gets a token for one resource, and renews it for as long as the task lives. For the task's agent. */
  async credential(options: CredentialOptions): Promise<Credential> {
    const { proof } = options
    const dpop = proof === 'dpop' ? new DpopKey() : proof instanceof DpopKey ? proof : undefined
    const prover = dpop && new Prover(dpop)
    const terms = this.#terms('token', options, proof instanceof DpopKey ? 'dpop' : proof, prover)
    const { first, renewal, fetch } = await this.#begin(terms, options)
    return new Credential(this.id, terms.audience, first, renewal, fetch)
  }

  /** Gets an X.509-SVID, and renews it for as long as the task lives. For the task's agent. */
  async certificate(options: CertificateOptions = {}): Promise<Certificate> {
    const terms = this.#terms('certificate', options, undefined)
    const { first, renewal, fetch } = await this.#begin(terms, options)
    return new Certificate(this.id, terms.audience, first, renewal, fetch)
  }

  /** Cancels it, if it was begun in this scope and has not ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#owned || this.#over.signal.aborted) return
    await this.cancel({ reason: 'left' }).catch((error: unknown) => {
      if (!(error instanceof TaskEndedError)) throw error
    })
  }

  /**
   * Whether it was ended by this object, and not by somebody else.
   *
   * @internal
   */
  get isEndedHere(): boolean {
    return this.#endedHere
  }

  #terms(
    kind: Terms['kind'],
    options: CertificateOptions,
    proof: Terms['proof'],
    prover?: Prover,
  ): Terms {
    const { audience = '', grant, ttl, expectedEpoch } = options
    return { taskId: this.id, kind, audience, grant, ttl, expectedEpoch, proof, prover }
  }

  async #begin(terms: Terms, { ca, origins, signal, timeoutMs }: CertificateOptions) {
    const { caller, renewals } = this.#keeper
    const pem =
      ca === undefined
        ? (await caller.connections.get()).tls.ca
        : (await new TlsFiles(ca, undefined).read()).ca
    const made = await Renewal.begin(caller, terms, { signal, timeoutMs }, (renewal) =>
      renewals.delete(renewal),
    )
    renewals.add(made.renewal)
    return { ...made, fetch: new CredentialFetch(made.renewal, pem, origins) }
  }

  #end(options: EndOptions) {
    const [requestId, reason] = [requestIdOf(options), options.reason ?? '']
    return { requestId, taskId: this.id, reason, ...waitToWire(options) }
  }

  #expected(epoch = this.#info?.epoch): bigint {
    if (epoch === undefined) {
      throw RequestError.of(
        'expectedEpoch',
        'which epoch do you mean? `refresh` the task first, or say it',
      )
    }
    return BigInt(epoch)
  }

  async #change(
    options: CallOptions & WaitOptions,
    call: (caller: Caller, how: CallOptions) => Promise<Parameters<typeof changed>[0]>,
  ): Promise<Changed> {
    const { caller } = this.#keeper
    // The broker answers once it is so far.
    const timeoutMs = (options.timeoutMs ?? caller.timeoutMs) + patienceMs(options)
    const change = changed(await call(caller, { signal: options.signal, timeoutMs }))
    const { task, ...revocation } = change
    this.#seen(task)
    this.#revocation = revocation
    return change
  }

  #seen(info: TaskInfo): TaskInfo {
    this.#info = info
    if (isEnded(info.state)) {
      const message = `the task has ended as \`${info.state}\``
      this.#over.abort(errorOf({ reason: 'TASK_ENDED', code: 'FAILED_PRECONDITION', message }))
    }
    return info
  }
}

/**
 * What begin and delegate have in common, as the contract has it.
 *
 * @internal
 */
export function newTask(options: NewTask) {
  const { agent, grant, purpose, owner, labels, deadline, step, checkpoint, instances } = options
  const duration = toWire('duration', options.duration)
  const heartbeatInterval = toWire('heartbeatInterval', options.heartbeatInterval)
  return {
    requestId: requestIdOf(options),
    agent,
    purpose: purpose ?? '',
    owner: owner ?? '',
    labels: { ...labels },
    authorizationDetails: toJson(grant),
    ...(deadline && { deadline: timestampFromDate(deadline) }),
    ...(duration && { duration }),
    ...(heartbeatInterval && { heartbeatInterval }),
    step: step ?? '',
    checkpoint: checkpoint ?? new Uint8Array(),
    instances: instances ?? 0,
  } satisfies MessageInitShape<typeof BeginTaskRequestSchema>
}
