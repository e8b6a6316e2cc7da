"""Sidecars to test beside: `leasehold verify`, which follows the broker as any verifier does."""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import wait_until
from playground import AUDIENCE, Playground, binary

from leasehold.sidecar import _UnixConnection as UnixConnection


def get(path: Path, what: str) -> int | None:
    """The status, if there is somebody who answers."""
    connection = UnixConnection(str(path), 5.0)
    try:
        connection.request("GET", what)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@contextmanager
def running(playground: Playground, folder: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Where it answers, and its process. The folder's name is short, as sockets need it."""
    path = folder / "verify.sock"
    documents = [str(playground.folder / name) for name in ("documents.pem", "documents.key")]
    command = [binary(), "verify", "--listen", f"unix:{path}", "--audience", AUDIENCE]
    command += ["--public-url", AUDIENCE, "--broker", playground.address]
    command += ["--ca", str(playground.ca), "--cert", documents[0], "--key", documents[1]]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        wait_until(lambda: get(path, "/readyz") == 200)
        yield path, process
    finally:
        process.kill()
        process.wait(timeout=30)
