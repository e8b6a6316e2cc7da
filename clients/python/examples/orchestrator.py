"""An orchestrator: begins a task for an agent, changes it, and ends it with the work.

leasehold dev --dir play                                   # in one terminal
LEASEHOLD_CA=play/root.pem LEASEHOLD_CERT=play/orchestrator.pem LEASEHOLD_KEY=play/orchestrator.key \\
    python orchestrator.py                                 # in another
"""

from __future__ import annotations

import sys

import leasehold

AGENT = "spiffe://dev.example/agents/summarizer/1"
DOCUMENTS = "https://documents.dev.example"


def main() -> None:
    with (
        leasehold.Client() as client,
        client.task(
            agent=AGENT,
            grant={DOCUMENTS: ["read", "annotate"]},
            tier="standard",
            duration=1800,
            purpose="Summarize the report",
            heartbeat_interval=30,
        ) as task,
    ):
        print(f"python agent.py {task.id}", flush=True)
        print("Return: from now on it may only read.", flush=True)
        sys.stdin.readline()
        task.advance(step="review", grant={DOCUMENTS: ["read"]})
        print("Return: it is done.", flush=True)
        sys.stdin.readline()
    print(f"{task.id} has ended as {task.state.value}")


if __name__ == "__main__":
    main()
