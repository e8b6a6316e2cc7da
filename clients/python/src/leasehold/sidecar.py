"""For whatever accepts credentials beside a sidecar: `leasehold verify` follows revocations, and says whom to let in.

It stands where a `Verifier` would, and asks no broker. What is over for the broker is over for it within milliseconds.

                                          verify_active       admit
signature, issuer, audience, time            x                 x
the connection proves the token's key        x                 x
the grant allows the action                  x                 x
the task lives, nothing was revoked          x                 x
what ends while the request is served     not seen          is told
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import socket
import threading
import urllib.parse
from collections.abc import Mapping
from typing import Any

from ._closing import AsyncClosing, Closing
from ._encoding import encoded
from ._proof import DpopProofs, Presented, presented
from ._token import VerifiedToken, verified
from .refusal import TokenRefusedError, VerifierUnavailableError

__all__ = [
    "Admission",
    "AsyncSidecar",
    "DpopProofs",
    "Presented",
    "Sidecar",
    "SidecarRefusedError",
    "TokenRefusedError",
    "VerifiedToken",
    "VerifierUnavailableError",
    "presented",
]

#: Where `leasehold verify` answers, if nothing else is said.
SOCKET = "/run/leasehold/verify.sock"
_MOST_ANSWER_BYTES = 256 * 1024
_OK, _UNAVAILABLE = 200, 503
_REFUSALS = (400, 401, 403)


class SidecarRefusedError(TokenRefusedError):
    """The sidecar says no, and what to answer."""

    #: The stable reason, such as `EPOCH_STALE`.
    reason: str

    def __init__(self, answer: Mapping[str, Any]) -> None:
        """`answer`: what the sidecar said."""
        error = answer.get("error")
        super().__init__(str(answer.get("message")), answer["status"], error=error or "")
        if error is None:  # nothing was shown, which is no error
            self.error = "invalid_token"
        self.reason = str(answer.get("reason"))
        self._headers: dict[str, str] = {}
        for name, value in answer.get("headers", []):
            known = self._headers.get(name)
            self._headers[name] = value if known is None else f"{known}, {value}"

    @property
    def www_authenticate(self) -> str:
        """The `WWW-Authenticate` header of the answer."""
        return self._headers.get("www-authenticate", "")

    @property
    def headers(self) -> dict[str, str]:
        """All headers of the answer that the refusal makes."""
        return dict(self._headers)


class Sidecar(Closing):
    """Asks the sidecar beside this server. Safe to share between threads; each question is a connection of its own."""

    def __init__(
        self,
        audience: str,
        *,
        socket_path: str | os.PathLike[str] = SOCKET,
        timeout: float = 5.0,
    ) -> None:
        """`audience`: our own name, which must be the sidecar's. `timeout`: in seconds; no answer by then is no yes."""
        self.audience = audience
        self._socket_path = os.fspath(socket_path)
        self._timeout = timeout

    def verify_active(
        self,
        token: str,
        *,
        certificate: bytes | None,
        action: str,
        data_class: str | None = None,
        dpop: DpopProofs | None = None,
    ) -> VerifiedToken:
        """That a token is good for an action, and its task lives now; as `Verifier.verify_active`.

        Whoever waits for DRAINED waits as long as the sidecar's `--longest-request` for what was let in so; `admit`
        says when it is over. Raises `SidecarRefusedError` with the answer to give, or `VerifierUnavailableError`.
        """
        question = _question(token, certificate, action, dpop)
        connection = self._connection()
        try:
            status, answer = self._ask(connection, "/v1/verify", question)
            body = answer.read(_MOST_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as fault:
            raise self._away(fault) from fault
        finally:
            connection.close()
        return self._decided(status, body, action, data_class)

    #: The same: a sidecar always knows whether the task lives.
    verify = verify_active

    def admit(
        self,
        token: str,
        *,
        certificate: bytes | None,
        action: str,
        data_class: str | None = None,
        dpop: DpopProofs | None = None,
    ) -> Admission:
        """The same, for as long as the request runs: leave the `with` block, or close it, when it is over.

        ```python
        with sidecar.admit(token, certificate=der, action="read") as admission:
            serve(admission.token)
        ```
        """
        question = _question(token, certificate, action, dpop)
        connection = self._connection()
        try:
            status, answer = self._ask(connection, "/v1/admit", question)
            is_open = status == _OK
            body = (
                answer.readline(_MOST_ANSWER_BYTES) if is_open else answer.read(_MOST_ANSWER_BYTES)
            )
            decided = self._decided(status, body, action, data_class)
        except (OSError, http.client.HTTPException) as fault:
            connection.close()
            raise self._away(fault) from fault
        except BaseException:
            connection.close()
            raise
        return Admission(decided, connection, answer)

    def close(self) -> None:
        """Nothing is open between questions; it is here because a `Verifier` has it."""

    def _connection(self) -> _UnixConnection:
        return _UnixConnection(self._socket_path, self._timeout)

    @staticmethod
    def _ask(
        connection: _UnixConnection, path: str, question: Mapping[str, Any]
    ) -> tuple[int, http.client.HTTPResponse]:
        headers = {"content-type": "application/json"}
        connection.request("POST", path, body=json.dumps(question), headers=headers)
        answer = connection.getresponse()
        return answer.status, answer

    def _decided(
        self, status: int, body: bytes, action: str, data_class: str | None
    ) -> VerifiedToken:
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
            said = answer.get("message") if isinstance(answer, dict) else None
            raise VerifierUnavailableError(
                f"the sidecar gives no verdict: {said or f'status {status}'}"
            )
        if status == _OK and answer["active"] is True:
            return self._let_in(answer, action, data_class)
        if status in _REFUSALS and answer.get("status") == status:
            raise SidecarRefusedError(answer)
        raise VerifierUnavailableError(str(answer.get("message")))

    def _let_in(
        self, answer: Mapping[str, Any], action: str, data_class: str | None
    ) -> VerifiedToken:
        if answer.get("audience") != self.audience:
            raise VerifierUnavailableError(
                f"the sidecar at `{self._socket_path}` is for another audience"
            )
        try:
            token = verified(answer["claims"])
        except (ValueError, TypeError, KeyError, IndexError):
            raise VerifierUnavailableError("the sidecar's answer is of no known form") from None
        return token.must_allow(action, data_class)

    def _away(self, fault: Exception) -> VerifierUnavailableError:
        return VerifierUnavailableError(
            f"the sidecar at `{self._socket_path}` cannot be asked: {fault}"
        )


class Admission(Closing):
    """A request that was let in, until it is closed. Whoever waits for DRAINED waits for that."""

    #: What it was let in on.
    token: VerifiedToken

    def __init__(
        self,
        token: VerifiedToken,
        connection: _UnixConnection,
        answer: http.client.HTTPResponse,
    ) -> None:
        self.token = token
        self._connection = connection
        self._answer = answer
        self._reading = threading.Lock()
        # From now on there may be nothing to say for a long time.
        connection.wait_for_ever()

    def wait_revoked(self) -> str | None:
        """Waits until the credential dies, and gives the reason: stop then. For a thread of its own.

        None: it was closed; or the sidecar went away, and nobody will tell any more.
        """
        with self._reading:
            try:
                while line := self._answer.readline(_MOST_ANSWER_BYTES):
                    if line.strip():
                        return str(json.loads(line)["reason"])
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
                pass
        return None

    def close(self) -> None:
        """The request is over."""
        # Whoever reads is woken by this, and then reads no more.
        self._connection.hang_up()
        with self._reading:
            self._connection.close()


class AsyncSidecar(AsyncClosing):
    """As `Sidecar`, with `await`. What waits for the sidecar waits in a thread."""

    def __init__(
        self,
        audience: str,
        *,
        socket_path: str | os.PathLike[str] = SOCKET,
        timeout: float = 5.0,
    ) -> None:
        """As that of `Sidecar`."""
        self._sidecar = Sidecar(audience, socket_path=socket_path, timeout=timeout)

    async def verify_active(
        self,
        token: str,
        *,
        certificate: bytes | None,
        action: str,
        data_class: str | None = None,
        dpop: DpopProofs | None = None,
    ) -> VerifiedToken:
        """As `Sidecar.verify_active`."""
        return await asyncio.to_thread(
            self._sidecar.verify_active,
            token,
            certificate=certificate,
            action=action,
            data_class=data_class,
            dpop=dpop,
        )

    #: The same: a sidecar always knows whether the task lives.
    verify = verify_active

    async def admit(
        self,
        token: str,
        *,
        certificate: bytes | None,
        action: str,
        data_class: str | None = None,
        dpop: DpopProofs | None = None,
    ) -> Admission:
        """As `Sidecar.admit`: `with await sidecar.admit(…) as admission:`."""
        return await asyncio.to_thread(
            self._sidecar.admit,
            token,
            certificate=certificate,
            action=action,
            data_class=data_class,
            dpop=dpop,
        )

    def close(self) -> None:
        """As `Sidecar.close`."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("sidecar", timeout=timeout)
        self._path = path
        self._stream: socket.socket | None = None

    def connect(self) -> None:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            stream.settimeout(self.timeout)
            stream.connect(self._path)
        except BaseException:
            stream.close()
            raise
        self.sock = self._stream = stream

    def wait_for_ever(self) -> None:
        if self._stream is not None:
            self._stream.settimeout(None)

    def hang_up(self) -> None:
        """At once, also for a thread that reads."""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.shutdown(socket.SHUT_RDWR)


def _question(
    token: str, certificate: bytes | None, action: str, dpop: DpopProofs | None
) -> dict[str, Any]:
    question: dict[str, Any] = {"actions": [action]}
    if token:
        question["authorization"] = f"{'Bearer' if dpop is None else 'DPoP'} {token}"
    if certificate is not None:
        question["certificate_sha256"] = encoded(hashlib.sha256(certificate).digest())
    if dpop is not None:
        path = urllib.parse.urlsplit(dpop.url).path or "/"
        question |= {"dpop": list(dpop.values), "method": dpop.method, "path": path}
    return question
