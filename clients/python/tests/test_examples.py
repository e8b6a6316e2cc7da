"""The examples run, together, against one broker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playground import Playground

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@contextmanager
def running(
    playground: Playground, who: str, name: str, *arguments: str
) -> Iterator[subprocess.Popen[str]]:
    folder = playground.folder
    environment = {
        "PATH": os.environ["PATH"],
        "LEASEHOLD_BROKER": playground.address,
        "LEASEHOLD_CA": str(playground.ca),
        "LEASEHOLD_CERT": str(folder / f"{who}.pem"),
        "LEASEHOLD_KEY": str(folder / f"{who}.key"),
    }
    command = [sys.executable, "-u", str(EXAMPLES / name), *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def press_return(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def lines_until(process: subprocess.Popen[str], wanted: str) -> list[str]:
    seen = [line_of(process)]
    while seen[-1] and wanted not in seen[-1]:
        seen.append(line_of(process))
    assert wanted in seen[-1], seen
    return seen


def test_an_orchestrator_an_agent_and_an_api_live_a_task_to_its_end(playground: Playground) -> None:
    folder, issuer = str(playground.folder), playground.issuer
    server = ["--dir", folder, "--issuer", issuer, "--port", "0"]
    with (
        running(playground, "documents", "resource_server.py", *server) as documents,
        running(playground, "orchestrator", "orchestrator.py") as orchestrator,
    ):
        url, task = line_of(documents), line_of(orchestrator).split()[-1]
        with running(playground, "summarizer", "agent.py", task, "--url", url) as agent:
            assert line_of(agent) == "read 200, annotated 200"
            lines_until(orchestrator, "may only read")
            press_return(orchestrator)
            # The first call after the change finds its token dead, and goes on with a new one.
            seen = lines_until(agent, "read 200, annotated 403")
            assert all("read 200" in line for line in seen)
            lines_until(orchestrator, "it is done")
            press_return(orchestrator)
            assert line_of(orchestrator) == f"{task} has ended as completed"
            seen = lines_until(agent, "TASK_ENDED")
            assert seen[-1].startswith("the task has ended as completed")
            assert all(line == "read 200, annotated 403" for line in seen[:-1])
            assert agent.wait(timeout=30) == 0
        assert orchestrator.wait(timeout=30) == 0
