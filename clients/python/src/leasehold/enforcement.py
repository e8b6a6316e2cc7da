"""How far an ending is: recorded, refused by every verifier, nothing running any more; and who is still missing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from ._times import Length, duration, instant
from .errors import request_error
from .v1 import types_pb2 as wire

__all__ = ["Enforcement", "PendingVerifier", "Revocation"]

log = logging.getLogger("leasehold")
#: The broker waits no longer, whatever it is asked for.
_LONGEST_WAIT = 60.0


class Enforcement(str, Enum):
    """How far an ending is."""

    #: Durably recorded: nothing is issued any more for what it concerns, and introspection says inactive.
    RECORDED = "recorded"
    #: No verifier that follows the feed accepts any more what it concerns.
    FENCED = "fenced"
    #: Nothing runs any more that such a verifier had let in before.
    DRAINED = "drained"
    #: One that this version of the package does not know; nothing to wait for.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class PendingVerifier:
    """A verifier, or a broker with all that follow it, that did not yet say that it knows of an ending."""

    #: The run of its process; empty for a broker.
    instance: str
    #: Empty for a broker.
    name: str
    #: The broker that speaks for it.
    broker: str
    #: From then on it surely accepts no more what the ending concerns.
    may_accept_until: datetime

    def __str__(self) -> str:
        who = f"`{self.name}`" if self.name else f"broker `{self.broker}`"
        return f"{who} may accept it until {self.may_accept_until.isoformat()}"


@dataclass(frozen=True)
class Revocation:
    """How far an ending was when the broker answered."""

    enforcement: Enforcement
    #: From then on nothing is issued for what it concerns, and introspection says inactive.
    recorded_at: datetime
    #: When it was known that no verifier that follows the feed accepts it any more; None as long as one might.
    fenced_at: datetime | None
    #: When it was known that nothing runs any more that such a verifier had let in; None as long as something might.
    drained_at: datetime | None
    #: Who might still accept it, and until when; empty once it is fenced, and where nobody could be asked.
    pending: tuple[PendingVerifier, ...]
    #: By then it is fenced, whatever is cut off, slow or dead.
    fenced_at_latest: datetime | None
    #: The verifiers at which something still runs that they had let in.
    undrained: tuple[str, ...]
    #: Those that are gone, or never say: whether anything runs there will not be known.
    drain_unknown: tuple[str, ...]

    @property
    def is_fenced(self) -> bool:
        """Whether no verifier that follows the feed accepts any more what the ending concerns."""
        return self.fenced_at is not None

    @property
    def is_drained(self) -> bool:
        """Whether nothing runs any more that such a verifier had let in."""
        return self.drained_at is not None

    def __str__(self) -> str:
        if not self.is_fenced:
            latest = "" if self.fenced_at_latest is None else self.fenced_at_latest.isoformat()
            missing = [str(verifier) for verifier in self.pending]
            return "; ".join([f"recorded; fenced by {latest} at the latest", *missing])
        if not self.is_drained and (self.undrained or self.drain_unknown):
            running = [f"something runs at `{name}`" for name in self.undrained]
            unknown = [f"what runs at `{name}` is not known" for name in self.drain_unknown]
            return "; ".join(["fenced", *running, *unknown])
        return self.enforcement.value


@dataclass(frozen=True)
class Waiting:
    """What a call that ends something waits for."""

    wait_for: Enforcement
    timeout: Length | None

    def fields(self) -> dict[str, Any]:
        """Those of the request."""
        number = _NUMBERS.get(self.wait_for)
        if number is None:
            problem = (
                f"`{self.wait_for}` is none; say `Enforcement.RECORDED`, `FENCED` or `DRAINED`"
            )
            raise request_error("wait_for", problem)
        return {"wait_for": number, "wait_timeout": duration("wait_timeout", self.timeout)}

    @property
    def seconds(self) -> float:
        """How much longer than others the call may take."""
        if self.wait_for == Enforcement.RECORDED:
            return 0.0
        if self.timeout is None:
            return _LONGEST_WAIT
        length = self.timeout
        return length.total_seconds() if isinstance(length, timedelta) else length

    def is_reached(self, revocation: Revocation) -> bool:
        """Whether it came so far."""
        if self.wait_for == Enforcement.DRAINED:
            return revocation.is_drained
        return self.wait_for == Enforcement.RECORDED or revocation.is_fenced

    def tell(self, task_id: str, revocation: Revocation | None) -> None:
        """Logs who was waited for in vain: of a block's end nobody looks at the answer."""
        if revocation is not None and not self.is_reached(revocation):
            wanted = self.wait_for.value
            log.warning("task %s has ended, and is not yet %s: %s", task_id, wanted, revocation)


def revocation_of(told: wire.Revocation) -> Revocation:
    """A revocation of the contract."""

    def optional(field: str) -> datetime | None:
        time: Timestamp = getattr(told, field)
        return instant(time) if told.HasField(field) else None

    return Revocation(
        enforcement=_ENFORCEMENTS.get(told.enforcement, Enforcement.UNKNOWN),
        recorded_at=instant(told.recorded_at),
        fenced_at=optional("fenced_at"),
        drained_at=optional("drained_at"),
        pending=tuple(
            PendingVerifier(
                verifier.instance,
                verifier.name,
                verifier.broker,
                instant(verifier.may_accept_until),
            )
            for verifier in told.pending
        ),
        fenced_at_latest=optional("fenced_at_latest"),
        undrained=tuple(told.undrained),
        drain_unknown=tuple(told.drain_unknown),
    )


_ENFORCEMENTS: dict[wire.Enforcement, Enforcement] = {
    wire.ENFORCEMENT_RECORDED: Enforcement.RECORDED,
    wire.ENFORCEMENT_FENCED: Enforcement.FENCED,
    wire.ENFORCEMENT_DRAINED: Enforcement.DRAINED,
}
_NUMBERS = {enforcement: number for number, enforcement in _ENFORCEMENTS.items()}
