"""A credential that is kept alive for as long as its task lives, and no longer."""

from __future__ import annotations

import gc
import hashlib
import io
import logging
import ssl
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_until
from cryptography import x509
from playground import AUDIENCE, LEDGER, SUMMARIZER, Playground

import leasehold
from leasehold import Credential
from leasehold._rpc import Call, Rpc
from leasehold.v1 import operator_service_pb2 as operations


def is_active(documents: leasehold.Client, token: str) -> bool:
    return documents.introspect(token).active


def revoke(operator: leasehold.Client, lease_id: str) -> None:
    request = operations.RevokeLeaseRequest(request_id=str(uuid.uuid4()), lease_id=lease_id)
    rpc = Rpc("/leasehold.v1.OperatorService/RevokeLease", operations.RevokeLeaseResponse)
    operator._transport.send(Call(rpc, request, lambda answer: answer))


def test_an_agent_gets_a_token_that_is_active(
    agent: leasehold.Client, documents: leasehold.Client, task: leasehold.Task
) -> None:
    with agent.credential(task.id, AUDIENCE) as credential:
        told = documents.introspect(credential.token())
        assert told.active
        assert told.claims["client_id"] == SUMMARIZER
        assert told.claims["cnf"]["x5t#S256"] == credential.current().key_pair.thumbprint  # type: ignore[union-attr]
        assert credential.headers() == {"Authorization": f"Bearer {credential.token()}"}


def test_a_task_leads_to_its_credential(
    agent: leasehold.Client, orchestrator: leasehold.Client
) -> None:
    begun = orchestrator.begin(
        agent=SUMMARIZER,
        grant={AUDIENCE: ["read"]},
        tier="standard",
        duration=60,
        step="first",
        checkpoint=b"page 3",
    )
    with agent.get(begun.id).credential(AUDIENCE, ttl=30) as credential:
        issued = credential.current()
    assert (issued.step, issued.checkpoint, issued.epoch) == ("first", b"page 3", 1)
    assert issued.life == 29


def test_less_than_the_grant_can_be_asked_for_and_not_more(
    agent: leasehold.Client, documents: leasehold.Client, task: leasehold.Task
) -> None:
    with agent.credential(task.id, AUDIENCE, grant={AUDIENCE: ["read"]}) as credential:
        claims = documents.introspect(credential.token()).claims
    assert claims["authorization_details"][0]["actions"] == ["read"]
    with pytest.raises(leasehold.LeaseholdError) as caught:
        agent.credential(task.id, AUDIENCE, grant={AUDIENCE: ["write"]})
    assert isinstance(caught.value, leasehold.DeniedError)


def test_an_audience_that_the_grant_does_not_name_is_refused(
    agent: leasehold.Client, task: leasehold.Task
) -> None:
    with pytest.raises(leasehold.DeniedError) as caught:
        agent.credential(task.id, LEDGER)
    assert caught.value.reason == "TARGET_NOT_ALLOWED"
    assert LEDGER in caught.value.message


def test_another_agent_gets_nothing(playground: Playground, task: leasehold.Task) -> None:
    with playground.client("researcher") as other, pytest.raises(leasehold.NotFoundError):
        other.credential(task.id, AUDIENCE)


def test_it_is_renewed_in_the_background_before_it_expires(
    agent: leasehold.Client, documents: leasehold.Client, task: leasehold.Task
) -> None:
    with agent.credential(task.id, AUDIENCE, ttl=4) as credential:
        first = credential.current()
        seen = {first.token}

        def renewed_twice() -> bool:
            seen.add(credential._renewal.latest.token)  # type: ignore[union-attr]
            return len(seen) == 3

        wait_until(renewed_twice)
        latest = credential.current()
        assert latest.lease_id == first.lease_id, "a renewal, not another lease"
        assert latest.expires_at > first.expires_at
        assert is_active(documents, latest.token)


def test_after_a_change_the_next_one_is_of_the_new_epoch(
    agent: leasehold.Client, documents: leasehold.Client, task: leasehold.Task
) -> None:
    with agent.credential(task.id, AUDIENCE, ttl=4) as credential:
        first = credential.current()
        task.advance(step="review", grant={AUDIENCE: ["read"]}, checkpoint=b"page 9")
        assert not is_active(documents, first.token)
        wait_until(lambda: credential.current().epoch == 2)
        second = credential.current()
        assert second.lease_id != first.lease_id
        assert (second.step, second.checkpoint) == ("review", b"page 9")
        claims = documents.introspect(second.token).claims
        assert claims["authorization_details"][0]["actions"] == ["read"]


def test_one_that_was_asked_for_an_epoch_ends_with_that_epoch(
    agent: leasehold.Client, task: leasehold.Task
) -> None:
    with agent.credential(task.id, AUDIENCE, expected_epoch=1) as credential:
        task.advance(step="review")
        with pytest.raises(leasehold.EpochStaleError):
            credential.refresh()
        assert isinstance(credential.error, leasehold.EpochStaleError)
        with pytest.raises(leasehold.EpochStaleError):
            credential.token()


def test_the_end_of_the_task_is_the_end_of_it_and_says_so(
    agent: leasehold.Client, task: leasehold.Task
) -> None:
    credential = agent.credential(task.id, AUDIENCE, ttl=3)
    task.complete()
    wait_until(lambda: credential.error is not None)
    assert isinstance(credential.error, leasehold.TaskEndedError)
    for _ in range(2):
        with pytest.raises(leasehold.TaskEndedError) as caught:
            credential.token()
        assert "completed" in caught.value.message
        assert caught.value.remedy == "begin another task"
    credential.release()


def test_while_the_task_is_suspended_there_is_none_and_then_there_is_one_again(
    agent: leasehold.Client, documents: leasehold.Client, task: leasehold.Task
) -> None:
    with agent.credential(task.id, AUDIENCE) as credential:
        task.suspend()
        with pytest.raises(leasehold.TaskStateError) as caught:
            credential.refresh()
        assert caught.value.reason == "TASK_SUSPENDED"
        with pytest.raises(leasehold.TaskStateError):
            credential.token()
        task.resume()
        assert is_active(documents, credential.token())
        assert credential.error is None


def test_a_revoked_lease_is_followed_by_another(
    playground: Playground,
    agent: leasehold.Client,
    documents: leasehold.Client,
    task: leasehold.Task,
) -> None:
    with (
        agent.credential(task.id, AUDIENCE) as credential,
        playground.client("operator") as operator,
    ):
        first = credential.current()
        revoke(operator, first.lease_id)
        assert not is_active(documents, first.token)
        second = credential.replace(first)
        assert second is not None
        assert second.lease_id != first.lease_id
        assert is_active(documents, second.token)
        assert credential.replace(first) is second


def test_the_ceiling_is_the_end_of_it_but_not_before_it_expires(
    agent: leasehold.Client, orchestrator: leasehold.Client
) -> None:
    flash = orchestrator.begin(
        agent=SUMMARIZER, grant={AUDIENCE: ["read"]}, tier="flash", duration=60
    )
    with agent.credential(flash.id, AUDIENCE) as credential:
        wait_until(lambda: credential.error is not None)
        assert isinstance(credential.error, leasehold.LeaseError)
        assert credential.error.reason == "CEILING_REACHED"

        def refused() -> bool:
            try:
                credential.token()
            except leasehold.LeaseError:
                return True
            return False

        wait_until(refused)


def test_many_threads_that_find_it_expired_ask_once(
    agent: leasehold.Client, task: leasehold.Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = agent.credential(task.id, AUDIENCE)
    asked: list[str] = []
    send = credential._transport.send_as

    def counted(call: Any, timeout: float | None = None) -> Any:
        asked.append(call.rpc.path)
        return send(call, timeout)

    monkeypatch.setattr(credential._transport, "send_as", counted)
    with credential._lock:
        credential._renewal._is_dead = True
    barrier = threading.Barrier(8)

    def token() -> str:
        barrier.wait()
        return credential.token()

    with ThreadPoolExecutor(8) as threads:
        tokens = {future.result() for future in [threads.submit(token) for _ in range(8)]}
    assert len(tokens) == 1
    assert asked == ["/leasehold.v1.CredentialService/RenewCredential"]
    credential.close()


def test_left_it_gives_its_lease_back(
    agent: leasehold.Client, documents: leasehold.Client, task: leasehold.Task
) -> None:
    with agent.credential(task.id, AUDIENCE) as credential:
        token = credential.token()
        assert is_active(documents, token)
    assert not is_active(documents, token)
    with pytest.raises(leasehold.LeaseholdError) as caught:
        credential.token()
    assert caught.value.reason == "CLOSED"
    credential.release()


def test_closed_it_is_used_no_more_and_lives_on(
    agent: leasehold.Client, documents: leasehold.Client, task: leasehold.Task
) -> None:
    credential = agent.credential(task.id, AUDIENCE)
    token = credential.token()
    agent.close()
    assert is_active(documents, token)
    with pytest.raises(leasehold.LeaseholdError, match="CLOSED"):
        credential.token()
    with pytest.raises(leasehold.LeaseholdError, match="CLOSED"):
        agent.get(task.id)


def renewers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"leasehold {AUDIENCE}"]


def test_forgotten_it_is_renewed_no_more(agent: leasehold.Client, task: leasehold.Task) -> None:
    wait_until(lambda: not renewers())
    credential = agent.credential(task.id, AUDIENCE)
    assert len(renewers()) == 1
    del credential
    gc.collect()
    wait_until(lambda: not renewers())


def test_it_is_in_nothing_that_is_printed_or_logged(
    agent: leasehold.Client, task: leasehold.Task
) -> None:
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    logger = logging.getLogger()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        with agent.credential(task.id, AUDIENCE, proof="key") as credential:
            issued = credential.current()
            credential.refresh()
            task.complete()
            with pytest.raises(leasehold.TaskEndedError) as caught:
                credential.refresh()
        print(credential, repr(credential), issued, issued.key_pair, agent, caught.value, file=told)
        print(repr(credential._renewal), vars(caught.value), file=told)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.WARNING)
    assert issued.key_pair is not None
    assert "lives until" in told.getvalue()
    secrets = [issued.token, issued.token.split(".")[2], issued.key_pair.key_pem.decode()]
    for secret in secrets:
        assert secret not in told.getvalue()


def test_a_token_can_be_bound_to_a_key_that_is_made_here(
    agent: leasehold.Client, documents: leasehold.Client, task: leasehold.Task
) -> None:
    with agent.credential(task.id, AUDIENCE, proof="key") as credential:
        issued = credential.current()
        assert issued.key_pair is not None
        assert issued.spiffe_id.startswith("spiffe://leasehold.example/task/")
        claims = documents.introspect(issued.token).claims
        assert claims["cnf"] == {"x5t#S256": issued.key_pair.thumbprint}
        second = credential.refresh()
        assert second.key_pair is not None
        assert second.key_pair.thumbprint != issued.key_pair.thumbprint


def test_a_bearer_token_is_bound_to_nothing(
    agent: leasehold.Client, documents: leasehold.Client, task: leasehold.Task
) -> None:
    with agent.credential(task.id, AUDIENCE, proof="bearer") as credential:
        assert credential.current().key_pair is None
        assert "cnf" not in documents.introspect(credential.token()).claims


def test_a_certificate_is_kept_alive_as_well(
    agent: leasehold.Client, documents: leasehold.Client, task: leasehold.Task
) -> None:
    with agent.certificate(task.id, AUDIENCE) as certificate:
        pair = certificate.current().key_pair
        assert pair is not None
        der = ssl.PEM_cert_to_DER_cert(pair.certificate_pem.decode().split("-----END")[0] + _END)
        assert documents.introspect(certificate=der).active
        assert certificate.token() == ""
        renewed = certificate.refresh().key_pair
        assert renewed is not None
        assert renewed.thumbprint != pair.thumbprint


_END = "-----END CERTIFICATE-----\n"


def test_its_tls_shows_the_certificate_that_the_token_is_bound_to(
    playground: Playground, agent: leasehold.Client, task: leasehold.Task
) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(playground.folder / "documents.pem", playground.folder / "documents.key")
    server.load_verify_locations(playground.ca)
    server.verify_mode = ssl.CERT_REQUIRED
    with agent.credential(task.id, AUDIENCE) as credential:
        client = credential.ssl_context(playground.ca)
        shown = _handshake(server, client)
        pair = credential.current().key_pair
        assert pair is not None
        assert shown == x509.load_pem_x509_certificate(pair.certificate_pem).fingerprint(
            x509.load_pem_x509_certificate(pair.certificate_pem).signature_hash_algorithm  # type: ignore[arg-type]
        )


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    """In memory; the SHA-256 of the certificate that the client showed."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    der = ends[1].getpeercert(binary_form=True)
    assert der
    return hashlib.sha256(der).digest()


def test_who_has_no_certificate_gets_a_token_bound_to_a_fresh_key(
    playground: Playground, orchestrator: leasehold.Client, tmp_path: Path
) -> None:
    begun = orchestrator.begin(
        agent="oidc:dev:reporter", grant={AUDIENCE: ["read"]}, tier="standard", duration=60
    )
    file = tmp_path / "reporter.jwt"
    file.write_text(playground.oidc_token("reporter") + "\n")
    identity = leasehold.TokenIdentity(file)
    with (
        leasehold.Client(playground.address, ca=playground.ca, identity=identity) as reporter,
        reporter.credential(begun.id, AUDIENCE) as credential,
        playground.client("documents") as documents,
    ):
        assert credential.current().key_pair is not None
        assert is_active(documents, credential.token())


def test_a_moment_without_a_broker_is_not_noticed_and_a_longer_one_is_said(
    tmp_path: Path,
) -> None:
    own = Playground(tmp_path / "play")
    try:
        with own.client("orchestrator") as orchestrator, own.client("summarizer", 2) as agent:
            begun = orchestrator.begin(
                agent=SUMMARIZER, grant={AUDIENCE: ["read"]}, tier="standard", duration=60
            )
            credential = agent.credential(begun.id, AUDIENCE, ttl=8)
            own.stop()
            first = credential.current()
            wait_until(lambda: credential._renewal.failure is not None)
            assert credential.current() is first, "it lives to its end"
            wait_until(lambda: _is_unavailable(credential))
            assert credential.error is None, "the broker may come back"
            own.start()
            wait_until(lambda: not _is_unavailable(credential))
            assert credential.current().token != first.token
    finally:
        own.stop()


def _is_unavailable(credential: Credential) -> bool:
    try:
        credential.token()
    except leasehold.UnavailableError as error:
        assert error.reason == "BROKER_UNREACHABLE"
        assert error.retriable
        time.sleep(0.2)
        return True
    return False
