"""The broker's HTTP, as a resource server needs it: its keys, and introspection.

No redirects, no long answers, no long waits.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._tls import client_context
from .errors import LeaseholdError, request_error
from .identity import Identity, KeyPair, TokenIdentity, X509Identity
from .refusal import VerifierUnavailableError

_TIMEOUT_SECONDS = 5.0
_MOST_BYTES = 512 * 1024
_MOST_IDLE = 8
_OK = 200


@dataclass(frozen=True, repr=False)
class _Question:
    """What is asked."""

    method: str
    path: str
    body: str | None
    headers: Mapping[str, str]


@dataclass(frozen=True, repr=False)
class _Secured:
    """TLS with the identity that it shows."""

    pair: KeyPair | None
    context: ssl.SSLContext


class BrokerHttp:
    """HTTPS to one broker, over connections that are kept. Safe to share between threads."""

    def __init__(
        self, issuer: str, ca: str | os.PathLike[str] | None, identity: Identity | None
    ) -> None:
        url = urllib.parse.urlsplit(issuer)
        if url.scheme != "https" or not url.hostname or url.path or url.query or url.fragment:
            problem = f"`{issuer}` is not a broker's `base_url`, such as `https://localhost:7701`"
            raise request_error("issuer", problem)
        self._host, self._port, self._issuer = url.hostname, url.port or 443, issuer
        self._ca = ca
        self._identity = identity
        self._lock = threading.Lock()
        self._secured: _Secured | None = None
        self._idle: list[tuple[_Secured, http.client.HTTPSConnection]] = []

    def get(self, path: str) -> Any:
        """A public document, in JSON."""
        return self._ask(_Question("GET", path, None, {"Accept": "application/json"}))

    def post(self, path: str, form: Mapping[str, str]) -> Any:
        """The answer to a form, in JSON, to us as who we are."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if isinstance(self._identity, TokenIdentity):
            headers["Authorization"] = f"Bearer {self._identity.token()}"
        return self._ask(_Question("POST", path, urllib.parse.urlencode(form), headers))

    def close(self) -> None:
        """Closes the connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _ask(self, question: _Question) -> Any:
        try:
            status, content = self._exchange(question)
        except (OSError, http.client.HTTPException, LeaseholdError) as fault:
            # The fault of a connection tells of the connection, never of what was sent.
            problem = f"`{self._issuer}` cannot be asked: {type(fault).__name__}: {fault}"
            raise VerifierUnavailableError(problem) from None
        if status != _OK:
            said = _error_of(content)
            raise VerifierUnavailableError(
                f"`{self._issuer}{question.path}` answered {status}{said}"
            )
        try:
            return json.loads(content)
        except ValueError:
            raise VerifierUnavailableError(
                f"`{self._issuer}{question.path}` answered no JSON"
            ) from None

    def _exchange(self, question: _Question) -> tuple[int, bytes]:
        secured = self._security()
        connection = self._take(secured)
        if connection is not None:
            try:
                return self._send(secured, connection, question)
            except (ConnectionError, http.client.RemoteDisconnected, ssl.SSLError):
                pass  # It was closed while nobody used it.
        fresh = http.client.HTTPSConnection(
            self._host, self._port, timeout=_TIMEOUT_SECONDS, context=secured.context
        )
        return self._send(secured, fresh, question)

    def _send(
        self, secured: _Secured, connection: http.client.HTTPSConnection, question: _Question
    ) -> tuple[int, bytes]:
        try:
            connection.request(
                question.method, question.path, question.body, dict(question.headers)
            )
            answer = connection.getresponse()
            content = answer.read(_MOST_BYTES + 1)
        except BaseException:
            connection.close()
            raise
        if answer.will_close or len(content) > _MOST_BYTES:
            connection.close()
        else:
            self._give_back(secured, connection)
        if len(content) > _MOST_BYTES:
            raise http.client.HTTPException(f"more than {_MOST_BYTES} bytes")
        return answer.status, content

    def _security(self) -> _Secured:
        pair = self._identity.key_pair() if isinstance(self._identity, X509Identity) else None
        with self._lock:
            if self._secured is None or self._secured.pair is not pair:
                self._secured = _Secured(pair, client_context(self._ca, pair))
            return self._secured

    def _take(self, secured: _Secured) -> http.client.HTTPSConnection | None:
        with self._lock:
            while self._idle:
                of, connection = self._idle.pop()
                if of is secured:
                    return connection
                connection.close()
        return None

    def _give_back(self, secured: _Secured, connection: http.client.HTTPSConnection) -> None:
        with self._lock:
            if secured is self._secured and len(self._idle) < _MOST_IDLE:
                self._idle.append((secured, connection))
                return
        connection.close()


def _error_of(content: bytes) -> str:
    """What OAuth says of an error (RFC 6749 section 5.2)."""
    try:
        body = json.loads(content)
    except ValueError:
        return ""
    said = body.get("error") if isinstance(body, dict) else None
    return f": {said}" if isinstance(said, str) and said.replace("_", "").isalpha() else ""
