"""What the broker answers with: tasks as they stood when it answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from ._times import instant, span
from .enforcement import Revocation, revocation_of
from .errors import request_error
from .grant import Access, parse_grant
from .v1 import types_pb2 as wire

__all__ = ["ChangedTask", "Introspection", "TaskInfo", "TaskState"]


class TaskState(str, Enum):
    """Where a task stands. Ended states are final."""

    #: Credentials may be issued.
    ACTIVE = "active"
    #: Nothing is issued and nothing verifies, here and below, until it is resumed.
    SUSPENDED = "suspended"
    #: Ended by `complete`.
    COMPLETED = "completed"
    #: Ended by `fail`, or by silence where the tier says so.
    FAILED = "failed"
    #: Ended by `cancel`, or because an ancestor ended.
    CANCELLED = "cancelled"
    #: Ended by its deadline.
    EXPIRED = "expired"
    #: Ended by an operator.
    REVOKED = "revoked"
    #: One that this version of the package does not know.
    UNKNOWN = "unknown"

    @property
    def is_ended(self) -> bool:
        """Whether the task is over for good."""
        return self not in (TaskState.ACTIVE, TaskState.SUSPENDED, TaskState.UNKNOWN)


@dataclass(frozen=True)
class TaskInfo:
    """A task, as it stood when the broker answered."""

    id: str
    #: The root of this task's tree; the task itself if it is a root.
    root_id: str
    parent_id: str | None
    #: The state that counts: that of an ancestor where it is worse.
    state: TaskState
    #: The ancestor whose end or suspension made `state` what it is.
    cause_id: str | None
    #: Raised by every change; credentials of earlier epochs are dead.
    epoch: int
    branch: int
    #: The role entry of the orchestrator that began the tree.
    orchestrator: str
    #: A canonical principal, or the pattern of one agent class.
    agent: str
    agent_class: str
    purpose: str
    owner: str
    labels: Mapping[str, str]
    #: RFC 9396, as JSON; `grant` reads it.
    authorization_details: str
    tier: str
    #: The orchestrator's label for where in the task the agent is.
    step: str
    #: Opaque to the broker, given to the agent.
    checkpoint: bytes
    begin_time: datetime
    update_time: datetime
    deadline: datetime
    end_time: datetime | None
    heartbeat_interval: timedelta | None
    #: How many instances of the agent may hold credentials of the task.
    instances: int
    depth: int
    live_children: int
    #: Why it ended or was suspended, as the one who did it said.
    reason: str
    suspended_by_operator: bool

    @property
    def grant(self) -> tuple[Access, ...]:
        """What its credentials may at most allow. `ValueError` if this version does not know a type in it."""
        return parse_grant(json.loads(self.authorization_details or "[]"))


@dataclass(frozen=True)
class ChangedTask(TaskInfo):
    """A task after a change that killed its credentials, and how far that was."""

    revocation: Revocation


@dataclass(frozen=True)
class Introspection:
    """Whether a credential was active when the broker answered."""

    active: bool
    #: Its claims, with the names of RFC 7662; empty if it is not active.
    claims: Mapping[str, Any]


def task_info(task: wire.Task) -> TaskInfo:
    """A task of the contract."""
    return TaskInfo(
        id=task.task_id,
        root_id=task.root_task_id,
        parent_id=task.parent_task_id or None,
        state=_STATES.get(task.state, TaskState.UNKNOWN),
        cause_id=task.cause_task_id or None,
        epoch=task.epoch,
        branch=task.branch,
        orchestrator=task.orchestrator,
        agent=task.agent,
        agent_class=task.agent_class,
        purpose=task.purpose,
        owner=task.owner,
        labels=dict(task.labels),
        authorization_details=task.authorization_details,
        tier=task.tier,
        step=task.step,
        checkpoint=task.checkpoint,
        begin_time=instant(task.begin_time),
        update_time=instant(task.update_time),
        deadline=instant(task.deadline),
        end_time=instant(task.end_time) if task.HasField("end_time") else None,
        heartbeat_interval=(
            span(task.heartbeat_interval) if task.HasField("heartbeat_interval") else None
        ),
        instances=task.instances,
        depth=task.depth,
        live_children=task.live_children,
        reason=task.reason,
        suspended_by_operator=task.suspended_by_operator,
    )


def changed_task(task: wire.Task, revocation: wire.Revocation) -> ChangedTask:
    """A task of the contract that changed."""
    return ChangedTask(**vars(task_info(task)), revocation=revocation_of(revocation))


def state_to_wire(state: TaskState) -> wire.TaskState:
    """A state as the contract has it."""
    for number, known in _STATES.items():
        if known is state:
            return number
    raise request_error("state", f"`{state.value}` is no state to ask for")


_STATES: dict[wire.TaskState, TaskState] = {
    wire.TASK_STATE_ACTIVE: TaskState.ACTIVE,
    wire.TASK_STATE_SUSPENDED: TaskState.SUSPENDED,
    wire.TASK_STATE_COMPLETED: TaskState.COMPLETED,
    wire.TASK_STATE_FAILED: TaskState.FAILED,
    wire.TASK_STATE_CANCELLED: TaskState.CANCELLED,
    wire.TASK_STATE_EXPIRED: TaskState.EXPIRED,
    wire.TASK_STATE_REVOKED: TaskState.REVOKED,
}
