// A task as the broker tells it.

import { timestampDate } from '@bufbuild/protobuf/wkt'

import { RequestError } from './errors.js'
import {
  type Revocation as WireRevocation,
  TaskState as WireState,
  type Task as WireTask,
} from './gen/leasehold/v1/types_pb.js'
import type { ResourceAccess } from './grant.js'
import { date, lacking } from './lacking.js'
import { type Revocation, revocation } from './revocation.js'

/** Where a task stands. All but the first two are final. */
export type TaskState =
  'active' | 'suspended' | 'completed' | 'failed' | 'cancelled' | 'expired' | 'revoked'

/** A task when the broker answered. */
export interface TaskInfo {
  readonly id: string
  /** The root of its tree; itself if it is a root. */
  readonly rootId: string
  /** Nothing for a root. */
  readonly parentId: string | undefined
  /** The effective state: that of an ancestor counts where it is worse. */
  readonly state: TaskState
  /** The ancestor that made the state what it is. */
  readonly causeId: string | undefined
  /** Raised by every change; the task's credentials of earlier epochs are dead. */
  readonly epoch: number
  /** The role entry of the orchestrator that began the tree. */
  readonly orchestrator: string
  readonly agent: string
  readonly agentClass: string
  readonly purpose: string
  readonly owner: string
  readonly labels: Readonly<Record<string, string>>
  readonly grant: readonly ResourceAccess[]
  readonly tier: string
  readonly step: string
  readonly checkpoint: Uint8Array
  readonly beginTime: Date
  readonly deadline: Date
  readonly endTime: Date | undefined
  readonly instances: number
  readonly depth: number
  readonly liveChildren: number
  /** Why it ended or was suspended, as the one who did it said. */
  readonly reason: string
  /** Only an operator resumes it. */
  readonly suspendedByOperator: boolean
}

/** A change that killed credentials, and how far that is. */
export interface Changed extends Revocation {
  readonly task: TaskInfo
}

/** The words of the contract's states. */
const STATES: readonly (readonly [WireState, TaskState])[] = [
  [WireState.ACTIVE, 'active'],
  [WireState.SUSPENDED, 'suspended'],
  [WireState.COMPLETED, 'completed'],
  [WireState.FAILED, 'failed'],
  [WireState.CANCELLED, 'cancelled'],
  [WireState.EXPIRED, 'expired'],
  [WireState.REVOKED, 'revoked'],
]

/** A state as the contract has it. */
export function stateToWire(state: TaskState): WireState {
  const found = STATES.find(([, word]) => word === state)
  if (found === undefined) {
    throw RequestError.of(
      'state',
      `\`${state}\` is none; there are ${STATES.map(([, word]) => `\`${word}\``).join(', ')}`,
    )
  }
  return found[0]
}

/** A task, of an answer. */
export function taskInfo(task: WireTask | undefined): TaskInfo {
  if (task === undefined) throw lacking('task')
  const state = STATES.find(([wire]) => wire === task.state)?.[1]
  if (state === undefined) throw lacking('task.state')
  return {
    id: task.taskId,
    rootId: task.rootTaskId,
    parentId: task.parentTaskId || undefined,
    state,
    causeId: task.causeTaskId || undefined,
    epoch: Number(task.epoch),
    orchestrator: task.orchestrator,
    agent: task.agent,
    agentClass: task.agentClass,
    purpose: task.purpose,
    owner: task.owner,
    labels: task.labels,
    grant: JSON.parse(task.authorizationDetails) as readonly ResourceAccess[],
    tier: task.tier,
    step: task.step,
    checkpoint: task.checkpoint,
    beginTime: date('task.begin_time', task.beginTime),
    deadline: date('task.deadline', task.deadline),
    endTime: task.endTime && timestampDate(task.endTime),
    instances: task.instances,
    depth: task.depth,
    liveChildren: task.liveChildren,
    reason: task.reason,
    suspendedByOperator: task.suspendedByOperator,
  }
}

/** A change, of an answer. */
export function changed(answer: {
  task?: WireTask | undefined
  revocation?: WireRevocation | undefined
}): Changed {
  return { task: taskInfo(answer.task), ...revocation(answer.revocation) }
}

/** Whether it is over for good. */
export function isEnded(state: TaskState): boolean {
  return state !== 'active' && state !== 'suspended'
}
