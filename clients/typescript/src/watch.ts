// A task as it is, and whatever becomes of it, watched again where a watch was lost.

import { setTimeout as sleep } from 'node:timers/promises'

import { type Caller, waitAfter } from './call.js'
import { errorOf, LeaseholdError } from './errors.js'
import { TaskService } from './gen/leasehold/v1/task_service_pb.js'
import type { CallOptions } from './options.js'
import { isEnded, type TaskInfo, taskInfo } from './task-info.js'
import { Watching } from './watching.js'

/** The task as it is, then again whenever it changed; its end is the last of it. */
export async function* watch(
  caller: Caller,
  taskId: string,
  { signal, timeoutMs = caller.timeoutMs }: CallOptions,
): AsyncGenerator<TaskInfo, void, undefined> {
  const began = performance.now()
  const watching = new Watching((error, failures) => {
    const wait = waitAfter(error, failures)
    const left = timeoutMs - (performance.now() - began)
    return wait !== undefined && wait < left ? wait : undefined
  })
  for (;;) {
    try {
      const answers = caller.stream(TaskService.method.watchTask, { taskId }, { signal, timeoutMs })
      for await (const answer of answers) {
        const info = taskInfo(answer.task)
        if (watching.hear(info)) yield info
        if (isEnded(info.state)) return
      }
      throw ended()
    } catch (error) {
      signal?.throwIfAborted()
      if (!(error instanceof LeaseholdError)) throw error
      const wait = watching.lose(error)
      await sleep(wait, undefined, { signal }).catch(() => signal?.throwIfAborted())
    }
  }
}

/** It ended, and its task did not. */
function ended(): LeaseholdError {
  const message = 'the broker ended the watch without a word'
  return errorOf({ reason: 'INTERNAL', code: 'INTERNAL', message })
}
