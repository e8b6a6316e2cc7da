"""The example's API in this process, which counts what it is asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import resource_server
from playground import Playground

from leasehold.verifier import Verifier


@dataclass
class Api:
    """Where it is, and what came."""

    url: str
    server: Any
    #: Of every request its token, and the certificate of its connection.
    asked: list[tuple[str | None, bytes | None]] = field(default_factory=list)
    #: Of every request its proofs.
    proofs: list[list[str]] = field(default_factory=list)
    connections: int = 0


@contextmanager
def serving(playground: Playground, verifier: Verifier | None = None) -> Iterator[Api]:
    """Runs it; with another verifier, if one is given."""
    server = resource_server.server(playground.folder, playground.issuer)
    api = Api(f"https://localhost:{server.server_address[1]}", server)
    handler: Any = server.RequestHandlerClass
    if verifier is not None:
        handler.verifier.close()
        handler.verifier = verifier

    class Counting(handler):  # type: ignore[misc]
        def setup(self) -> None:
            api.connections += 1
            super().setup()

        def authorize(self, action: str) -> Any:
            shown = self.connection.getpeercert(binary_form=True)
            api.asked.append((self.headers.get("Authorization"), shown))
            api.proofs.append(self.headers.get_all("DPoP") or [])
            return super().authorize(action)

    server.RequestHandlerClass = Counting
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        handler.verifier.close()
