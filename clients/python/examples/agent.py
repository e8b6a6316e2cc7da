"""An agent: reads documents for one task, until that task ends.

LEASEHOLD_CA=play/root.pem LEASEHOLD_CERT=play/summarizer.pem LEASEHOLD_KEY=play/summarizer.key \\
    python agent.py tsk_…                                  # the task that orchestrator.py has begun
"""

from __future__ import annotations

import argparse
import os
import time

import leasehold
import leasehold.httpx

DOCUMENTS = "https://documents.dev.example"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("task")
    arguments.add_argument("--url", default="https://localhost:8443", help="of the documents")
    given = arguments.parse_args()
    ca = os.environ["LEASEHOLD_CA"]
    with (
        leasehold.Client() as client,
        client.credential(given.task, DOCUMENTS) as credential,
        leasehold.httpx.client(credential, given.url, ca=ca) as documents,
    ):
        try:
            while True:
                read, annotated = documents.get("/"), documents.post("/", json={"note": "!"})
                print(f"read {read.status_code}, annotated {annotated.status_code}", flush=True)
                time.sleep(0.5)
        except leasehold.TaskEndedError as ended:
            print(ended)


if __name__ == "__main__":
    main()
