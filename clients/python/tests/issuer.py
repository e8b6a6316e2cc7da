"""A broker's HTTP that the tests write themselves: what it answers, how often it was asked, and tokens of any shape."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from playground import AUDIENCE, SUMMARIZER, Svid

from leasehold.identity import thumbprint
from leasehold.verifier import TokenRefusedError, Verifier

Answer = tuple[int, dict[str, str], bytes]
TASK = "tsk_00aaaaaaaaaaaaaaaaaaaaaaaaaa"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def der_of(svid: Svid) -> bytes:
    certificate = x509.load_pem_x509_certificate(svid.certificate)
    return certificate.public_bytes(serialization.Encoding.DER)


class Key:
    """A signing key, and its published form."""

    def __init__(self, kid: str = "key-1") -> None:
        self.kid = kid
        self.private = ec.generate_private_key(ec.SECP256R1())

    def jwk(self, **changes: Any) -> dict[str, Any]:
        numbers = self.private.public_key().public_numbers()
        x, y = (encoded(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        jwk = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid}
        return {**jwk, "x": x, "y": y, **changes}


class Issuer:
    """Answers `/oauth2/jwks` and `/oauth2/introspect` over TLS."""

    def __init__(self, folder: Path, server: Svid, client: Svid) -> None:
        server.write(folder, "issuer")
        self.client_der = der_of(client)
        self.key = Key()
        self.asked: list[str] = []
        #: The `Authorization` header of each.
        self.shown: list[str | None] = []
        #: And its `DPoP` header.
        self.proofs: list[str | None] = []
        self.delay = 0.0
        self.keys: Callable[[], Answer] = lambda: self.json({"keys": [self.key.jwk()]})
        self.introspection: Callable[[str], Answer] = lambda _: self.json({"active": False})
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "issuer.pem", folder / "issuer.key")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @staticmethod
    def json(body: Any, status: int = 200) -> Answer:
        return status, {"Content-Type": "application/json"}, json.dumps(body).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Those of a good token, with some changed; None takes one out."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.url,
            "sub": SUMMARIZER,
            "client_id": SUMMARIZER,
            "aud": AUDIENCE,
            "iat": now,
            "nbf": now - 5,
            "exp": now + 300,
            "jti": "AAAAAAAAAAAAAAAAAAAAAA",
            "txn": TASK,
            "cnf": {"x5t#S256": thumbprint(self.client_der)},
            "authorization_details": [
                {"type": "resource_access", "audience": AUDIENCE, "actions": ["read"]}
            ],
            "leasehold": {"v": 1, "path": [[TASK, 1]], "lease": "lse_00a", "tier": "standard"},
        }
        claims.update(changes)
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self,
        header: dict[str, Any] | None = None,
        key: Any = None,
        alg: str = "ES256",
        **changes: Any,
    ) -> str:
        """A token of any shape."""
        headers = {"typ": "at+jwt", "kid": self.key.kid, **(header or {})}
        return jwt.encode(self.claims(**changes), key or self.key.private, alg, headers)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(issuer.keys())

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self._answer(issuer.introspection(form["token"][0]))

            def _answer(self, answer: Answer) -> None:
                issuer.asked.append(self.path)
                issuer.shown.append(self.headers["Authorization"])
                issuer.proofs.append(self.headers["DPoP"])
                time.sleep(issuer.delay)
                status, headers, body = answer
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def refused(
    verifier: Verifier, issuer: Issuer, token: str, why: str, action: str = "read"
) -> TokenRefusedError:
    with pytest.raises(TokenRefusedError, match=why) as caught:
        verifier.verify(token, certificate=issuer.client_der, action=action)
    assert caught.value.status == (401 if action == "read" else 403)
    for part in token.split("."):
        assert not part or part not in f"{caught.value!r} {caught.value.__cause__!r}"
    return caught.value


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, verifier: Verifier) -> None:
        self._now = 1_000.0
        self._lock = threading.Lock()
        monkeypatch.setattr("leasehold._clock.now", self.now)
        verifier._keys._clock = self.now

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds
