"""Envoy, configured as `examples/envoy/sidecar.yaml` publishes it, lets through whom the sidecar beside it lets in."""

import http.client
import http.server
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from importlib import resources
from pathlib import Path

import test_envoy
import world as worlds
from caller import grant
from gatekeeper import PATIENCE_SECONDS, Asking, Gatekeeper, bound_to_a_new_key


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("sidecar", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Beside:
    """Envoy before documents, a sidecar, and how to ask them."""

    @classmethod
    def setUpClass(cls):
        cls.call_the_broker()
        documents = http.server.ThreadingHTTPServer(("127.0.0.1", 0), test_envoy.Documents)
        threading.Thread(target=documents.serve_forever).start()
        cls.addClassCleanup(documents.server_close)
        cls.addClassCleanup(documents.shutdown)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.socket = cls.folder / "verify.sock"
        (cls.port,) = worlds.free_ports(1)
        test_envoy.Envoy.publish_roots.__func__(cls)
        cls.start_sidecar()
        cls.configure(documents.server_port)
        log = cls.folder / "envoy.log"
        program = str(resources.files("envoy") / "_bin" / "envoy")
        command = [program, "-c", str(cls.folder / "envoy.yaml"), "--concurrency", "1", "--log-level", "warn"]
        # Each instance on a machine has shared memory of its own number.
        command.append("--use-dynamic-base-id")
        with log.open("w") as said:
            cls.until_it_answers(subprocess.Popen(command, stdout=said, stderr=said), log)

    @classmethod
    def start_sidecar(cls):
        world = cls.world
        command = [os.environ["LEASEHOLD_BIN"], "verify", "--listen", f"unix:{cls.socket}"]
        command += ["--audience", worlds.AUDIENCE, "--broker", f"https://localhost:{world.grpc_port}"]
        command += ["--ca", world.root_file, "--cert", world.cert_file("verifier"), "--key", world.key_file("verifier")]
        log = cls.folder / "sidecar.log"
        with log.open("w") as said:
            cls.sidecar = subprocess.Popen(command, stderr=said)
        cls.addClassCleanup(cls.sidecar.wait)
        cls.addClassCleanup(cls.sidecar.terminate)
        began = time.monotonic()
        while not cls.is_ready():
            if cls.sidecar.poll() is not None or time.monotonic() - began > PATIENCE_SECONDS:
                raise AssertionError("the sidecar does not get ready:\n" + log.read_text())
            time.sleep(0.1)

    @classmethod
    def is_ready(cls):
        connection = UnixConnection(cls.socket)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    @classmethod
    def configure(cls, documents_port):
        """The example, with this world's names and ports in the place of the playground's."""
        world = cls.world
        changes = {
            "play/documents": f"{world.folder}/verifier",
            "play/root.pem": str(world.root_file),
            "leasehold-roots.pem": f"{cls.folder}/leasehold-roots.pem",
            "play/verify.sock": str(cls.socket),
            "name: dev.example": f"name: {worlds.TRUST_DOMAIN}",
            "port_value: 8443": f"port_value: {cls.port}",
            "port_value: 8080": f"port_value: {documents_port}",
        }
        text = (test_envoy.EXAMPLE / "sidecar.yaml").read_text()
        for old, new in changes.items():
            assert old in text, f"the example has no `{old}` any more"
            text = text.replace(old, new)
        (cls.folder / "envoy.yaml").write_text(text)

    def send(self, token, method="GET", **headers):
        """Status, headers and JSON of the answer to a request of the agent's."""
        context = self.world.tls("agent")
        context.check_hostname = False
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=context)
        try:
            headers = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, "/report", headers={"Authorization": f"Bearer {token}", **headers})
            answer = connection.getresponse()
            return answer.status, answer.headers, json.loads(answer.read())
        finally:
            connection.close()


class BehindEnvoy(Beside, Gatekeeper, unittest.TestCase):
    def test_the_server_behind_is_told_who_asks_by_the_sidecar_alone_and_never_sees_the_token(self):
        task = self.orchestrator.begin().task_id
        token = self.agent.issue_token(task).credential.access_token
        forged = {name: "forged" for name in ("x_leasehold_task", "x_leasehold_step", "x_leasehold_role")}
        status, _, seen = self.send(token, **forged)
        self.assertEqual(status, 200)
        self.assertEqual((seen["x-leasehold-task"], seen["x-leasehold-agent"]), (task, worlds.AGENT))
        self.assertNotIn("forged", seen.values())
        self.assertNotIn("authorization", seen)

    def test_a_token_passes_with_the_certificate_that_was_made_for_it_and_with_no_other(self):
        token, client = bound_to_a_new_key(self, self.folder)
        self.assertEqual(self.ask(token, client)[0], 200)
        self.assert_refused(self.ask(token), 401, "invalid_token")

    def test_whoever_is_refused_is_told_the_reason(self):
        task = self.orchestrator.begin()
        token = self.agent.issue_token(task.task_id).credential.access_token
        self.orchestrator.complete(task.task_id)
        status, headers, told = self.send(token)
        self.assertEqual((status, told["error"], told["reason"]), (401, "invalid_token", "EPOCH_STALE"))
        self.assertEqual(headers["content-type"], "application/json")

    def test_each_route_says_what_it_takes(self):
        reading = self.issued(authorization_details=json.dumps([grant("read")])).credential.access_token
        self.assertEqual(self.send(reading)[0], 200)
        status, headers, told = self.send(reading, "DELETE")
        self.assertEqual((status, told["reason"]), (403, "POLICY_DENIED"))
        self.assertIn("insufficient_scope", headers["www-authenticate"])


class WithoutSidecar(Beside, Asking, unittest.TestCase):
    def test_nobody_gets_in_once_the_sidecar_is_gone(self):
        token = self.issued().credential.access_token
        self.assertEqual(self.ask(token)[0], 200)
        self.sidecar.terminate()
        self.sidecar.wait()
        self.assertFalse(self.socket.exists())
        self.assertEqual(self.ask(token)[0], 503)


if __name__ == "__main__":
    unittest.main()
