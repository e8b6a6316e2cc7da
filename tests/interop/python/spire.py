"""SPIRE: a server and an agent of one trust domain on this machine, and what workloads do with them.

Every process of this user is every workload that is registered: an agent tells workloads apart by what it attests, and here
they all are this one.
"""

import itertools
import json
import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

import world as worlds

BINARIES = Path(os.environ["LEASEHOLD_INTEROP_SPIRE"])
PATIENCE_SECONDS = 60

SERVER = """\
server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  socket_path = "{folder}/server.sock"
  trust_domain = "{trust_domain}"
  data_dir = "{folder}"
  log_level = "WARN"
  ca_key_type = "ec-p256"
}}
plugins {{
  DataStore "sql" {{ plugin_data {{
    database_type = "sqlite3"
    connection_string = "{folder}/server.sqlite3"
  }} }}
  KeyManager "memory" {{ plugin_data {{}} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
}}
"""

AGENT = """\
agent {{
  data_dir = "{folder}/agent"
  log_level = "WARN"
  server_address = "127.0.0.1"
  server_port = "{port}"
  socket_path = "{folder}/agent.sock"
  trust_bundle_path = "{folder}/bootstrap.pem"
  trust_domain = "{trust_domain}"
  experimental {{ sync_interval = "1s" }}
}}
plugins {{
  KeyManager "memory" {{ plugin_data {{}} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"""


@dataclass(frozen=True)
class Svid:
    """An X.509-SVID in files, and the bundle that came with it."""

    cert_file: Path
    key_file: Path
    bundle_file: Path

    def pem(self):
        return self.cert_file.read_bytes()

    def certificate(self):
        return x509.load_pem_x509_certificate(self.pem())


class Spire:
    """A trust domain. Leaving it stops everything."""

    def __init__(self, trust_domain):
        self.trust_domain = trust_domain
        # Paths of Unix sockets are short.
        self.temporary = tempfile.TemporaryDirectory(prefix="spire-")
        self.folder = Path(self.temporary.name)
        (self.port,) = worlds.free_ports(1)
        self.processes = []
        self.numbers = itertools.count()

    def __enter__(self):
        try:
            self.run("spire-server", SERVER, "server.conf")
            self.until(lambda: self.server("healthcheck"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
            process.wait(timeout=20)
        self.temporary.cleanup()

    def start_agent(self):
        """An agent that knows the server by its bundle, and joins by a token."""
        (self.folder / "bootstrap.pem").write_text(self.server("bundle", "show"))
        node = f"spiffe://{self.trust_domain}/node"
        token = json.loads(self.server("token", "generate", "-spiffeID", node, "-output", "json"))["value"]
        self.node = node
        self.run("spire-agent", AGENT, "agent.conf", "-joinToken", token)
        self.until(lambda: self.agent("healthcheck"))

    def register(self, spiffe_id, x509_ttl=3600, dns=None):
        arguments = ["-parentID", self.node, "-spiffeID", spiffe_id, "-selector", f"unix:uid:{os.getuid()}"]
        arguments += ["-x509SVIDTTL", str(x509_ttl)] + (["-dns", dns] if dns else [])
        self.server("entry", "create", *arguments)

    def svid(self, spiffe_id):
        """The workload's current X.509-SVID, as soon as the agent has one."""
        return self.until(lambda: self.fetch(spiffe_id))

    def fetch(self, spiffe_id):
        folder = self.folder / f"svids-{next(self.numbers)}"
        folder.mkdir()
        told = self.agent("api", "fetch", "x509", "-write", str(folder))
        ids = re.findall(r"^SPIFFE ID:\s*(\S+)$", told, re.MULTILINE)
        number = ids.index(spiffe_id)
        return Svid(*(folder / f"{name}.{number}.{end}" for name, end in (("svid", "pem"), ("svid", "key"), ("bundle", "pem"))))

    def jwt_svid(self, spiffe_id, audience):
        told = self.agent("api", "fetch", "jwt", "-audience", audience, "-spiffeID", spiffe_id, "-output", "json")
        return json.loads(told)[0]["svids"][0]["svid"]

    def mint(self, spiffe_id):
        """An SVID from the server itself, without an agent."""
        folder = self.folder / "minted"
        folder.mkdir()
        self.server("x509", "mint", "-spiffeID", spiffe_id, "-ttl", "1h", "-write", str(folder))
        return Svid(folder / "svid.pem", folder / "key.pem", folder / "bundle.pem")

    def mint_jwt(self, spiffe_id, audience):
        return self.server("jwt", "mint", "-spiffeID", spiffe_id, "-audience", audience, "-ttl", "1h").strip()

    def authorities(self, kind):
        """The IDs of the server's authorities of a kind (`x509`, `jwt`), by what they are: active, prepared, old."""
        told = json.loads(self.server("localauthority", kind, "show", "-output", "json"))
        return {state: told[state]["authority_id"] for state in ("active", "prepared", "old") if told.get(state)}

    def change_authority(self, kind, verb, authority=None):
        arguments = ["-authorityID", authority] if authority else []
        self.server("localauthority", kind, verb, *arguments)

    @property
    def workload_api(self):
        return f"unix://{self.folder}/agent.sock"

    def server(self, *arguments):
        return self.call("spire-server", "server.sock", arguments)

    def agent(self, *arguments):
        return self.call("spire-agent", "agent.sock", arguments)

    def call(self, program, socket, arguments):
        words = [verb for verb in arguments if not verb.startswith("-")]
        command = [BINARIES / program, *arguments, "-socketPath", self.folder / socket]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        if done.returncode != 0:
            raise SpireError(f"{program} {words[:3]}: {done.stdout}{done.stderr}")
        return done.stdout

    def run(self, program, template, name, *arguments):
        file = self.folder / name
        file.write_text(template.format(folder=self.folder, port=self.port, trust_domain=self.trust_domain))
        log = open(self.folder / f"{program}.log", "w")
        command = [BINARIES / program, "run", "-config", file, *arguments]
        self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        log.close()

    def until(self, attempt):
        """The answer of the first attempt that does not fail, while everything runs."""
        began = time.monotonic()
        while True:
            try:
                return attempt()
            except (SpireError, ValueError) as fault:
                logs = [file.read_text()[-2000:] for file in self.folder.glob("*.log")]
                if any(process.poll() is not None for process in self.processes):
                    raise AssertionError(f"SPIRE ended: {logs}") from fault
                if time.monotonic() - began > PATIENCE_SECONDS:
                    raise AssertionError(f"{fault}; {logs}") from fault
                time.sleep(0.1)


class SpireError(Exception):
    """A command of SPIRE failed."""
