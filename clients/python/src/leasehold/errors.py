"""What can go wrong: one class for each kind of answer to it.

`reason` is the broker's stable word, and the one to branch on where a class has several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any

__all__ = [
    "DeniedError",
    "EpochStaleError",
    "FieldViolation",
    "IdentityError",
    "LeaseError",
    "LeaseholdError",
    "NotFoundError",
    "RequestError",
    "TaskEndedError",
    "TaskStateError",
    "UnavailableError",
]


@dataclass(frozen=True)
class FieldViolation:
    """A field of a request that is not what it must be."""

    #: The field's name in the contract.
    field: str
    #: What is wrong with it, and what would be right.
    description: str


class LeaseholdError(Exception):
    """Every error of the broker, and of the way to it."""

    #: The broker's stable word, such as `TASK_ENDED`. This package's own are `BROKER_UNREACHABLE`, `BROKER_UNTRUSTED`,
    #: `IDENTITY_UNREADABLE` and `CLOSED`.
    reason: str
    #: gRPC's name of the status, such as `FAILED_PRECONDITION`.
    code: str
    #: What is wrong, in the broker's words; they often say what to do as well.
    message: str
    #: What to do.
    remedy: str
    #: Which fields of the request are wrong, of `REQUEST_INVALID`.
    field_violations: tuple[FieldViolation, ...]
    #: After how long it is worth trying again, if the broker said so.
    retry_after: timedelta | None
    #: The id with which the same change can be asked for again and is made once.
    request_id: str | None
    #: What the next DPoP proof must have as its `nonce`, of `PROOF_NONCE_REQUIRED`.
    dpop_nonce: str | None = None

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        code: str = "UNKNOWN",
        remedy: str | None = None,
        field_violations: Sequence[FieldViolation] = (),
        retry_after: timedelta | None = None,
        request_id: str | None = None,
    ) -> None:
        self.reason = reason
        self.code = code
        self.message = message
        self.remedy = REMEDIES.get(reason, UNKNOWN_REMEDY) if remedy is None else remedy
        self.field_violations = tuple(field_violations)
        self.retry_after = retry_after
        self.request_id = request_id
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.message} [{self.reason}]"

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors travel between processes and are copied; their constructor takes more than `args`.
        return (type(self).__new__, (type(self), self.message), self.__dict__)

    @property
    def retriable(self) -> bool:
        """Whether the same call may succeed later, with nothing changed."""
        return isinstance(self, UnavailableError)


class RequestError(LeaseholdError):
    """The request itself is wrong; the same one is refused again."""


class IdentityError(LeaseholdError):
    """Who calls, or who answers, is not proved."""


class DeniedError(LeaseholdError):
    """Known, and not allowed."""


class NotFoundError(LeaseholdError):
    """There is no such thing, or it is not the caller's: the broker does not tell which."""


class TaskStateError(LeaseholdError):
    """The task is not in a state for this: suspended, quarantined, held by another instance."""


class TaskEndedError(TaskStateError):
    """The task, or one above it, has ended. Nothing revives it."""


class EpochStaleError(TaskStateError):
    """The task changed since the caller looked: get it, and decide again."""

    #: The epoch in which the task is, if the broker said so.
    current_epoch: int | None = None


class LeaseError(LeaseholdError):
    """The lease is over, or too little is left of it."""


class UnavailableError(LeaseholdError):
    """The broker, its store or the way there is away or has no room. The same call may succeed later."""


def request_error(field: str, problem: str) -> RequestError:
    """A value that is wrong before anything is sent."""
    return RequestError(
        f"`{field}`: {problem}",
        reason="REQUEST_INVALID",
        code="INVALID_ARGUMENT",
        field_violations=[FieldViolation(field, problem)],
    )


AGAIN = "try again; with the same `request_id` it is done once, however often it is sent"
UNKNOWN_REMEDY = "see the message; a newer version of this package may know the reason"

#: The class and the remedy of every reason.
_REASONS: Mapping[str, tuple[type[LeaseholdError], str]] = {
    "REQUEST_INVALID": (RequestError, "correct the fields in `field_violations`"),
    "AUTHORIZATION_DETAILS_INVALID": (RequestError, "correct the grant"),
    "REQUEST_ID_REUSED": (RequestError, "draw a new UUID for a new request"),
    "IDENTITY_UNVERIFIED": (
        IdentityError,
        "show who you are: `X509Identity` with your X.509-SVID, or `TokenIdentity` with an OIDC token",
    ),
    "IDENTITY_UNREADABLE": (
        IdentityError,
        "see that the files are there, whole, and yours to read",
    ),
    "BROKER_UNTRUSTED": (
        IdentityError,
        "give `ca` the PEM of the CA that issued the broker's certificate, and name the broker as that "
        "certificate does",
    ),
    "SUBJECT_TOKEN_INVALID": (IdentityError, "fetch a new token for the subject"),
    "ACTOR_TOKEN_INVALID": (IdentityError, "fetch a new token for the actor"),
    "PROOF_INVALID": (IdentityError, "choose another `proof` for the credential"),
    "PROOF_NONCE_REQUIRED": (IdentityError, "prove again, with the nonce that the broker sent"),
    "PROOF_REPLAYED": (IdentityError, "make a new proof for every request"),
    "ROLE_MISSING": (DeniedError, "ask an operator for a `[[roles]]` entry that matches you"),
    "POLICY_DENIED": (DeniedError, "ask for less, or ask whoever writes the policy"),
    "TARGET_NOT_ALLOWED": (DeniedError, "ask the orchestrator for a grant that names the audience"),
    "GRANT_WIDENS": (DeniedError, "ask for no more than the parent has"),
    "APPROVAL_REQUIRED": (DeniedError, "ask an approver"),
    "NOT_FOUND": (NotFoundError, "check the id, and that it is yours"),
    "TASK_SUSPENDED": (TaskStateError, "wait until it is resumed"),
    "QUARANTINED": (TaskStateError, "wait until an operator lifts the quarantine"),
    "INSTANCE_MISMATCH": (
        TaskStateError,
        "have the orchestrator hand the task over by `advance`, or begin it with more `instances`",
    ),
    "TASK_ENDED": (TaskEndedError, "begin another task"),
    "EPOCH_STALE": (EpochStaleError, "get the task, and decide again"),
    "LEASE_REVOKED": (LeaseError, "issue a new credential"),
    "CEILING_REACHED": (LeaseError, "have the orchestrator begin a new task"),
    "TTL_BELOW_MINIMUM": (LeaseError, "refresh what the message names, and ask again"),
    "DEPENDENCY_UNAVAILABLE": (UnavailableError, AGAIN),
    "NOT_DURABLE": (UnavailableError, AGAIN),
    "SIGNING_KEY_QUARANTINED": (UnavailableError, AGAIN),
    "PARTITION_CLOSED": (UnavailableError, AGAIN),
    "INCARNATION_UNKNOWN": (UnavailableError, AGAIN),
    "RATE_LIMITED": (UnavailableError, AGAIN),
    "FELL_BEHIND": (UnavailableError, "subscribe again"),
    "CONTENDED": (UnavailableError, AGAIN),
    "DEADLINE_EXCEEDED": (UnavailableError, AGAIN),
    "BROKER_UNREACHABLE": (
        UnavailableError,
        "see that the broker runs, and that `address` names it",
    ),
    "CLOSED": (LeaseError, "open a new one; this one was closed"),
    "INTERNAL": (LeaseholdError, "tell whoever runs the broker; its log says why"),
}

CLASSES: Mapping[str, type[LeaseholdError]] = MappingProxyType(
    {reason: kind for reason, (kind, _) in _REASONS.items()}
)
REMEDIES: Mapping[str, str] = MappingProxyType(
    {reason: remedy for reason, (_, remedy) in _REASONS.items()}
)
