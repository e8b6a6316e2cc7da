"""Calls over gRPC, without `await`: one connection for each identity that is in use."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Generic

import grpc

from . import _clock
from ._rpc import Answer, AnyCall, Call, Result
from ._status import error_of
from .errors import LeaseholdError, request_error
from .identity import (
    Identity,
    KeyPair,
    TokenIdentity,
    X509Identity,
    identity_from_env,
    read_file,
)
from .schedule import retry_in

DEFAULT_ADDRESS = "https://127.0.0.1:7700"
#: How often a call is sent at most.
MOST_TRIES = 4
#: Said of a broker to which there is no connection.
UNREACHABLE = "BROKER_UNREACHABLE"
_FIRST_RETRY = 0.1
_OPTIONS = [
    # A new connection is new: it does not wait because an earlier one failed. See `_forget`.
    ("grpc.use_local_subchannel_pool", 1),
    # A connection that died without a word is noticed while calls run.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Also where nothing was said for long, as on a watch.
    ("grpc.http2.max_pings_without_data", 0),
    # Retries are ours: they know request ids and what the broker says of when.
    ("grpc.enable_retries", 0),
]


class Way:
    """Where the broker is, whom to trust, and who we are."""

    def __init__(self, address: str, ca: str | os.PathLike[str] | None, identity: Identity) -> None:
        scheme, _, target = address.partition("://")
        if scheme != "https" or not target.rstrip("/") or "/" in target.rstrip("/"):
            problem = (
                f"`{address}` is not like `https://127.0.0.1:7700`; a broker answers over TLS only"
            )
            raise request_error("address", problem)
        self.address = address
        self.target = target.rstrip("/")
        self.ca_file = ca
        self.identity = identity

    def key_pair(self) -> KeyPair | None:
        """The certificate to show, as it is now."""
        return self.identity.key_pair() if isinstance(self.identity, X509Identity) else None

    def credentials(self, pair: KeyPair | None) -> grpc.ChannelCredentials:
        """TLS for a connection."""
        return grpc.ssl_channel_credentials(
            None if self.ca_file is None else read_file(self.ca_file),
            None if pair is None else pair.key_pem,
            None if pair is None else pair.certificate_pem,
        )

    def metadata(self, call: AnyCall[Any]) -> tuple[tuple[str, str], ...]:
        """What proves beside the connection who we are, and whose key a token is to be bound to."""
        shown = []
        if isinstance(self.identity, TokenIdentity):
            shown.append(("authorization", f"Bearer {self.identity.token()}"))
        if call.prover is not None:
            shown.append(("dpop", call.prover.proof("POST", self.url(call))))
        return tuple(shown)

    def url(self, call: AnyCall[Any]) -> str:
        """Where a call goes, as a proof for it says."""
        return f"https://{self.target}{call.rpc.path}"

    @property
    def options(self) -> list[tuple[str, Any]]:
        """How a connection behaves."""
        return list(_OPTIONS)


def way_of(
    address: str | None, ca: str | os.PathLike[str] | None, identity: Identity | None
) -> Way:
    """Where to call, and as whom; what is not said comes from the environment."""
    address = address or os.environ.get("LEASEHOLD_BROKER") or DEFAULT_ADDRESS
    return Way(
        address,
        ca or os.environ.get("LEASEHOLD_CA"),
        identity or identity_from_env(os.environ),
    )


class Tries:
    """How long a call may take, tries and waits together, and whether another try is worth it."""

    def __init__(self, way: Way, call: AnyCall[Any], timeout: float) -> None:
        self._way, self._call = way, call
        self._until = _clock.now() + timeout + call.patience
        self._failures = 0
        self._was_given_nonce = False

    @property
    def left(self) -> float:
        """Seconds until the call must have answered."""
        return max(self._until - _clock.now(), 0.001)

    def wait_after(self, error: LeaseholdError) -> float | None:
        """How long to wait before the next try; nothing if there is to be none."""
        if self._takes_nonce(error.dpop_nonce):
            return 0.0
        self._failures += 1
        if not error.retriable or error.reason == "DEADLINE_EXCEEDED":
            return None
        asked = 0.0 if error.retry_after is None else error.retry_after.total_seconds()
        wait = retry_in(self._failures, random=random.random(), asked=asked, first=_FIRST_RETRY)  # noqa: S311
        return wait if self._failures < MOST_TRIES and wait < self.left else None

    def _takes_nonce(self, nonce: str | None) -> bool:
        """Whether the call was refused for want of this nonce: then it is sent again with it, once."""
        prover = self._call.prover
        if prover is None or nonce is None or self._was_given_nonce:
            return False
        self._was_given_nonce = True
        prover.learn(self._way.url(self._call), nonce)
        return True


class Answers(Generic[Result]):
    """The answers of one call, as they come. The first one comes within the time that a call may take, or none does."""

    def __init__(self, transport: Transport, call: AnyCall[Result], timeout: float) -> None:
        self._transport, self._call = transport, call
        self._open = ExitStack()
        self._is_late = threading.Event()
        self._line = self._open.enter_context(transport._connected())  # noqa: SLF001
        try:
            method: Any = self._line.channel.unary_stream(
                call.rpc.path,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=call.rpc.answer.FromString,
            )
            self._answers = method(call.request, metadata=transport.way.metadata(call))
        except BaseException:
            self._open.close()
            raise
        # It knows nothing of this: who forgets it without closing it keeps nothing open.
        late = (self._is_late, self._answers)
        self._patience = threading.Timer(timeout, _give_up, late)
        self._patience.daemon = True
        self._patience.start()

    def __iter__(self) -> Answers[Result]:
        return self

    def __next__(self) -> Result:
        try:
            answer = next(self._answers)
        except grpc.RpcError as failure:
            is_late = self._is_late.is_set()
            raise self._transport.failed(failure, self._call, self._line, is_late) from None
        finally:
            self._patience.cancel()
        return self._call.read(answer)

    def close(self) -> None:
        """There will be no further one; whoever waits for it is told at once. Also from another thread."""
        self._patience.cancel()
        self._answers.cancel()
        self._open.close()


def _give_up(is_late: threading.Event, answers: Any) -> None:
    is_late.set()
    answers.cancel()


class _Line:
    """A connection, and who is using it."""

    def __init__(self, channel: grpc.Channel, pair: KeyPair | None) -> None:
        self.channel = channel
        self.pair = pair
        self.users = 0
        self.retired = False


class Transport:
    """Sends calls. Safe to share between threads."""

    def __init__(self, way: Way, timeout: float) -> None:
        self.way = way
        self._timeout = timeout
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._closed = False

    def send(self, call: AnyCall[Result], timeout: float | None = None) -> Result:
        """The result of a call, tried again while that is worth it."""
        return self.send_as(call, timeout)[0]

    def send_as(
        self, call: AnyCall[Result], timeout: float | None = None
    ) -> tuple[Result, KeyPair | None]:
        """The same, and the certificate that the call was made with."""
        tries = self.tries(call, timeout)
        while True:
            try:
                return self._send(call, tries.left)
            except LeaseholdError as error:
                wait = tries.wait_after(error)
                if wait is None:
                    raise
            time.sleep(wait)

    def tries(self, call: AnyCall[Any], timeout: float | None = None) -> Tries:
        """How often and how long a call is tried."""
        return Tries(self.way, call, self._timeout if timeout is None else timeout)

    def stream(self, call: AnyCall[Result]) -> Answers[Result]:
        """The answers of a call that has any number of them; tried once."""
        return Answers(self, call, self._timeout)

    def _send(self, call: Call[Answer, Result], timeout: float) -> tuple[Result, KeyPair | None]:
        with self._connected() as line:
            method: Any = line.channel.unary_unary(
                call.rpc.path,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=call.rpc.answer.FromString,
            )
            try:
                answer = method(call.request, timeout=timeout, metadata=self.way.metadata(call))
            except grpc.RpcError as failure:
                raise self.failed(failure, call, line) from None
            return call.read(answer), line.pair

    def failed(
        self, failure: Any, call: AnyCall[Any], line: _Line, is_late: bool = False
    ) -> LeaseholdError:
        """The error of a call that failed; `is_late`: because it was given up by then."""
        error = error_of(
            grpc.StatusCode.DEADLINE_EXCEEDED if is_late else failure.code(),
            failure.details(),
            failure.trailing_metadata(),
            address=self.way.address,
            request_id=call.request_id,
            shown=line.pair,
        )
        if error.reason == UNREACHABLE:
            self._forget(line)
        return error

    @contextmanager
    def _connected(self) -> Iterator[_Line]:
        """The connection for the present identity. An earlier one is closed when nobody uses it any more."""
        with self._lock:
            if self._closed:
                raise closed()
            pair, line = self.way.key_pair(), self._line
            if line is None or line.pair is not pair:
                channel = grpc.secure_channel(
                    self.way.target, self.way.credentials(pair), self.way.options
                )
                if line is not None:
                    self._retire(line)
                line = self._line = _Line(channel, pair)
            line.users += 1
        try:
            yield line
        finally:
            with self._lock:
                line.users -= 1
                if line.retired and line.users == 0:
                    line.channel.close()

    def _forget(self, line: _Line) -> None:
        """Has the next call connect anew.

        gRPC would try again by itself, but (up to 1.78 at least) only while a call waits for it, and ours do not:
        a connection that is tried for a moment at a time never comes to be.
        """
        with self._lock:
            line.retired = True
            if self._line is line:
                self._line = None

    def _retire(self, line: _Line) -> None:
        line.retired = True
        if line.users == 0:
            line.channel.close()

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._closed = True
            if self._line is not None:
                self._line.channel.close()
                self._line = None


def closed() -> LeaseholdError:
    """What is said after `close`."""
    return LeaseholdError("it was closed", reason="CLOSED", code="CANCELLED")
