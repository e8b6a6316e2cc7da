"""`examples/resource_server`, started as its documentation says, lets in who holds a living credential, and nobody else."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import world as worlds
from gatekeeper import Gatekeeper


class RustResourceServer(Gatekeeper, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.call_the_broker()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        # The names that a playground's files have.
        play = Path(folder.name)
        shutil.copy(cls.world.root_file, play / "root.pem")
        shutil.copy(cls.world.cert_file("verifier"), play / "documents.pem")
        shutil.copy(cls.world.key_file("verifier"), play / "documents.key")
        (cls.port,) = worlds.free_ports(1)
        command = [os.environ["LEASEHOLD_RESOURCE_SERVER"], "--dir", str(play), "--issuer", cls.world.base_url]
        command += ["--broker", f"https://localhost:{cls.world.grpc_port}"]
        command += ["--audience", worlds.AUDIENCE, "--listen", f"127.0.0.1:{cls.port}"]
        log = play / "server.log"
        with log.open("w") as said:
            cls.until_it_answers(subprocess.Popen(command, stdout=said, stderr=said), log)


if __name__ == "__main__":
    unittest.main()
