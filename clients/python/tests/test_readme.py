"""The README's example does what it says, in a folder with nothing but a playground."""

from __future__ import annotations

import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

from playground import Playground

import leasehold
import leasehold.httpx
import leasehold.requests
import leasehold.verifier

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_ten_lines_get_a_token_and_see_it_die(playground: Playground) -> None:
    (program,) = re.findall(r"## Ten lines\n.*?```python\n(.+?)```", README.read_text(), re.DOTALL)
    assert len([line for line in program.splitlines() if line]) == 10, "ten lines were promised"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=playground.folder.parent,
        env={"PATH": os.environ["PATH"], "LEASEHOLD_BROKER": playground.address},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert re.fullmatch(r"\{'Authorization': 'Bearer eyJ[\w.-]+'\}\n", ran.stdout), ran.stderr
    last = ran.stderr.strip().splitlines()[-1]
    said = re.search(r"# (TaskEndedError): (.+)", program)
    assert said
    assert last == f"leasehold.errors.{said[1]}: {said[2]} [TASK_ENDED]"


def test_every_name_that_it_mentions_is_there() -> None:
    text = README.read_text()
    dotted = set(re.findall(r"leasehold\.((?:\w+\.)*\w+)", text)) - {"v1", "example"}
    assert len(dotted) > 5
    for name in dotted:
        if not name.startswith("v1"):
            pkgutil.resolve_name(f"leasehold.{name}")
    for name in re.findall(r"`(\w+Error)`", text):
        assert hasattr(leasehold, name) or hasattr(leasehold.verifier, name), name
    for owner, name in re.findall(r"`(client|task|credential|verifier)\.(\w+)", text):
        kind = {**vars(leasehold), **vars(leasehold.verifier)}[owner.capitalize()]
        assert hasattr(kind, name), f"{owner}.{name}"
