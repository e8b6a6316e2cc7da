// The way in: a broker, who we are, and the tasks there.

import { inspect } from 'node:util'

import { Caller } from './call.js'
import { Connections } from './connection.js'
import { RequestError, TaskEndedError } from './errors.js'
import { TaskService } from './gen/leasehold/v1/task_service_pb.js'
import type { Identity } from './identity.js'
import type { BeginOptions, CallOptions } from './options.js'
import { closed, type Renewal } from './renewal.js'
import { type WaitOptions, waitToWire } from './revocation.js'
import { newTask, Task } from './task.js'
import { stateToWire, type TaskInfo, taskInfo, type TaskState } from './task-info.js'

const TIMEOUT_MS = 10_000
const PAGE_SIZE = 100

/**
 * How to reach a broker. What is left out comes from the environment, by the names that the command line uses:
 * `LEASEHOLD_BROKER`, `LEASEHOLD_CA`, and `LEASEHOLD_CERT` with `LEASEHOLD_KEY`, or `LEASEHOLD_TOKEN_FILE`.
 */
export interface ClientOptions {
  /** `https://`, host and port of the broker's gRPC; default: `https://127.0.0.1:7700`. */
  readonly address?: string | undefined
  /** File with the CA that issued the broker's certificate, in PEM; default: the roots of Node. */
  readonly ca?: string | undefined
  /** Who we are. */
  readonly identity?: Identity | undefined
  /** How long a call may take, tries and waits together; default: 10 s. */
  readonly timeoutMs?: number | undefined
}

/** A task that ends with the work that is done in it. */
export interface WithTaskOptions extends BeginOptions, WaitOptions {
  /** What the task's record says of an error; default: its class alone, since a message may hold a secret. */
  readonly reasonOf?: ((error: unknown) => string) | undefined
}

/** Which tasks are listed. */
export interface ListOptions extends CallOptions {
  /** Only those in this state; default: all. */
  readonly state?: TaskState | undefined
}

export class Client implements Disposable {
  readonly address: string
  readonly #caller: Caller
  readonly #renewals = new Set<Renewal>()
  readonly #watches = new Set<AbortController>()

  constructor({ address, ca, identity, timeoutMs = TIMEOUT_MS }: ClientOptions = {}) {
    const { env } = process
    const connections = new Connections({
      address: address ?? env['LEASEHOLD_BROKER'] ?? 'https://127.0.0.1:7700',
      ca: ca ?? env['LEASEHOLD_CA'],
      identity: identity ?? identityOf(env),
    })
    this.address = connections.address
    this.#caller = new Caller(connections, timeoutMs)
  }

  /** Begins a root task for an agent. For orchestrators. */
  async begin(options: BeginOptions): Promise<Task> {
    const input = { ...newTask(options), tier: options.tier }
    const answer = await this.#caller.call(TaskService.method.beginTask, input, options)
    const info = taskInfo(answer.task)
    return new Task(this.#keeper, info.id, info)
  }

  /**
   * Begins a task, has `work` done in it, and ends it: completed when that is done, failed when it throws. Where a heartbeat is
   * expected it is sent until then. `waitFor` and `waitTimeout` say what its end waits for; how far it came is in the task's
   * `revocation` afterwards.
   */
  async withTask<T>(options: WithTaskOptions, work: (task: Task) => T | Promise<T>): Promise<T> {
    // What is wrong is said before anything is begun.
    waitToWire(options)
    const task = await this.begin(options)
    const beats =
      options.heartbeatInterval === undefined
        ? undefined
        : task.heartbeats(options.heartbeatInterval)
    try {
      const result = await failing(task, work, options)
      if (!task.isEndedHere) await task.complete(waitOf(options))
      return result
    } finally {
      beats?.[Symbol.dispose]()
    }
  }

  /** A task that somebody else began, by its id. Nothing is asked yet. */
  task(id: string): Task {
    return new Task(this.#keeper, id)
  }

  /** A task that somebody else began, as it stands now. */
  async get(id: string, options?: CallOptions): Promise<Task> {
    const task = this.task(id)
    await task.refresh(options)
    return task
  }

  /** The tasks that we may see. */
  async *list({ state, ...options }: ListOptions = {}): AsyncGenerator<TaskInfo, void, undefined> {
    const filter = state === undefined ? {} : { state: stateToWire(state) }
    let pageToken = ''
    do {
      const input = { ...filter, pageSize: PAGE_SIZE, pageToken }
      const page = await this.#caller.call(TaskService.method.listTasks, input, options)
      for (const task of page.tasks) yield taskInfo(task)
      pageToken = page.nextPageToken
    } while (pageToken !== '')
  }

  /** Stops renewing what was issued through it and watching, and closes its connections. */
  close(): void {
    for (const renewal of [...this.#renewals]) renewal.stop(closed('the credential'))
    for (const watch of this.#watches) watch.abort(closed('the client'))
    this.#caller.connections.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  [inspect.custom](): string {
    return `Client ${inspect({ address: this.address })}`
  }

  get #keeper() {
    return { caller: this.#caller, renewals: this.#renewals, watches: this.#watches }
  }
}

/** Does the work; if it throws, the task fails. */
async function failing<T>(
  task: Task,
  work: (task: Task) => T | Promise<T>,
  options: WithTaskOptions,
): Promise<T> {
  try {
    return await work(task)
  } catch (error) {
    if (!task.isEndedHere) {
      const reason = (options.reasonOf ?? classOf)(error)
      await task.fail({ reason, ...waitOf(options) }).catch((left: unknown) => {
        if (left instanceof TaskEndedError) return
        const message = `the work failed, and its task \`${task.id}\` could not be ended`
        throw new AggregateError([error, left], message)
      })
    }
    throw error
  }
}

function waitOf({ waitFor, waitTimeout }: WaitOptions): WaitOptions {
  return { waitFor, waitTimeout }
}

function classOf(error: unknown): string {
  return error instanceof Error ? error.name : typeof error
}

function identityOf(environment: NodeJS.ProcessEnv): Identity {
  const { LEASEHOLD_CERT: cert, LEASEHOLD_KEY: key, LEASEHOLD_TOKEN_FILE: tokenFile } = environment
  if (cert !== undefined && key !== undefined && tokenFile === undefined) return { cert, key }
  if (tokenFile !== undefined && cert === undefined && key === undefined) return { tokenFile }
  const problem =
    'set `LEASEHOLD_CERT` and `LEASEHOLD_KEY`, or `LEASEHOLD_TOKEN_FILE`, and not both'
  throw RequestError.of('identity', problem)
}
