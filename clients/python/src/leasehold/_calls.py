"""The verbs of tasks, from arguments to a call: what the clients with and without `await` have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from . import _rpc
from ._rpc import Call, Rpc, request_id_of
from ._times import Length, duration, instant, timestamp
from .enforcement import Waiting
from .errors import request_error
from .grant import Grant, to_json
from .models import (
    ChangedTask,
    Introspection,
    TaskInfo,
    TaskState,
    changed_task,
    state_to_wire,
    task_info,
)
from .v1 import task_service_pb2 as tasks
from .v1 import verification_service_pb2 as verification

RequestId: TypeAlias = UUID | str | None
TaskCall: TypeAlias = Call[Any, TaskInfo]
#: One that kills credentials.
ChangeCall: TypeAlias = Call[Any, ChangedTask]

PAGE_SIZE = 100


def new_task(
    *,
    agent: str,
    grant: Grant,
    purpose: str,
    owner: str,
    labels: Mapping[str, str] | None,
    deadline: datetime | None,
    duration_: Length | None,
    heartbeat_interval: Length | None,
    step: str,
    checkpoint: bytes,
    instances: int,
    request_id: RequestId,
) -> dict[str, Any]:
    """What begin and delegate have in common."""
    if deadline is not None and duration_ is not None:
        raise request_error("duration", "is given beside `deadline`; give one of them")
    return {
        "request_id": request_id_of(request_id),
        "agent": agent,
        "authorization_details": to_json(grant),
        "purpose": purpose,
        "owner": owner,
        "labels": dict(labels or {}),
        "deadline": timestamp("deadline", deadline),
        "duration": duration("duration", duration_),
        "heartbeat_interval": duration("heartbeat_interval", heartbeat_interval),
        "step": step,
        "checkpoint": checkpoint,
        "instances": instances,
    }


def begin(tier: str, terms: Mapping[str, Any]) -> TaskCall:
    """Begins a root task."""
    return Call(_rpc.BEGIN, tasks.BeginTaskRequest(tier=tier, **terms), _task_of)


def delegate(parent: TaskInfo, epoch: int | None, tier: str, terms: Mapping[str, Any]) -> TaskCall:
    """Begins a child."""
    request = tasks.DelegateTaskRequest(
        parent_task_id=parent.id, expected_epoch=epoch or parent.epoch, tier=tier, **terms
    )
    return Call(_rpc.DELEGATE, request, _task_of)


def advance(
    task: TaskInfo,
    *,
    grant: Grant | None,
    step: str | None,
    checkpoint: bytes | None,
    agent: str | None,
    keep_children: bool,
    expected_epoch: int | None,
    request_id: RequestId,
    waiting: Waiting,
) -> ChangeCall:
    """Says that the task changed."""
    request = tasks.AdvanceTaskRequest(
        request_id=request_id_of(request_id),
        task_id=task.id,
        expected_epoch=expected_epoch or task.epoch,
        authorization_details=None if grant is None else to_json(grant),
        step=step,
        checkpoint=checkpoint,
        agent=agent,
        keep_children=keep_children,
        **waiting.fields(),
    )
    return Call(_rpc.ADVANCE, request, _changed, patience=waiting.seconds)


def resume(task: TaskInfo, expected_epoch: int | None, request_id: RequestId) -> TaskCall:
    """Lets a suspended task go on."""
    request = tasks.ResumeTaskRequest(
        request_id=request_id_of(request_id),
        task_id=task.id,
        expected_epoch=expected_epoch or task.epoch,
    )
    return Call(_rpc.RESUME, request, _task_of)


def suspend(task_id: str, reason: str, request_id: RequestId, waiting: Waiting) -> ChangeCall:
    """Stops the task; it can go on."""
    request = tasks.SuspendTaskRequest
    return _stop(_rpc.SUSPEND, request, waiting, (task_id, reason, request_id))


def complete(task_id: str, reason: str, request_id: RequestId, waiting: Waiting) -> ChangeCall:
    """Ends the task as done."""
    request = tasks.CompleteTaskRequest
    return _stop(_rpc.COMPLETE, request, waiting, (task_id, reason, request_id))


def fail(task_id: str, reason: str, request_id: RequestId, waiting: Waiting) -> ChangeCall:
    """Ends the task as failed."""
    request = tasks.FailTaskRequest
    return _stop(_rpc.FAIL, request, waiting, (task_id, reason, request_id))


def cancel(task_id: str, reason: str, request_id: RequestId, waiting: Waiting) -> ChangeCall:
    """Ends the task as not wanted any more."""
    request = tasks.CancelTaskRequest
    return _stop(_rpc.CANCEL, request, waiting, (task_id, reason, request_id))


def _stop(
    rpc: Rpc[Any], kind: type[Any], waiting: Waiting, about: tuple[str, str, RequestId]
) -> ChangeCall:
    task_id, reason, given = about
    request_id = request_id_of(given)
    request = kind(request_id=request_id, task_id=task_id, reason=reason, **waiting.fields())
    return Call(rpc, request, _changed, patience=waiting.seconds)


def heartbeat(task_id: str) -> Call[Any, datetime]:
    """Says that the orchestrator is still there."""
    request = tasks.HeartbeatRequest(request_id=request_id_of(None), task_id=task_id)
    return Call(_rpc.HEARTBEAT, request, lambda answer: instant(answer.silence_time))


def get(task_id: str) -> TaskCall:
    """One task."""
    return Call(_rpc.GET, tasks.GetTaskRequest(task_id=task_id), _task_of)


def watch(task_id: str) -> TaskCall:
    """One task, and what becomes of it."""
    return Call(_rpc.WATCH, tasks.WatchTaskRequest(task_id=task_id), _task_of)


def list_page(state: TaskState | None, token: str) -> Call[Any, tuple[list[TaskInfo], str]]:
    """One page of the tasks that the caller may see, and where the next one begins; empty on the last."""

    def page(answer: tasks.ListTasksResponse) -> tuple[list[TaskInfo], str]:
        return [task_info(task) for task in answer.tasks], answer.next_page_token

    request = tasks.ListTasksRequest(
        page_size=PAGE_SIZE,
        page_token=token,
        state=None if state is None else state_to_wire(state),
    )
    return Call(_rpc.LIST, request, page)


def introspect(token: str | None, certificate: bytes | None) -> Call[Any, Introspection]:
    """Asks whether a credential is active."""
    if (token is None) == (certificate is None):
        raise request_error("token", "give a `token`, or a `certificate`, and not both")

    def told(answer: verification.IntrospectCredentialResponse) -> Introspection:
        return Introspection(answer.active, json.loads(answer.claims) if answer.active else {})

    request = verification.IntrospectCredentialRequest(token=token, certificate_der=certificate)
    return Call(_rpc.INTROSPECT, request, told)


def _task_of(answer: Any) -> TaskInfo:
    return task_info(answer.task)


def _changed(answer: Any) -> ChangedTask:
    return changed_task(answer.task, answer.revocation)
