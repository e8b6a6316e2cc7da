"""A broker that knows its callers, and itself, from a real SPIRE agent: SVIDs of both kinds, rotation of everything, strangers."""

import base64
import contextlib
import os
import re
import socket
import ssl
import subprocess
import threading
import time
import unittest
import urllib.request
from dataclasses import dataclass

import grpc
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes

import world as worlds
from caller import Caller, TIMEOUT_SECONDS, credential_messages, new_id, reason
from evidence import request_for
from spire import PATIENCE_SECONDS, Spire, Svid
from test_access_tokens import base64url

DOMAIN = "prod.example"
BROKER = f"spiffe://{DOMAIN}/leasehold"
ORCHESTRATOR = f"spiffe://{DOMAIN}/orchestrator"
AGENT = f"spiffe://{DOMAIN}/agents/summarizer/1"
# SPIRE renews an SVID after less than half its life, and what is bound to one ends with it.
SVID_SECONDS = 40

CONFIGURATION = """\
trust_domain = "leasehold.example"
base_url = "https://localhost:{http}"
store = {{ kind = "embedded", path = "data" }}
listen = {{ grpc = "127.0.0.1:{grpc}", http = "127.0.0.1:{http}" }}
tls = {{ workload_api = "{workload_api}", spiffe_id = "{broker}" }}
keys = {{ encryption_key_file = "keyring.key" }}
tiers = {{ standard = {{ ttl = "5m", ceiling = "1h", min_ttl = "1s" }} }}
log = {{ filter = "info,leasehold::listen=debug" }}

[[trust.spiffe]]
trust_domain = "{domain}"
bundle = {{ workload_api = "{workload_api}", max_age = "5m" }}

[[roles]]
role = "orchestrator"
name = "interop"
match = "{orchestrator}"

[[roles]]
role = "agent"
class = "summarizer"
owner = "docs"
tiers = ["standard"]
match = "spiffe://{domain}/agents/summarizer/*"
"""


@dataclass(frozen=True)
class AsOne:
    """The broker as one workload sees it: what a `Caller` asks of a world."""

    svid: Svid
    grpc_port: int

    @property
    def root_file(self):
        return self.svid.bundle_file

    def cert_file(self, _):
        return self.svid.cert_file

    def key_file(self, _):
        return self.svid.key_file


class Site:
    """A broker beside an agent."""

    def __init__(self, spire):
        self.folder = spire.folder / "broker"
        self.folder.mkdir()
        self.spire = spire
        self.grpc_port, self.http_port = worlds.free_ports(2)
        (self.folder / "keyring.key").write_bytes(base64.b64encode(os.urandom(32)))
        text = CONFIGURATION.format(
            grpc=self.grpc_port, http=self.http_port, workload_api=spire.workload_api, broker=BROKER,
            domain=DOMAIN, orchestrator=ORCHESTRATOR,
        )
        (self.folder / "leasehold.toml").write_text(text)

    def start(self):
        self.log = open(self.folder / "broker.log", "w")
        command = [os.environ["LEASEHOLD_BIN"], "serve", "--config", self.folder / "leasehold.toml"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=60)
        self.log.close()

    def said(self):
        return (self.folder / "broker.log").read_text()

    def caller(self, spiffe_id=None, svid=None, token=None):
        """A new connection, with the workload's current SVID, with the one given, or with none."""
        as_one = AsOne(svid or self.spire.svid(spiffe_id or AGENT), self.grpc_port)
        return Caller(as_one, None if token else "it", token)

    def context(self, svid):
        context = ssl.create_default_context(cafile=svid.bundle_file)
        context.load_cert_chain(svid.cert_file, svid.key_file)
        return context

    def shown(self):
        """The certificate that the broker now shows to whoever connects."""
        context = self.context(self.spire.svid(AGENT))
        with socket.create_connection(("127.0.0.1", self.http_port), timeout=TIMEOUT_SECONDS) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True))

    def metrics(self):
        context = self.context(self.spire.svid(AGENT))
        with urllib.request.urlopen(f"https://localhost:{self.http_port}/metrics", context=context) as answer:
            return answer.read().decode()


def spiffe_ids(certificate):
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def until(claim, what):
    began = time.monotonic()
    while not claim():
        assert time.monotonic() - began < PATIENCE_SECONDS, what
        time.sleep(0.2)


def renew(caller, issued):
    request = credential_messages.RenewCredentialRequest(request_id=new_id(), lease_id=issued.lease.lease_id)
    return caller.leases.RenewCredential(request, timeout=TIMEOUT_SECONDS)


def bound_to(token):
    return jwt.decode(token, options={"verify_signature": False})["cnf"]["x5t#S256"]


def thumbprint(svid):
    return base64url(svid.certificate().fingerprint(hashes.SHA256()))


class ByAgent(unittest.TestCase):
    """Tests run in the order of their names: the last ones change the authorities."""

    @classmethod
    def setUpClass(cls):
        cls.spire = Spire(DOMAIN).__enter__()
        cls.addClassCleanup(cls.spire.__exit__)
        cls.spire.start_agent()
        cls.site = Site(cls.spire)
        # The broker is there first, and waits until somebody registers it.
        cls.site.start()
        cls.addClassCleanup(cls.site.stop)
        cls.spire.register(ORCHESTRATOR, SVID_SECONDS)
        cls.spire.register(BROKER, SVID_SECONDS, dns="localhost")
        cls.spire.register(AGENT, SVID_SECONDS)
        cls.spire.svid(AGENT)
        until(lambda: cls.serves(), "the broker does not serve")
        # The server's key for JWT-SVIDs may reach the agent after its certificates have.
        keys = re.compile(r"trust bundle taken over .*jwt_keys=[1-9]")
        until(lambda: keys.search(cls.site.said()), "the agent tells no keys for JWT-SVIDs")
        with cls.site.caller(ORCHESTRATOR) as orchestrator:
            cls.task = orchestrator.begin(agent=AGENT).task_id

    @classmethod
    def serves(cls):
        assert cls.site.process.poll() is None, cls.site.said()
        try:
            return cls.site.metrics()
        except OSError:
            return False

    def refused(self, caller):
        with self.assertRaises(grpc.RpcError) as refusal:
            caller.issue_token(self.task)
        return refusal.exception

    def test_1_an_x509_svid_is_an_identity_and_the_token_is_bound_to_it(self):
        svid = self.spire.svid(AGENT)
        with self.site.caller(svid=svid) as agent:
            issued = agent.issue_token(self.task)
        self.assertEqual(issued.lease.holder, AGENT)
        self.assertEqual(bound_to(issued.credential.access_token), thumbprint(svid))

    def test_1_a_jwt_svid_is_an_identity(self):
        token = self.spire.jwt_svid(AGENT, f"https://localhost:{self.site.http_port}")
        with self.site.caller(token=token) as agent:
            issued = agent.issue_token(self.task, csr_der=request_for(worlds.new_key()))
        self.assertEqual(issued.lease.holder, AGENT)

    def test_1_a_jwt_svid_for_somebody_else_is_none(self):
        for audience in ("https://localhost", "leasehold.example"):
            token = self.spire.jwt_svid(AGENT, audience)
            with self.site.caller(token=token) as agent:
                refused = reason(self.refused(agent))
            self.assertEqual(refused, (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_UNVERIFIED"))

    def test_1_another_trust_domain_is_refused(self):
        with Spire("other.example") as other:
            stranger = other.mint(AGENT.replace(DOMAIN, "other.example"))
            # It trusts the broker; the broker does not trust it.
            stranger.bundle_file.write_bytes(self.spire.svid(AGENT).bundle_file.read_bytes())
            with self.site.caller(svid=stranger) as caller:
                self.assertEqual(self.refused(caller).code(), grpc.StatusCode.UNAVAILABLE)
        self.assertRegex(self.site.said(), "trust domain `other.example` is not trusted here")

    def test_1_the_broker_shows_its_own_svid_of_several(self):
        self.assertEqual(spiffe_ids(self.site.shown()), [BROKER])

    def test_1_the_age_of_the_bundle_is_a_metric(self):
        lines = self.site.metrics().splitlines()
        (age,) = [line for line in lines if line.startswith("leasehold_trust_bundle_age_seconds{")]
        self.assertIn(f'trust_domain="{DOMAIN}"', age)
        self.assertLess(float(age.split()[-1]), 120)

    def test_2_rotation_under_load_fails_no_call_and_a_lease_outlives_its_svid(self):
        first = self.spire.svid(AGENT)
        shown = self.site.shown()
        with self.site.caller(svid=first) as agent:
            issued = agent.issue_token(self.task)
        load = Load(self.site, self.task)
        with load:
            seen = {first.pem()}
            until(lambda: seen.add(self.spire.svid(AGENT).pem()) or len(seen) >= 2, "the SVID does not rotate")
            svid = self.spire.svid(AGENT)
            with self.site.caller(svid=svid) as agent:
                renewed = renew(agent, issued)
            until(lambda: seen.add(self.spire.svid(AGENT).pem()) or len(seen) >= 3, "the SVID does not rotate")
            until(lambda: self.site.shown() != shown, "the broker's own SVID does not rotate")
            load.goes_on()
        self.assertEqual(load.faults, [])
        self.assertEqual(spiffe_ids(self.site.shown()), [BROKER])
        self.assertEqual(renewed.lease.lease_id, issued.lease.lease_id)
        self.assertGreater(renewed.expire_time.seconds, issued.expire_time.seconds)
        self.assertEqual(bound_to(renewed.credential.access_token), thumbprint(svid))
        self.assertNotEqual(bound_to(renewed.credential.access_token), bound_to(issued.credential.access_token))

    def test_3_new_authorities_are_followed_and_revoked_ones_refused(self):
        audience = f"https://localhost:{self.site.http_port}"
        load = Load(self.site, self.task)
        with contextlib.ExitStack() as open_connections, load:
            by_certificate = open_connections.enter_context(self.site.caller(svid=self.spire.mint(AGENT)))
            by_token = open_connections.enter_context(
                self.site.caller(token=self.spire.mint_jwt(AGENT, audience))
            )
            # From now on it is about connections that are open.
            by_certificate.issue_token(self.task)
            by_token.issue_token(self.task, csr_der=request_for(worlds.new_key()))
            for kind in ("x509", "jwt"):
                self.spire.change_authority(kind, "prepare")
                self.spire.change_authority(kind, "activate", self.spire.authorities(kind)["prepared"])
            active = self.spire.authorities("x509")["active"]
            until(lambda: authority(self.site.shown()) == active, "the broker keeps the old authority")
            until(lambda: authority(self.spire.svid(AGENT).certificate()) == active, "the agent keeps it")
            load.goes_on()
            by_certificate.issue_token(self.task)
            by_token.issue_token(self.task, csr_der=request_for(worlds.new_key()))
            former = {kind: self.spire.authorities(kind)["old"] for kind in ("x509", "jwt")}
            for kind, authority_id in former.items():
                self.spire.change_authority(kind, "taint", authority_id)
            # The agent drops what it keeps of a tainted authority, and knows nothing of one that is gone.
            until(lambda: self.kid(audience) != former["jwt"], "the agent keeps its JWT-SVID")
            for kind, authority_id in former.items():
                self.spire.change_authority(kind, "revoke", authority_id)
            for caller in (by_certificate, by_token):
                until(lambda: self.is_nobody(caller), "a revoked authority is trusted")
            load.goes_on()
        self.assertEqual(load.faults, [])
        with self.site.caller(AGENT) as agent:
            agent.issue_token(self.task)
        with self.site.caller(token=self.spire.jwt_svid(AGENT, audience)) as agent:
            agent.issue_token(self.task, csr_der=request_for(worlds.new_key()))

    def kid(self, audience):
        return jwt.get_unverified_header(self.spire.jwt_svid(AGENT, audience))["kid"]

    def is_nobody(self, caller):
        try:
            caller.issue_token(self.task, csr_der=request_for(worlds.new_key()))
        except grpc.RpcError as error:
            self.assertEqual(reason(error), (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_UNVERIFIED"))
            return True
        return False


def authority(certificate):
    """The name of the key that signed it, as SPIRE writes it."""
    identifier = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    return identifier.key_identifier.hex()


class Load:
    """Calls while something changes, some on each connection, each connection with the current SVID.

    At most a hundred a second: half of what one principal may ask, however fast the machine is.
    """

    def __init__(self, site, task):
        self.site, self.task = site, task
        self.connections, self.faults, self.over = 0, [], threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        self.goes_on()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def goes_on(self):
        """Waits for connections that were opened after what happened before."""
        enough = self.connections + 3
        until(lambda: self.faults or self.connections >= enough, "there are no calls")

    def run(self):
        try:
            while not self.over.is_set():
                with self.site.caller(svid=self.site.spire.svid(AGENT)) as agent:
                    for _ in range(10):
                        agent.issue_token(self.task)
                        self.over.wait(0.01)
                self.connections += 1
        except Exception as fault:
            self.faults.append(repr(fault))


if __name__ == "__main__":
    unittest.main()
