"""Errors say what is wrong, by a stable reason, and what to do."""

from __future__ import annotations

import copy
import pickle
import re
import socket
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo
from google.rpc.status_pb2 import Status
from playground import AUDIENCE, SUMMARIZER, Authority, Playground

import leasehold
from leasehold import errors
from leasehold._status import error_of

SOURCES = Path(__file__).resolve().parents[3] / "src"
ADDRESS = "https://broker.example:7700"


def told(code: grpc.StatusCode, *details: Message, text: str = "no") -> leasehold.LeaseholdError:
    status = Status(code=code.value[0], message=text)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    trailers = [("grpc-status-details-bin", status.SerializeToString())]
    return error_of(code, text, trailers, address=ADDRESS, request_id="7")


def info(reason: str, domain: str = "leasehold") -> ErrorInfo:
    return ErrorInfo(reason=reason, domain=domain)


def test_every_reason_of_the_broker_has_a_class_and_a_remedy() -> None:
    refusals = re.findall(
        r'=> "([A-Z_]+)"', (SOURCES / "domain" / "refusal.rs").read_text()
    ) + re.findall(r'Code::\w+, "([A-Z_]+)"', (SOURCES / "grpc" / "status.rs").read_text())
    assert len(set(refusals)) > 20
    for reason in set(refusals):
        assert reason in errors.CLASSES, f"{reason} is not in errors.py"
        assert errors.REMEDIES[reason]


def test_an_error_carries_what_the_broker_said() -> None:
    violations = BadRequest(
        field_violations=[BadRequest.FieldViolation(field="tier", description="is no tier")]
    )
    error = told(grpc.StatusCode.INVALID_ARGUMENT, info("REQUEST_INVALID"), violations)
    assert type(error) is leasehold.RequestError
    assert (error.reason, error.code, error.message) == (
        "REQUEST_INVALID",
        "INVALID_ARGUMENT",
        "no",
    )
    assert error.field_violations == (leasehold.FieldViolation("tier", "is no tier"),)
    assert error.request_id == "7"
    assert not error.retriable
    assert str(error) == "no [REQUEST_INVALID]"


def test_when_to_try_again_is_told() -> None:
    retry = RetryInfo()
    retry.retry_delay.FromMilliseconds(1_500)
    error = told(grpc.StatusCode.UNAVAILABLE, retry, info("NOT_DURABLE"))
    assert isinstance(error, leasehold.UnavailableError)
    assert error.retriable
    assert error.retry_after == timedelta(seconds=1.5)
    assert "same `request_id`" in error.remedy


def test_a_stale_epoch_tells_the_present_one() -> None:
    violation = PreconditionFailure.Violation(type="EPOCH", subject="epoch:12")
    failure = PreconditionFailure(violations=[violation])
    error = told(grpc.StatusCode.FAILED_PRECONDITION, info("EPOCH_STALE"), failure)
    assert isinstance(error, leasehold.EpochStaleError)
    assert error.current_epoch == 12


def test_a_reason_of_a_newer_broker_is_an_error_all_the_same() -> None:
    error = told(grpc.StatusCode.FAILED_PRECONDITION, info("MOON_IN_CANCER"))
    assert type(error) is leasehold.LeaseholdError
    assert error.reason == "MOON_IN_CANCER"
    assert error.remedy


def test_details_of_somebody_else_are_not_the_brokers() -> None:
    error = told(grpc.StatusCode.FAILED_PRECONDITION, info("TASK_ENDED", domain="proxy.example"))
    assert not isinstance(error, leasehold.TaskEndedError)
    assert error.reason == "FAILED_PRECONDITION"
    garbage = [("grpc-status-details-bin", b"\xff\xff")]
    error = error_of(grpc.StatusCode.UNKNOWN, "x", garbage, address=ADDRESS)
    assert error.reason == "UNKNOWN"


def test_errors_travel_between_processes() -> None:
    error = told(grpc.StatusCode.FAILED_PRECONDITION, info("TASK_ENDED"), text="it has ended")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert type(other) is leasehold.TaskEndedError
        assert (str(other), vars(other)) == (str(error), vars(error))


def test_a_field_of_the_request_that_is_wrong_is_named(
    orchestrator: leasehold.Client,
) -> None:
    with pytest.raises(leasehold.RequestError) as caught:
        orchestrator.begin(
            agent=SUMMARIZER,
            grant={AUDIENCE: ["read"]},
            tier="standard",
            duration=60,
            purpose="a long story " * 100,
        )
    assert [violation.field for violation in caught.value.field_violations] == ["purpose"]


def test_who_may_not_do_it_is_told_what_is_missing(agent: leasehold.Client) -> None:
    with pytest.raises(leasehold.DeniedError) as caught:
        agent.begin(agent=SUMMARIZER, grant={AUDIENCE: ["read"]}, tier="standard", duration=60)
    assert caught.value.reason == "ROLE_MISSING"
    assert "[[roles]]" in caught.value.remedy


def test_nobody_listening_is_said_with_the_address(playground: Playground) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"https://127.0.0.1:{taken.getsockname()[1]}"
    identity = playground.identity("summarizer")
    with leasehold.Client(address, ca=playground.ca, identity=identity) as client:
        with pytest.raises(leasehold.UnavailableError) as caught:
            client.get("tsk_00")
        assert client._transport._line is None, "the next call connects anew"
    assert caught.value.reason == "BROKER_UNREACHABLE"
    assert address in caught.value.message
    assert "`address`" in caught.value.remedy


def test_a_broker_that_says_nothing_is_given_up_after_the_timeout(playground: Playground) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"https://127.0.0.1:{silent.getsockname()[1]}"
        identity = playground.identity("summarizer")
        with (
            leasehold.Client(address, ca=playground.ca, identity=identity, timeout=0.5) as client,
            pytest.raises(leasehold.UnavailableError) as caught,
        ):
            client.get("tsk_00")
    assert caught.value.reason in ("DEADLINE_EXCEEDED", "BROKER_UNREACHABLE")


def test_a_broker_that_another_ca_vouches_for_is_told_nothing(
    playground: Playground, tmp_path: Path
) -> None:
    strange = tmp_path / "strange.pem"
    strange.write_bytes(playground.authority.pem())
    identity = playground.identity("summarizer")
    with (
        leasehold.Client(playground.address, ca=strange, identity=identity) as client,
        pytest.raises(leasehold.IdentityError) as caught,
    ):
        client.get("tsk_00")
    assert caught.value.reason == "BROKER_UNTRUSTED"
    assert "`ca`" in caught.value.remedy


def test_a_certificate_that_the_broker_does_not_know_proves_nothing(
    playground: Playground, tmp_path: Path
) -> None:
    identity = Authority().svid(SUMMARIZER).write(tmp_path)
    with (
        leasehold.Client(playground.address, ca=playground.ca, identity=identity) as client,
        pytest.raises(leasehold.IdentityError) as caught,
    ):
        client.get("tsk_00")
    assert caught.value.reason == "IDENTITY_UNVERIFIED"
    assert "X509Identity" in caught.value.remedy


def test_an_svid_that_has_expired_is_said_to_have(playground: Playground, tmp_path: Path) -> None:
    identity = playground.authority.svid(SUMMARIZER, seconds=-1).write(tmp_path)
    with (
        leasehold.Client(playground.address, ca=playground.ca, identity=identity) as client,
        pytest.raises(leasehold.IdentityError, match="has expired at") as caught,
    ):
        client.get("tsk_00")
    assert caught.value.reason == "IDENTITY_UNVERIFIED"


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:7700", "127.0.0.1:7700", "https://", "https://a/b"]
)
def test_an_address_without_tls_is_no_address(playground: Playground, address: str) -> None:
    with pytest.raises(leasehold.RequestError, match="TLS only"):
        leasehold.Client(address, identity=playground.identity("summarizer"))
