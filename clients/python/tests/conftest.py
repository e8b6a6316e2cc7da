"""What the tests have in common: one broker, and its callers. A test that is skipped has failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from issuer import Issuer
from playground import AUDIENCE, SUMMARIZER, Playground

import leasehold
from leasehold.verifier import Verifier

PATIENCE = 30.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = "a test that lacks what it needs fails; none skips"
    return report


@pytest.fixture(scope="session")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """The broker of all tests that do not stop it."""
    made = Playground(tmp_path_factory.mktemp("broker") / "play")
    yield made
    made.stop()


@pytest.fixture(scope="session")
def demanding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """A broker whose proofs must have a nonce."""
    folder = tmp_path_factory.mktemp("demanding") / "play"
    made = Playground(folder, '\n[dpop]\nnonce = "required"\n')
    yield made
    made.stop()


@pytest.fixture
def orchestrator(playground: Playground) -> Iterator[leasehold.Client]:
    with playground.client("orchestrator") as client:
        yield client


@pytest.fixture
def agent(playground: Playground) -> Iterator[leasehold.Client]:
    with playground.client("summarizer") as client:
        yield client


@pytest.fixture
def documents(playground: Playground) -> Iterator[leasehold.Client]:
    """The resource server, which may ask about its tokens."""
    with playground.client("documents") as client:
        yield client


@pytest.fixture
def task(orchestrator: leasehold.Client) -> leasehold.Task:
    """A task of the summarizer's, in which it may read and annotate documents."""
    return orchestrator.begin(
        agent=SUMMARIZER,
        grant={AUDIENCE: ["read", "annotate"]},
        tier="standard",
        duration=600,
        purpose="see that the Python client works",
    )


@pytest.fixture
def issuer(playground: Playground, tmp_path: Path) -> Iterator[Issuer]:
    server = playground.authority.svid("spiffe://dev.example/issuer", local=True)
    made = Issuer(tmp_path, server, playground.authority.svid(SUMMARIZER))
    yield made
    made.close()


@pytest.fixture
def verifier(playground: Playground, issuer: Issuer) -> Iterator[Verifier]:
    made = Verifier(
        issuer.url, AUDIENCE, ca=playground.ca, identity=playground.identity("documents")
    )
    yield made
    made.close()


@pytest.fixture
def broker(playground: Playground) -> Iterator[Verifier]:
    """The verifier of the real broker's tokens."""
    identity = playground.identity("documents")
    made = Verifier(playground.issuer, AUDIENCE, ca=playground.ca, identity=identity)
    yield made
    made.close()


def wait_until(fact: Callable[[], bool]) -> None:
    """Waits for a fact, never for time."""
    until = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.05)
