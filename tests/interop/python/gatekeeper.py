"""What every gatekeeper before an API must hold, whoever wrote it: one body of claims over all of them."""

import http.client
import json
import os
import subprocess
import tempfile
import time

import world as worlds
from caller import Caller, grant
from evidence import pem, request_for

PATIENCE_SECONDS = 30


class Asking:
    """Callers of a gatekeeper at `port` before documents that may be read."""

    @classmethod
    def call_the_broker(cls):
        cls.world = worlds.find()
        cls.orchestrator, cls.agent = Caller(cls.world, "orchestrator"), Caller(cls.world, "agent")
        cls.addClassCleanup(cls.orchestrator.channel.close)
        cls.addClassCleanup(cls.agent.channel.close)

    @classmethod
    def until_it_answers(cls, process, log):
        """Waits for the first yes; a gatekeeper may refuse until it has the broker's keys."""
        cls.addClassCleanup(process.wait)
        cls.addClassCleanup(process.terminate)
        began = time.monotonic()
        while cls.ask(cls.issued().credential.access_token)[0] != 200:
            if process.poll() is not None or time.monotonic() - began > PATIENCE_SECONDS:
                raise AssertionError("nobody gets through:\n" + log.read_text())
            time.sleep(0.2)

    @classmethod
    def issued(cls, **fields):
        return cls.agent.issue_token(cls.orchestrator.begin().task_id, **fields)

    @classmethod
    def ask(cls, token=None, client="agent"):
        """Status of the answer, its challenge, and its body. `client` is a workload, or a TLS context."""
        context = cls.world.tls(client) if isinstance(client, str) else client
        # The certificate of the interop world's verifier names no host.
        context.check_hostname = False
        connection = http.client.HTTPSConnection("127.0.0.1", cls.port, timeout=20, context=context)
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request("GET", "/report", headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers["www-authenticate"] or "", answer.read()
        except ConnectionRefusedError:
            return None, "", b""
        finally:
            connection.close()

    def assert_refused(self, answer, status, challenge=""):
        self.assertEqual(answer[0], status)
        self.assertIn(challenge, answer[1])


class Gatekeeper(Asking):
    """Claims for a `unittest.TestCase` that starts a gatekeeper."""

    def test_a_token_passes_while_its_task_lives_and_dies_when_it_ends(self):
        task = self.orchestrator.begin()
        token = self.agent.issue_token(task.task_id).credential.access_token
        self.assertEqual(self.ask(token)[0], 200)
        self.orchestrator.complete(task.task_id)
        self.assert_refused(self.ask(token), 401, "invalid_token")

    def test_a_stolen_token_does_not_pass_with_another_certificate(self):
        token = self.issued().credential.access_token
        self.assert_refused(self.ask(token, "other-agent"), 401, "invalid_token")

    def test_a_token_that_is_bound_to_a_dpop_key_does_not_pass_as_a_bearer_token(self):
        world, task = self.world, self.orchestrator.begin().task_id
        with tempfile.TemporaryDirectory() as folder:
            command = [os.environ["LEASEHOLD_BIN"], "token", "issue", "--task", task, "--audience", worlds.AUDIENCE]
            command += ["--dpop-key", f"{folder}/dpop.key", "--broker", f"https://localhost:{world.grpc_port}"]
            command += ["--ca", world.root_file, "--cert", world.cert_file("agent"), "--key", world.key_file("agent")]
            token = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        self.assert_refused(self.ask(token), 401, "invalid_token")

    def test_what_the_grant_does_not_say_is_refused(self):
        listing = self.issued(authorization_details=json.dumps([grant("list")]))
        self.assert_refused(self.ask(listing.credential.access_token), 403, "insufficient_scope")

    def test_no_token_and_tampered_ones_are_refused(self):
        token = self.issued().credential.access_token
        head, body, signature = token.split(".")
        for wrong in (None, f"{head}.{body}.{signature[:-4]}AAAA", f"{head}.{body}.", "x"):
            self.assert_refused(self.ask(wrong), 401)

    def test_who_shows_no_certificate_or_one_of_nobodys_does_not_get_in(self):
        token = self.issued().credential.access_token
        for workload in (None, "impostor"):
            with self.assertRaises(OSError):
                self.ask(token, self.world.tls(workload))


def bound_to_a_new_key(test, folder):
    """A token for a key that is made here, and the TLS of a client that shows the certificate which the broker made for it."""
    key = worlds.new_key()
    credential = test.issued(csr_der=request_for(key)).credential
    chain, private = folder / "bound.pem", folder / "bound.key"
    chain.write_text("".join(map(pem, credential.certificate_chain_der)))
    private.write_bytes(worlds.pkcs8(key))
    context = test.world.tls()
    context.load_cert_chain(chain, private)
    return credential.access_token, context
