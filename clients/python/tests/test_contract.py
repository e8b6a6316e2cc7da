"""The calls of this package are calls of the contract, and its version is the broker's."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from leasehold import _rpc
from leasehold.v1 import credential_service_pb2, task_service_pb2, verification_service_pb2

ROOT = Path(__file__).resolve().parents[3]


def test_every_call_is_one_of_the_contract_with_its_answer_or_answers() -> None:
    services = [
        service
        for file in (task_service_pb2, credential_service_pb2, verification_service_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
    ]
    contract = {
        f"/{service.full_name}/{method.name}": (
            method.output_type.full_name,
            method.server_streaming,
        )
        for service in services
        for method in service.methods
    }
    made = [value for value in vars(_rpc).values() if isinstance(value, _rpc.Rpc)]
    assert len(made) == 16
    for rpc in made:
        assert contract[rpc.path] == (rpc.answer.DESCRIPTOR.full_name, rpc.is_stream)
    tasks = {path for path in contract if "TaskService" in path}
    assert tasks == {rpc.path for rpc in made if "TaskService" in rpc.path}


def test_package_and_broker_have_one_licence() -> None:
    assert (ROOT / "clients/python/LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_package_and_broker_have_one_version() -> None:
    found = re.search(r'(?m)^version = "(.+)"$', (ROOT / "Cargo.toml").read_text())
    assert found
    assert importlib.metadata.version("leasehold") == found[1]


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("leasehold.httpx", "httpx", "httpx"),
        ("leasehold.requests", "requests", "requests"),
        ("leasehold.verifier", "jwt", "verifier"),
    ],
)
def test_an_extra_that_was_not_installed_is_named(module: str, missing: str, extra: str) -> None:
    hidden = f"import sys; sys.modules[{missing!r}] = None; import {module}"
    ran = subprocess.run(
        [sys.executable, "-c", hidden], capture_output=True, text=True, check=False
    )
    assert f"`pip install 'leasehold[{extra}]'` brings it" in ran.stderr
