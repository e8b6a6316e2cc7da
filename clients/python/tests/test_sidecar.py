"""A resource server beside a sidecar takes whom the sidecar lets in, and knows at once what is over."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from playground import AUDIENCE, LEDGER, SUMMARIZER, Playground
from sidecars import running
from test_verifier import der_of_pair

import leasehold
from leasehold.sidecar import (
    AsyncSidecar,
    DpopProofs,
    Presented,
    Sidecar,
    SidecarRefusedError,
    TokenRefusedError,
    VerifierUnavailableError,
    presented,
)
from leasehold.sidecar import _UnixConnection as UnixConnection

ENTRIES = f"{AUDIENCE}/entries"


@pytest.fixture(scope="session")
def path(playground: Playground) -> Iterator[Path]:
    """Where a sidecar answers. Its folder has a short name, as sockets need it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running(playground, Path(folder)) as (path, _),
    ):
        yield path


@pytest.fixture
def sidecar(path: Path) -> Iterator[Sidecar]:
    with Sidecar(AUDIENCE, socket_path=path) as made:
        yield made


@pytest.fixture
def issued(agent: leasehold.Client, task: leasehold.Task) -> Iterator[tuple[str, bytes, str]]:
    """A token, the certificate that it is bound to, and its lease."""
    with agent.credential(task.id, AUDIENCE) as credential:
        current = credential.current()
        yield current.token, der_of_pair(current.key_pair), current.lease_id


def test_a_token_is_good_until_its_task_ends_and_the_server_does_not_ask_the_broker(
    sidecar: Sidecar, issued: tuple[str, bytes, str], task: leasehold.Task
) -> None:
    token, certificate, lease_id = issued
    told = sidecar.verify_active(token, certificate=certificate, action="annotate")
    assert (told.agent, told.subject) == (SUMMARIZER, SUMMARIZER)
    assert (told.task_id, told.root_task_id, told.lease_id) == (task.id, task.id, lease_id)
    assert told.allows("read")
    task.complete()
    with pytest.raises(SidecarRefusedError, match="ended") as caught:
        sidecar.verify(token, certificate=certificate, action="read")
    assert (caught.value.status, caught.value.error) == (401, "invalid_token")
    assert caught.value.reason == "EPOCH_STALE"
    assert caught.value.headers == {"www-authenticate": caught.value.www_authenticate}
    assert caught.value.www_authenticate.startswith('Bearer error="invalid_token"')


def test_whoever_shows_less_is_refused_with_the_answer_to_give(
    sidecar: Sidecar, issued: tuple[str, bytes, str]
) -> None:
    token, certificate, _ = issued
    for shown, der, action, status, challenge in [
        ("", certificate, "read", 401, "Bearer, DPoP algs="),
        ("a.b.c", certificate, "read", 401, 'Bearer error="invalid_token"'),
        (token, None, "read", 401, 'Bearer error="invalid_token"'),
        (token, b"another", "read", 401, 'Bearer error="invalid_token"'),
        (token, certificate, "delete", 403, 'Bearer error="insufficient_scope"'),
    ]:
        with pytest.raises(SidecarRefusedError) as caught:
            sidecar.verify_active(shown, certificate=der, action=action)
        assert caught.value.status == status
        assert caught.value.www_authenticate.startswith(challenge)
        assert token not in str(caught.value)
        with pytest.raises(SidecarRefusedError):
            sidecar.admit(shown, certificate=der, action=action)
    with pytest.raises(TokenRefusedError, match="does not allow"):
        sidecar.verify_active(token, certificate=certificate, action="read", data_class="secret")


def test_what_runs_is_told_when_its_credential_dies_and_nothing_once_it_is_closed(
    sidecar: Sidecar, issued: tuple[str, bytes, str], task: leasehold.Task
) -> None:
    token, certificate, _ = issued
    with sidecar.admit(token, certificate=certificate, action="read") as admission:
        assert admission.token.task_id == task.id
        heard: list[str | None] = []
        waiting = threading.Thread(
            target=lambda: heard.append(admission.wait_revoked()), daemon=True
        )
        waiting.start()
        task.complete()
        waiting.join(timeout=30)
        assert heard == ["EPOCH_STALE"]
        waiting = threading.Thread(
            target=lambda: heard.append(admission.wait_revoked()), daemon=True
        )
        waiting.start()
    waiting.join(timeout=30)
    assert heard == ["EPOCH_STALE", None]
    assert admission.wait_revoked() is None


def test_a_proof_is_good_once_for_the_request_that_it_is_for(
    playground: Playground, agent: leasehold.Client, task: leasehold.Task
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        running(playground, Path(folder)) as (path, _),
        Sidecar(AUDIENCE, socket_path=path) as sidecar,
        agent.credential(task.id, AUDIENCE, proof="dpop") as credential,
    ):

        def made(nonce: str | None = None) -> Presented:
            headers = credential.headers("GET", ENTRIES, nonce=nonce)
            url = f"{ENTRIES}?page=2"
            return presented(headers["Authorization"], [headers["DPoP"]], method="GET", url=url)

        shown = made()

        def ask(dpop: DpopProofs | None) -> None:
            sidecar.verify_active(shown.token, certificate=None, action="read", dpop=dpop)

        with pytest.raises(SidecarRefusedError) as caught:
            ask(shown.dpop)
        assert caught.value.error == "use_dpop_nonce", "it began a moment ago"
        shown = made(caught.value.headers["dpop-nonce"])
        ask(shown.dpop)
        fresh = credential.headers("GET", ENTRIES)["DPoP"]
        for dpop, error in [
            (shown.dpop, "invalid_dpop_proof"),
            (DpopProofs([fresh], "POST", ENTRIES), "invalid_dpop_proof"),
            (DpopProofs([fresh], "GET", f"{AUDIENCE}/other"), "invalid_dpop_proof"),
            (DpopProofs([], "GET", ENTRIES), "invalid_dpop_proof"),
            (DpopProofs([fresh, fresh], "GET", ENTRIES), "invalid_request"),
            (None, "invalid_token"),
        ]:
            with pytest.raises(SidecarRefusedError) as caught:
                ask(dpop)
            assert caught.value.error == error


def test_without_a_sidecar_or_with_somebody_elses_there_is_no_yes(
    path: Path, issued: tuple[str, bytes, str], tmp_path: Path
) -> None:
    token, certificate, _ = issued
    nobody = Sidecar(AUDIENCE, socket_path=tmp_path / "none.sock")
    other = Sidecar(LEDGER, socket_path=path)
    for sidecar, why in [(nobody, "cannot be asked"), (other, "another audience")]:
        for question in (sidecar.verify_active, sidecar.admit):
            with pytest.raises(VerifierUnavailableError, match=why) as caught:
                question(token, certificate=certificate, action="read")
            assert caught.value.status == 503


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"{}"),
        (200, b'{"active":1}'),
        (200, b'{"active":true}'),
        (200, json.dumps({"active": True, "audience": AUDIENCE, "claims": {}}).encode()),
        (200, b'{"active":false}'),
        (401, b'{"active":false,"status":403,"message":"no"}'),
        (401, b'{"active":true}'),
        (503, b'{"active":false,"status":503,"message":"too old"}'),
        (422, b'{"error":"bad_call","message":"unknown field"}'),
        (500, b"oops"),
    ],
)
def test_whatever_is_no_clear_yes_is_none(status: int, body: bytes) -> None:
    assert_no_yes(status, body)


def test_the_words_of_a_yes_under_another_status_are_none(
    path: Path, issued: tuple[str, bytes, str]
) -> None:
    token, certificate, _ = issued
    status, body = asked(path, token, certificate)
    assert status == 200
    for status in (201, 400, 401, 403, 500, 503):
        assert_no_yes(status, body)


def assert_no_yes(status: int, body: bytes) -> None:
    """Nobody is let in by such an answer."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = os.path.join(folder, "s")
        listener.bind(path)
        listener.listen()

        def answer() -> None:
            for _ in range(2):
                peer, _ = listener.accept()
                with peer:
                    peer.recv(65_536)
                    head = f"HTTP/1.1 {status} x\r\ncontent-length: {len(body)}\r\n\r\n"
                    peer.sendall(head.encode() + body)

        answering = threading.Thread(target=answer, daemon=True)
        answering.start()
        sidecar = Sidecar(AUDIENCE, socket_path=path)
        for question in (sidecar.verify_active, sidecar.admit):
            with pytest.raises(VerifierUnavailableError):
                question("a.b.c", certificate=None, action="read")
        answering.join(timeout=30)


def test_a_sidecar_that_stops_leaves_what_runs_without_news(
    playground: Playground, issued: tuple[str, bytes, str]
) -> None:
    token, certificate, _ = issued
    with (
        tempfile.TemporaryDirectory() as folder,
        running(playground, Path(folder)) as (path, process),
    ):
        sidecar = Sidecar(AUDIENCE, socket_path=path)
        with sidecar.admit(token, certificate=certificate, action="read") as admission:
            process.kill()
            assert admission.wait_revoked() is None


def test_the_same_with_await(
    path: Path, issued: tuple[str, bytes, str], task: leasehold.Task
) -> None:
    token, certificate, _ = issued

    async def main() -> None:
        async with AsyncSidecar(AUDIENCE, socket_path=path) as sidecar:
            told = await sidecar.verify(token, certificate=certificate, action="read")
            with await sidecar.admit(token, certificate=certificate, action="read") as admission:
                assert admission.token == told
                await asyncio.to_thread(task.complete)
                assert await asyncio.to_thread(admission.wait_revoked) == "EPOCH_STALE"
            with pytest.raises(SidecarRefusedError):
                await sidecar.verify_active(token, certificate=certificate, action="read")

    asyncio.run(main())


def test_the_call_is_as_it_is_documented(
    path: Path, issued: tuple[str, bytes, str], task: leasehold.Task
) -> None:
    """Without this package: an HTTP client, JSON, and what the how-to page says."""
    token, certificate, lease_id = issued
    status, body = asked(path, token, certificate)
    said = json.loads(body)
    assert (status, said["active"]) == (200, True)
    assert (said["task"], said["lease"]) == (task.id, lease_id)
    assert said["path"] == [{"task": task.id, "epoch": 1}]


def asked(path: Path, token: str, certificate: bytes) -> tuple[int, bytes]:
    """What the sidecar answers to a question in JSON."""
    connection = UnixConnection(str(path), 5.0)
    question = {
        "authorization": f"Bearer {token}",
        "certificate_sha256": urlsafe_b64encode(sha256(certificate).digest()).rstrip(b"=").decode(),
        "actions": ["read"],
    }
    headers = {"content-type": "application/json"}
    connection.request("POST", "/v1/verify", json.dumps(question), headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body
