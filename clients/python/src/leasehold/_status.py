"""From a failed call to an error: what the broker says of it, or why there was no broker to say it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo
from google.rpc.status_pb2 import Status

from .errors import CLASSES, EpochStaleError, FieldViolation, LeaseholdError
from .identity import KeyPair

_DOMAIN = "leasehold"
_DETAILS = "grpc-status-details-bin"
_EPOCH = re.compile(r"epoch:([0-9]{1,15})")

_Detail = TypeVar("_Detail", bound=Message)


def error_of(
    code: grpc.StatusCode,
    text: str | None,
    trailers: Iterable[tuple[str, str | bytes]] | None,
    *,
    address: str,
    request_id: str | None = None,
    shown: KeyPair | None = None,
) -> LeaseholdError:
    """The error of a call that failed.

    `request_id` is that of a call which changes something, `shown` the certificate of the connection.
    """
    status = _status(trailers)
    infos = _found(status, ErrorInfo)
    info = next((info for info in infos if info.domain == _DOMAIN), None)
    if info is None:
        return _without_details(code, text or "", address, request_id, shown)
    violations = [v for bad in _found(status, BadRequest) for v in bad.field_violations]
    retry = next(_found(status, RetryInfo), None)
    error = CLASSES.get(info.reason, LeaseholdError)(
        text or info.reason,
        reason=info.reason,
        code=code.name,
        field_violations=[FieldViolation(v.field, v.description) for v in violations],
        retry_after=None if retry is None else _length(retry),
        request_id=request_id,
    )
    error.dpop_nonce = info.metadata.get("nonce")
    if isinstance(error, EpochStaleError):
        error.current_epoch = _current_epoch(status)
    return error


def _status(trailers: Iterable[tuple[str, str | bytes]] | None) -> Status:
    for name, value in trailers or ():
        if name == _DETAILS and isinstance(value, bytes):
            try:
                return Status.FromString(value)
            except DecodeError:
                break
    return Status()


def _found(status: Status, kind: type[_Detail]) -> Iterator[_Detail]:
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            yield detail


def _length(retry: RetryInfo) -> timedelta:
    return timedelta(seconds=retry.retry_delay.seconds, microseconds=retry.retry_delay.nanos / 1000)


def _current_epoch(status: Status) -> int | None:
    for failure in _found(status, PreconditionFailure):
        for violation in failure.violations:
            epoch = _EPOCH.fullmatch(violation.subject) if violation.type == "EPOCH" else None
            if epoch is not None:
                return int(epoch[1])
    return None


def _without_details(
    code: grpc.StatusCode,
    text: str,
    address: str,
    request_id: str | None,
    shown: KeyPair | None,
) -> LeaseholdError:
    """No broker has spoken: the connection failed, time ran out, or something in between answered."""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        reason, message = "DEADLINE_EXCEEDED", f"`{address}` did not answer in time"
    elif code is grpc.StatusCode.UNAVAILABLE:
        reason, message = _diagnosis(text, address, shown)
    else:
        reason, message = code.name, f"`{address}` answered {code.name} without a reason: {text}"
    kind = CLASSES.get(reason, LeaseholdError)
    return kind(message, reason=reason, code=code.name, request_id=request_id)


def _diagnosis(text: str, address: str, shown: KeyPair | None) -> tuple[str, str]:
    """Why there is no connection, by the words of gRPC and BoringSSL."""
    if "CERTIFICATE_VERIFY_FAILED" in text or "Hostname Verification Check failed" in text:
        return "BROKER_UNTRUSTED", f"the certificate of `{address}` is not accepted: {text}"
    # In TLS 1.3 a client learns after its handshake that its certificate does not do; gRPC cannot read the alert.
    if "Unwrap failed" in text or ("SSL_ERROR_SSL" in text and "ALERT" in text):
        problem = "ended the connection as if it refuses the certificate that was shown"
        if shown is not None and shown.expires_at <= datetime.now(timezone.utc):
            problem = (
                f"refuses the certificate, which has expired at {shown.expires_at.isoformat()}"
            )
        return "IDENTITY_UNVERIFIED", f"`{address}` {problem}: {text}"
    return "BROKER_UNREACHABLE", f"`{address}` cannot be reached: {text}"
