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
import { type Changed, changed, type TaskInfo, taskInfo, type TaskState } from './task-info.js'
import { TlsFiles } from './tls.js'

/**
 * Where a client keeps what it must close.
 *
 * @internal
 */
export interface Keeper {
  readonly caller: Caller
  readonly renewals: Set<Renewal>
}

export class Task implements AsyncDisposable {
  readonly id: string
  readonly #keeper: Keeper
  readonly #over = new AbortController()
  /** Whether it ends with the scope that it was begun in. */
  readonly #owned: boolean
  #info: TaskInfo | undefined
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

  /** Aborts when this object has learned that the task is over; its reason is the error that says why. */
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

  /** Says that it changed: its credentials die, and it goes on in a new epoch. */
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
    }
    const answer = await this.#keeper.caller.call(TaskService.method.advanceTask, input, options)
    return this.#changed(changed(answer))
  }

  /** Stops it and all below it; its credentials die; it can go on. */
  async suspend(options: EndOptions = {}): Promise<Changed> {
    const answer = await this.#keeper.caller.call(
      TaskService.method.suspendTask,
      this.#end(options),
      options,
    )
    return this.#changed(changed(answer))
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

  /** Ends it as done. */
  async complete(options: EndOptions = {}): Promise<Changed> {
    const answer = await this.#keeper.caller.call(
      TaskService.method.completeTask,
      this.#end(options),
      options,
    )
    this.#endedHere = true
    return this.#changed(changed(answer))
  }

  /** Ends it as failed. */
  async fail(options: EndOptions = {}): Promise<Changed> {
    const answer = await this.#keeper.caller.call(
      TaskService.method.failTask,
      this.#end(options),
      options,
    )
    this.#endedHere = true
    return this.#changed(changed(answer))
  }

  /** Ends it as not wanted any more. */
  async cancel(options: EndOptions = {}): Promise<Changed> {
    const answer = await this.#keeper.caller.call(
      TaskService.method.cancelTask,
      this.#end(options),
      options,
    )
    this.#endedHere = true
    return this.#changed(changed(answer))
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
    return { requestId: requestIdOf(options), taskId: this.id, reason: options.reason ?? '' }
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

  #changed(change: Changed): Changed {
    this.#seen(change.task)
    return change
  }

  #seen(info: TaskInfo): TaskInfo {
    this.#info = info
    if (info.state !== 'active' && info.state !== 'suspended') {
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
