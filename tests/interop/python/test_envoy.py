"""Envoy, configured as `examples/envoy` publishes it, lets through who holds a living credential, and nobody else."""

import base64
import http.server
import json
import subprocess
import tempfile
import threading
import unittest
import urllib.request
from importlib import resources
from pathlib import Path

import world as worlds
from evidence import pem
from gatekeeper import Gatekeeper, bound_to_a_new_key

EXAMPLE = Path(__file__).parents[3] / "examples" / "envoy"


class Documents(http.server.BaseHTTPRequestHandler):
    """The server behind Envoy: it checks nothing, and answers with the headers that reached it."""

    def do_GET(self):
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Envoy(Gatekeeper, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.call_the_broker()
        documents = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Documents)
        threading.Thread(target=documents.serve_forever).start()
        cls.addClassCleanup(documents.server_close)
        cls.addClassCleanup(documents.shutdown)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        (cls.port,) = worlds.free_ports(1)
        cls.publish_roots()
        cls.configure(documents.server_port)
        log = cls.folder / "envoy.log"
        program = str(resources.files("envoy") / "_bin" / "envoy")
        command = [program, "-c", str(cls.folder / "envoy.yaml"), "--concurrency", "1", "--log-level", "warn"]
        # Each instance on a machine has shared memory of its own number.
        command.append("--use-dynamic-base-id")
        with log.open("w") as said:
            cls.until_it_answers(subprocess.Popen(command, stdout=said, stderr=said), log)

    @classmethod
    def publish_roots(cls):
        bundle = f"{cls.world.base_url}/spiffe/bundle.json"
        with urllib.request.urlopen(bundle, context=cls.world.tls(), timeout=20) as answer:
            keys = json.load(answer)["keys"]
        roots = [base64.b64decode(key["x5c"][0]) for key in keys if key["use"] == "x509-svid"]
        (cls.folder / "leasehold-roots.pem").write_text("".join(map(pem, roots)))

    @classmethod
    def configure(cls, documents_port):
        """The example, with this world's names and ports in the place of the playground's."""
        world = cls.world
        changes = {
            "play/documents": f"{world.folder}/verifier",
            "play/root.pem": str(world.root_file),
            "leasehold-roots.pem": f"{cls.folder}/leasehold-roots.pem",
            "require-living-credential.lua }": f"{cls.folder}/check.lua }}",
            "name: dev.example": f"name: {worlds.TRUST_DOMAIN}",
            "https://documents.dev.example": worlds.AUDIENCE,
            "localhost:7701": f"localhost:{world.http_port}",
            "port_value: 7701": f"port_value: {world.http_port}",
            "port_value: 8443": f"port_value: {cls.port}",
            "port_value: 8080": f"port_value: {documents_port}",
        }
        texts = [(EXAMPLE / name).read_text() for name in ("envoy.yaml", "require-living-credential.lua")]
        for old, new in changes.items():
            assert any(old in text for text in texts), f"the example has no `{old}` any more"
            texts = [text.replace(old, new) for text in texts]
        (cls.folder / "envoy.yaml").write_text(texts[0])
        (cls.folder / "check.lua").write_text(texts[1])

    def test_the_server_behind_never_sees_the_token(self):
        status, _, seen = self.ask(self.issued().credential.access_token)
        self.assertEqual(status, 200)
        self.assertNotIn("authorization", json.loads(seen))

    def test_a_token_passes_with_the_certificate_that_was_made_for_it_and_with_no_other(self):
        token, client = bound_to_a_new_key(self, self.folder)
        self.assertEqual(self.ask(token, client)[0], 200)
        self.assert_refused(self.ask(token), 401, "invalid_token")


if __name__ == "__main__":
    unittest.main()
