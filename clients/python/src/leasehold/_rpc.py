"""The calls of the contract that this package makes, and a call that is ready to be sent."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from .dpop import Prover
from .errors import request_error
from .v1 import credential_service_pb2 as credentials
from .v1 import task_service_pb2 as tasks
from .v1 import verification_service_pb2 as verification

Answer = TypeVar("Answer", bound=Message)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Rpc(Generic[Answer]):
    """One RPC of the contract."""

    path: str
    answer: type[Answer]
    #: Whether it has any number of answers, as they come.
    is_stream: bool = False


def _task(name: str, answer: type[Answer]) -> Rpc[Answer]:
    return Rpc(f"/leasehold.v1.TaskService/{name}", answer)


def _credential(name: str, answer: type[Answer]) -> Rpc[Answer]:
    return Rpc(f"/leasehold.v1.CredentialService/{name}", answer)


BEGIN = _task("BeginTask", tasks.BeginTaskResponse)
DELEGATE = _task("DelegateTask", tasks.DelegateTaskResponse)
ADVANCE = _task("AdvanceTask", tasks.AdvanceTaskResponse)
SUSPEND = _task("SuspendTask", tasks.SuspendTaskResponse)
RESUME = _task("ResumeTask", tasks.ResumeTaskResponse)
COMPLETE = _task("CompleteTask", tasks.CompleteTaskResponse)
FAIL = _task("FailTask", tasks.FailTaskResponse)
CANCEL = _task("CancelTask", tasks.CancelTaskResponse)
HEARTBEAT = _task("Heartbeat", tasks.HeartbeatResponse)
GET = _task("GetTask", tasks.GetTaskResponse)
LIST = _task("ListTasks", tasks.ListTasksResponse)
WATCH = Rpc("/leasehold.v1.TaskService/WatchTask", tasks.WatchTaskResponse, is_stream=True)
ISSUE = _credential("IssueCredential", credentials.IssueCredentialResponse)
RENEW = _credential("RenewCredential", credentials.RenewCredentialResponse)
RELEASE = _credential("ReleaseCredential", credentials.ReleaseCredentialResponse)
INTROSPECT = Rpc(
    "/leasehold.v1.VerificationService/IntrospectCredential",
    verification.IntrospectCredentialResponse,
)


@dataclass(frozen=True, repr=False)
class Call(Generic[Answer, Result]):
    """A call that is ready to be sent, and what becomes of its answer."""

    rpc: Rpc[Answer]
    request: Message
    read: Callable[[Answer], Result]
    #: Makes the DPoP proof that goes with it, if one does.
    prover: Prover | None = None
    #: How many seconds it may take beside those that every call may: the broker answers once something has come about.
    patience: float = 0.0

    @property
    def request_id(self) -> str | None:
        """The id by which a change is made once, however often it is sent."""
        return getattr(self.request, "request_id", None)

    def __repr__(self) -> str:
        return f"Call({self.rpc.path})"


AnyCall = Call[Any, Result]


def request_id_of(given: uuid.UUID | str | None) -> str:
    """The request id of a change: the one that is given, or a new one."""
    if given is None:
        return str(uuid.uuid4())
    try:
        return str(uuid.UUID(str(given)))
    except ValueError:
        raise request_error("request_id", "is no UUID; leave it out for a new one") from None
