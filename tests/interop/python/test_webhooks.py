"""The receiver that docs/how-to/webhooks.md shows, run as it stands there, takes the broker's events and nothing else."""

import ast
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import jwt

import world as worlds
from caller import Caller

PAGE = Path(__file__).parents[3] / "docs/how-to/webhooks.md"
PATIENCE_SECONDS = 90


class Webhooks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = worlds.find()
        _, _, after = PAGE.read_text().partition("```python\n")
        code, _, _ = after.partition("```")
        cls.folder = tempfile.TemporaryDirectory()
        program = Path(cls.folder.name) / "receiver.py"
        program.write_text(code)
        # The broker's root is what the receiver fetches keys by.
        environment = {**os.environ, "SSL_CERT_FILE": str(cls.world.root_file)}
        command = [sys.executable, program, cls.world.base_url, worlds.WEBHOOK_AUDIENCE, str(cls.world.webhook_port)]
        cls.receiver = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        cls.lines = queue.Queue()
        threading.Thread(target=lambda: [cls.lines.put(line) for line in cls.receiver.stdout], daemon=True).start()

    @classmethod
    def tearDownClass(cls):
        cls.receiver.kill()
        cls.receiver.wait()
        cls.receiver.stdout.close()
        cls.folder.cleanup()

    def told(self, name, task_id):
        """The event of that name about a task."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                line = self.lines.get(timeout=end - time.monotonic())
            except (queue.Empty, ValueError):
                self.fail(f"no {name} of {task_id} came")
            found, _, event = line.partition(" ")
            event = ast.literal_eval(event)
            if (found, event.get("task")) == (name, task_id):
                return event

    def push(self, token):
        """What the receiver answers to a token."""
        url = f"http://127.0.0.1:{self.world.webhook_port}/events"
        headers = {"Content-Type": "application/secevent+jwt"}
        request = urllib.request.Request(url, token.encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status
        except urllib.error.HTTPError as answer:
            return answer.code

    def test_the_receiver_of_the_page_takes_what_the_broker_tells(self):
        with Caller(self.world, "orchestrator") as orchestrator:
            task = orchestrator.begin()
            orchestrator.complete(task.task_id)
        event = self.told("task-ended", task.task_id)
        self.assertEqual(event["state"], "completed")
        self.assertEqual(event["actor"], worlds.ORCHESTRATOR)
        self.assertEqual((event["agent"], event["tier"]), (worlds.AGENT, "standard"))

    def test_the_receiver_of_the_page_takes_no_credential_and_nothing_that_another_signed(self):
        with Caller(self.world, "orchestrator") as orchestrator, Caller(self.world, "agent") as agent:
            task = orchestrator.begin(tier="relaxed")
            credentials = [agent.issue_token(task.task_id).credential.access_token]
            credentials.append(agent.issue_jwt_svid(task.task_id).credential.jwt_svid)
            orchestrator.complete(task.task_id)
        # So the receiver is there.
        self.told("task-ended", task.task_id)
        claims = {
            "iss": f"{self.world.base_url}/events", "aud": worlds.WEBHOOK_AUDIENCE, "jti": "x", "iat": int(time.time()),
            "events": {"urn:leasehold:event:task-ended": {"task": task.task_id}},
        }
        url = f"{self.world.base_url}/events/keys"
        [key] = jwt.PyJWKClient(url, ssl_context=self.world.tls()).get_signing_keys()
        header = {"typ": "secevent+jwt", "kid": key.key_id}
        forged = jwt.encode(claims, worlds.pkcs8(worlds.new_key()), algorithm="ES256", headers=header)
        unsigned = jwt.encode(claims, None, algorithm="none", headers=header)
        for token in [*credentials, forged, unsigned, "x"]:
            self.assertEqual(self.push(token), 401, token)

    def test_keys_of_events_verify_no_credential_and_theirs_no_event(self):
        kids = []
        for path in ["/events/keys", "/oauth2/jwks", "/spiffe/keys"]:
            client = jwt.PyJWKClient(f"{self.world.base_url}{path}", ssl_context=self.world.tls())
            kids += [key.key_id for key in client.get_signing_keys()]
        self.assertEqual(len(kids), 3)
        self.assertEqual(len(set(kids)), 3)
