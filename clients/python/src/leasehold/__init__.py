"""Client of Leasehold, a just-in-time credential broker: a credential lives exactly as long as its task.

`Client` is the way in for orchestrators and agents, `AsyncClient` the same with `await`. `leasehold.httpx` and
`leasehold.requests` send requests with a credential; `leasehold.verifier` is for whatever accepts one.
"""

from ._aio_credential import AsyncCredential
from ._aio_watch import AsyncWatch
from .aio import AsyncClient, AsyncTask
from .client import Client, Task
from .credential import Credential, IssuedCredential, Proof
from .dpop import DpopKey
from .enforcement import Enforcement, PendingVerifier, Revocation
from .errors import (
    DeniedError,
    EpochStaleError,
    FieldViolation,
    IdentityError,
    LeaseError,
    LeaseholdError,
    NotFoundError,
    RequestError,
    TaskEndedError,
    TaskStateError,
    UnavailableError,
)
from .grant import Access, Grant
from .identity import Identity, KeyPair, TokenIdentity, X509Identity
from .models import ChangedTask, Introspection, TaskInfo, TaskState
from .watch import Watch

__all__ = [
    "Access",
    "AsyncClient",
    "AsyncCredential",
    "AsyncTask",
    "AsyncWatch",
    "ChangedTask",
    "Client",
    "Credential",
    "DeniedError",
    "DpopKey",
    "Enforcement",
    "EpochStaleError",
    "FieldViolation",
    "Grant",
    "Identity",
    "IdentityError",
    "Introspection",
    "IssuedCredential",
    "KeyPair",
    "LeaseError",
    "LeaseholdError",
    "NotFoundError",
    "PendingVerifier",
    "Proof",
    "RequestError",
    "Revocation",
    "Task",
    "TaskEndedError",
    "TaskInfo",
    "TaskState",
    "TaskStateError",
    "TokenIdentity",
    "UnavailableError",
    "Watch",
    "X509Identity",
]
