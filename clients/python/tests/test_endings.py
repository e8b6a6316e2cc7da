"""Whoever ends something is told how far that is: who might still accept its credentials, and until when."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_until
from playground import AUDIENCE, SUMMARIZER, Playground
from sidecars import running
from test_async import client
from test_verifier import der_of_pair

import leasehold
from leasehold import Enforcement, TaskState
from leasehold.sidecar import Sidecar

DOCUMENTS = "spiffe://dev.example/api/documents"
TERMS: dict[str, Any] = {
    "agent": SUMMARIZER,
    "grant": {AUDIENCE: ["read"]},
    "tier": "calm",
    "duration": 600,
}
#: Long for whoever lives, and less than the tier's `freshness`.
SOON = 0.5
FRESHNESS = timedelta(seconds=10)
VERBS = ("advance", "suspend", "complete", "fail", "cancel")

Beside = tuple[Path, subprocess.Popen[bytes]]
Begin = Callable[[], leasehold.Task]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """A broker that has no other verifiers than those of these tests."""
    made = Playground(tmp_path_factory.mktemp("site") / "play", patient=True)
    yield made
    made.stop()


@pytest.fixture
def begin(site: Playground) -> Iterator[Begin]:
    with site.client("orchestrator") as orchestrator:
        yield lambda: orchestrator.begin(**TERMS)


@pytest.fixture(scope="module")
def verifier_beside(site: Playground) -> Iterator[Beside]:
    with tempfile.TemporaryDirectory() as folder, running(site, Path(folder)) as made:
        yield made


@pytest.fixture
def beside(verifier_beside: Beside, begin: Begin) -> Beside:
    """The only verifier that the broker believes to be there: what is older than it counts no more."""
    wait_until(lambda: begin().complete(wait_timeout=SOON).revocation.is_fenced)
    return verifier_beside


@contextmanager
def halted(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Meanwhile it does nothing, and its connections stay."""
    process.send_signal(signal.SIGSTOP)
    # The kernel's letter for it, behind a name in brackets.
    stat = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verifier_that_lives_is_waited_for_and_then_nobody_is_missing(
    beside: Beside, begin: Begin, verb: str
) -> None:
    assert beside
    task = begin()
    changed: leasehold.ChangedTask = getattr(task, verb)(wait_timeout=5)
    assert (task.info, task.revocation) == (changed, changed.revocation)
    told = changed.revocation
    assert (told.enforcement, told.is_fenced, told.is_drained) == (Enforcement.FENCED, True, False)
    assert (told.pending, str(told)) == ((), "fenced")
    assert told.fenced_at is not None
    assert told.fenced_at_latest is not None
    assert told.recorded_at <= told.fenced_at < told.fenced_at_latest


def test_one_that_is_halted_is_named_with_the_time_until_which_it_might_accept(
    beside: Beside, begin: Begin
) -> None:
    tasks = [begin() for _ in VERBS]
    with halted(beside[1]):
        for task, verb in zip(tasks, VERBS, strict=True):
            told: leasehold.Revocation = getattr(task, verb)(wait_timeout=SOON).revocation
            assert (told.enforcement, told.is_fenced) == (Enforcement.RECORDED, False)
            (missing,) = told.pending
            assert missing.name == DOCUMENTS
            assert missing.instance
            assert missing.broker
            assert FRESHNESS <= missing.may_accept_until - told.recorded_at <= FRESHNESS * 1.05
            assert told.fenced_at_latest is not None
            assert told.fenced_at_latest >= missing.may_accept_until
            until = missing.may_accept_until.isoformat()
            assert f"`{DOCUMENTS}` may accept it until {until}" in str(told)
    # Asked again, how far it is now.
    told = tasks[2].complete().revocation
    assert (told.is_fenced, told.pending) == (True, ())


def test_who_does_not_say_for_how_long_waits_until_it_is_certain_whatever_calls_may_take(
    site: Playground, beside: Beside
) -> None:
    with site.client("orchestrator", timeout=0.5) as hasty:
        task = hasty.begin(**{**TERMS, "tier": "standard"})
        with halted(beside[1]):
            told = task.complete().revocation
        assert told.fenced_at is not None
        assert told.fenced_at - told.recorded_at >= timedelta(seconds=1)


def test_whoever_waits_for_nobody_is_told_by_when_it_is_certain(begin: Begin) -> None:
    told = begin().complete(wait_for=Enforcement.RECORDED).revocation
    assert (told.enforcement, told.fenced_at, told.pending) == (Enforcement.RECORDED, None, ())
    assert told.fenced_at_latest is not None
    assert told.fenced_at_latest > told.recorded_at


def test_drained_is_once_nothing_runs_any_more(
    site: Playground, beside: Beside, begin: Begin
) -> None:
    task = begin()
    with site.client("summarizer") as agent, agent.credential(task.id, AUDIENCE) as credential:
        issued = credential.current()
        admit = Sidecar(AUDIENCE, socket_path=beside[0]).admit
        certificate = der_of_pair(issued.key_pair)
        with admit(issued.token, certificate=certificate, action="read"):
            told = task.complete(wait_for=Enforcement.DRAINED, wait_timeout=SOON).revocation
            assert (told.enforcement, told.drained_at) == (Enforcement.FENCED, None)
            assert (told.undrained, told.drain_unknown) == ((DOCUMENTS,), ())
            assert str(told) == f"fenced; something runs at `{DOCUMENTS}`"
        told = task.complete(wait_for=Enforcement.DRAINED).revocation
        assert (told.enforcement, told.undrained) == (Enforcement.DRAINED, ())
        assert (told.is_drained, str(told)) == (True, "drained")


def test_what_runs_at_a_verifier_that_is_gone_is_not_known(
    site: Playground, beside: Beside, begin: Begin
) -> None:
    assert beside
    task = begin()
    with tempfile.TemporaryDirectory() as folder, running(site, Path(folder)) as (_, process):
        process.kill()
        process.wait()
        told = task.complete(wait_for=Enforcement.DRAINED, wait_timeout=SOON).revocation
        assert (told.is_fenced, [missing.name for missing in told.pending]) == (False, [DOCUMENTS])
        # Fenced once it can have no fresh view any more, as nothing else is known of it.
        told = task.complete(wait_for=Enforcement.DRAINED, wait_timeout=40).revocation
    assert (told.is_fenced, told.is_drained, told.drain_unknown) == (True, False, (DOCUMENTS,))
    assert str(told) == f"fenced; what runs at `{DOCUMENTS}` is not known"


def test_of_a_block_s_end_it_is_said_who_is_missing(
    site: Playground,
    beside: Beside,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with halted(beside[1]), site.client("orchestrator") as orchestrator:
        with orchestrator.task(**TERMS, wait_timeout=SOON) as task:
            before = task.revocation
        block = orchestrator.task(**TERMS, wait_timeout=SOON)
        with pytest.raises(ZeroDivisionError), block as failed:
            raise ZeroDivisionError
    assert (before, failed.revocation is None) == (None, False)
    assert task.revocation is not None
    assert [missing.name for missing in task.revocation.pending] == [DOCUMENTS]
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 2
    for line, ended in zip(said, (task, failed), strict=True):
        assert line.startswith(f"task {ended.id} has ended, and is not yet fenced: recorded; ")
        assert f"`{DOCUMENTS}` may accept it until" in line


def test_a_wait_that_makes_no_sense_is_refused_by_name(begin: Begin) -> None:
    task = begin()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"wait_timeout": 61}, "wait_timeout"),
        ({"wait_timeout": 0}, "wait_timeout"),
        ({"wait_for": Enforcement.UNKNOWN}, "wait_for"),
        ({"wait_for": "soon"}, "wait_for"),
    ]
    for wait, field in wrong:
        with pytest.raises(leasehold.RequestError) as caught:
            task.complete(**wait)
        assert [violation.field for violation in caught.value.field_violations] == [field]
    assert task.refresh().state is TaskState.ACTIVE


def test_the_same_with_await(
    site: Playground,
    beside: Beside,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with client(site, "orchestrator") as orchestrator:
            for verb in VERBS:
                told = await getattr(await orchestrator.begin(**TERMS), verb)(wait_timeout=5)
                assert told.revocation.is_fenced
            tasks = [await orchestrator.begin(**TERMS) for _ in VERBS]
            with halted(beside[1]):
                for task, verb in zip(tasks, VERBS, strict=True):
                    told = await getattr(task, verb)(wait_timeout=SOON)
                    assert [missing.name for missing in told.revocation.pending] == [DOCUMENTS]
                async with orchestrator.task(**TERMS, wait_timeout=SOON) as block:
                    pass
            assert block.revocation is not None
            assert not block.revocation.is_fenced

    asyncio.run(main())
    assert "is not yet fenced" in caplog.text
