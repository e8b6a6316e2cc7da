"""An API that accepts credentials: documents, for whoever may read or annotate them.

leasehold dev --dir play                                   # in one terminal
python resource_server.py --dir play                       # in another

It asks the broker about every token, so that one dies here the moment its task ends. With `--offline` it does not ask:
then a token passes until it expires.
"""

from __future__ import annotations

import argparse
import json
import ssl
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import leasehold
from leasehold.verifier import TokenRefusedError, Verifier, VerifierUnavailableError, presented

AUDIENCE = "https://documents.dev.example"
ACTIONS = {"GET": "read", "POST": "annotate"}


class Documents(BaseHTTPRequestHandler):
    """The API. `verifier` and `is_offline` are set by `serve`."""

    verifier: Verifier
    is_offline: bool
    protocol_version = "HTTP/1.1"

    def handle_request(self) -> None:
        try:
            agent = self.authorize(ACTIONS[self.command])
        except TokenRefusedError as refused:
            self.answer(refused.status, {"error": str(refused)}, refused.headers)
        except VerifierUnavailableError as away:
            self.answer(away.status, {"error": str(away)})
        else:
            self.answer(200, {"title": "Q3 report", "text": "Revenue is up.", "reader": agent})

    do_GET = do_POST = handle_request  # noqa: N815

    def authorize(self, action: str) -> str:
        """Who is calling, if they may do that."""
        shown = presented(
            self.headers["Authorization"],
            self.headers.get_all("DPoP"),
            method=self.command,
            # What we are called, and not what the request says of that.
            url=f"https://localhost:{self.connection.getsockname()[1]}{self.path}",
        )
        connection = self.connection
        assert isinstance(connection, ssl.SSLSocket)  # noqa: S101
        verify = self.verifier.verify if self.is_offline else self.verifier.verify_active
        verified = verify(
            shown.token,
            certificate=connection.getpeercert(binary_form=True),
            action=action,
            dpop=shown.dpop,
        )
        return verified.agent

    def answer(
        self, status: int, body: object, challenge: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        # What is not read is not taken for the next request.
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in challenge.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


class Server(ThreadingHTTPServer):
    """Shakes hands in the thread of each connection, so that nobody waits for a caller who is slow."""

    tls: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            secured = self.tls.wrap_socket(request, server_side=True)
        except (ssl.SSLError, ConnectionError):
            return
        try:
            super().finish_request(secured, client_address)
        finally:
            secured.close()


def server(play: Path, issuer: str, *, port: int = 0, is_offline: bool = False) -> Server:
    """The API on this machine, by the identity `documents` of a playground."""
    certificate, key = play / "documents.pem", play / "documents.key"
    identity = leasehold.X509Identity(certificate, key)
    verifier = Verifier(issuer, AUDIENCE, ca=play / "root.pem", identity=identity)
    handler = type("Handler", (Documents,), {"verifier": verifier, "is_offline": is_offline})
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    # Callers show their own certificate, or one that the broker signed for their task; none if a DPoP key is theirs.
    tls.verify_mode = ssl.CERT_OPTIONAL
    tls.load_verify_locations(play / "root.pem")
    tls.load_verify_locations(cadata=verifier.task_roots())
    made = Server(("127.0.0.1", port), handler)
    made.tls = tls
    return made


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--dir", type=Path, required=True, help="the playground's folder")
    arguments.add_argument("--issuer", default="https://localhost:7701", help="base_url")
    arguments.add_argument("--port", type=int, default=8443)
    arguments.add_argument("--offline", action="store_true", help="do not ask the broker")
    given = arguments.parse_args()
    with server(given.dir, given.issuer, port=given.port, is_offline=given.offline) as running:
        print(f"https://localhost:{running.server_address[1]}", flush=True)
        running.serve_forever()


if __name__ == "__main__":
    main()
