"""Times and lengths of time, between Python and the contract."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TypeAlias

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from .errors import request_error

#: A length of time; a bare number is in seconds.
Length: TypeAlias = timedelta | float


def instant(time: Timestamp) -> datetime:
    """A time of the contract, in UTC."""
    return time.ToDatetime(tzinfo=timezone.utc)


def span(length: Duration) -> timedelta:
    """A length of time of the contract."""
    return length.ToTimedelta()


def timestamp(field: str, time: datetime | None) -> Timestamp | None:
    """A time for the contract. One without time zone is refused: it would be off by hours."""
    if time is None:
        return None
    if time.utcoffset() is None:
        raise request_error(field, "has no time zone; use `datetime.now(timezone.utc)` and such")
    made = Timestamp()
    made.FromDatetime(time.astimezone(timezone.utc))
    return made


def duration(field: str, length: Length | None) -> Duration | None:
    """A length of time for the contract; a bare number is in seconds."""
    if length is None:
        return None
    length = length if isinstance(length, timedelta) else timedelta(seconds=length)
    if length <= timedelta(0):
        raise request_error(field, "must be longer than nothing")
    made = Duration()
    made.FromTimedelta(length)
    return made
