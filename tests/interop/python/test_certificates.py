"""Python's cryptography and OpenSSL accept the certificates of tasks, by the root in the broker's SPIFFE bundle."""

import base64
import datetime
import hashlib
import json
import subprocess
import tempfile
import unittest
import urllib.request
from pathlib import Path

import grpc
import jwt
from asn1crypto import core
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

import world as worlds
from caller import Caller, reason
from evidence import pem, request_for

TASK_EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.32473.1")
NO_REV_AVAIL = x509.ObjectIdentifier("2.5.29.56")


class Hop(core.Sequence):
    _fields = [("task", core.IA5String), ("counter", core.Integer)]


class Hops(core.SequenceOf):
    _child_spec = Hop


class Reach(core.SequenceOf):
    _child_spec = core.OctetString


class TaskExtension(core.Sequence):
    """As FORMATS has it."""

    _fields = [
        ("version", core.Integer),
        ("path", Hops),
        ("lease", core.IA5String),
        ("incarnation", core.Integer),
        ("stamp", core.Integer),
        ("tier", core.UTF8String),
        ("delta_ms", core.Integer),
        ("reach", Reach),
        ("step", core.UTF8String, {"optional": True}),
    ]


class Certificates(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = worlds.find()
        cls.key = worlds.new_key()
        with Caller(cls.world, "orchestrator") as orchestrator, Caller(cls.world, "agent") as agent:
            cls.task = orchestrator.begin(step="s-1")
            cls.issued = agent.issue_certificate(cls.task.task_id, request_for(cls.key))
        cls.chain = list(cls.issued.credential.certificate_chain_der)
        cls.leaf = x509.load_der_x509_certificate(cls.chain[0])
        url = f"{cls.world.base_url}/spiffe/bundle.json"
        with urllib.request.urlopen(url, context=cls.world.tls(), timeout=20) as answer:
            keys = json.load(answer)["keys"]
        roots = [base64.b64decode(key["x5c"][0]) for key in keys if key["use"] == "x509-svid"]
        cls.roots = [x509.load_der_x509_certificate(root) for root in roots]

    def verify(self, chain=None, roots=None, later_seconds=0):
        """The verified chain, by cryptography, as a server does."""
        leaf, *intermediates = [x509.load_der_x509_certificate(der) for der in chain or self.chain]
        now = datetime.datetime.now(datetime.timezone.utc)
        time = now + datetime.timedelta(seconds=later_seconds)
        policy = PolicyBuilder().store(Store(roots or self.roots)).time(time)
        return policy.build_client_verifier().verify(leaf, intermediates)

    def openssl(self, chain=None, roots=None, later_seconds=0, purpose="sslclient"):
        """What `openssl verify` says."""
        leaf, *intermediates = chain or self.chain
        roots = [root.public_bytes(serialization.Encoding.DER) for root in roots or self.roots]
        now = int(datetime.datetime.now(datetime.timezone.utc).timestamp())
        with tempfile.TemporaryDirectory() as folder:
            files = {"leaf": [leaf], "intermediates": intermediates, "roots": roots}
            for name, certificates in files.items():
                (Path(folder) / name).write_text("".join(map(pem, certificates)))
            command = [
                "openssl", "verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile", "roots",
                "-purpose", purpose, "-attime", str(now + later_seconds),
            ]
            command += (["-untrusted", "intermediates"] if intermediates else []) + ["leaf"]
            run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20)
        return run.returncode, run.stdout + run.stderr

    def test_cryptography_accepts_leaf_intermediate_and_root(self):
        self.assertEqual(len(self.chain), 2, "leaf and intermediate; the root comes from the bundle")
        verified = self.verify()
        self.assertEqual(len(verified.chain), 3)
        names = verified.chain[0].extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        spiffe_id = f"spiffe://{worlds.BROKER_TRUST_DOMAIN}/task/{self.task.task_id}/e/1/summarizer"
        self.assertEqual(list(names.value), [x509.UniformResourceIdentifier(spiffe_id)])
        self.assertEqual(self.issued.credential.spiffe_id, spiffe_id)

    def test_openssl_accepts_them_by_its_strict_rules(self):
        for purpose in ("sslclient", "sslserver"):
            self.assertEqual(self.openssl(purpose=purpose), (0, "leaf: OK\n"))

    def test_both_refuse_a_chain_without_the_intermediate(self):
        with self.assertRaises(VerificationError):
            self.verify(chain=self.chain[:1])
        code, text = self.openssl(chain=self.chain[:1])
        self.assertEqual(code, 2)
        self.assertIn("unable to get local issuer certificate", text)

    def test_both_refuse_another_root(self):
        strange = [x509.load_pem_x509_certificate(self.world.root_file.read_bytes())]
        with self.assertRaises(VerificationError):
            self.verify(roots=strange)
        self.assertEqual(self.openssl(roots=strange)[0], 2)

    def test_both_refuse_it_once_it_expired(self):
        self.verify(later_seconds=200)
        with self.assertRaises(VerificationError):
            self.verify(later_seconds=300)
        self.assertEqual(self.openssl(later_seconds=200)[0], 0)
        code, text = self.openssl(later_seconds=300)
        self.assertEqual(code, 2)
        self.assertIn("certificate has expired", text)

    def test_both_refuse_a_tampered_certificate(self):
        name, other = b"/summarizer", b"/summarizes"
        self.assertIn(name, self.chain[0])
        chain = [self.chain[0].replace(name, other), *self.chain[1:]]
        with self.assertRaises(VerificationError):
            self.verify(chain=chain)
        code, text = self.openssl(chain=chain)
        self.assertEqual(code, 2)
        self.assertIn("certificate signature failure", text)

    def test_it_has_what_an_x509_svid_has_and_nothing_of_what_the_request_asked_for(self):
        extensions = self.leaf.extensions
        self.assertEqual(list(self.leaf.subject), [])
        self.assertTrue(extensions.get_extension_for_class(x509.SubjectAlternativeName).critical)
        self.assertFalse(extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        self.assertTrue(usage.critical)
        self.assertEqual(usage.value, worlds.key_usage(digital_signature=True))
        purposes = list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        self.assertIn(ExtendedKeyUsageOID.CLIENT_AUTH, purposes)
        no_revocation = extensions.get_extension_for_oid(NO_REV_AVAIL)
        self.assertEqual((no_revocation.critical, no_revocation.value.value), (False, b"\x05\x00"))
        self.assertEqual(self.leaf.public_key(), self.key.public_key())

    def test_its_times_and_serial_are_those_of_the_lease(self):
        serial = self.leaf.serial_number.to_bytes(17, "big")
        jti = base64.urlsafe_b64encode(serial[1:]).rstrip(b"=").decode()
        self.assertEqual((serial[0], jti), (1, self.issued.lease.credential_id))
        # notAfter is inclusive.
        end = self.issued.expire_time.seconds - 1
        self.assertEqual(int(self.leaf.not_valid_after_utc.timestamp()), end)

    def test_its_task_extension_is_the_published_format(self):
        extension = self.leaf.extensions.get_extension_for_oid(TASK_EXTENSION)
        self.assertFalse(extension.critical)
        execution = TaskExtension.load(extension.value.value, strict=True).native
        self.assertEqual(execution["version"], 1)
        self.assertEqual([dict(hop) for hop in execution["path"]], [{"task": self.task.task_id, "counter": 1}])
        self.assertEqual(execution["lease"], self.issued.lease.lease_id)
        self.assertEqual((execution["tier"], execution["delta_ms"]), ("standard", 5000))
        self.assertEqual(execution["step"], "s-1")
        self.assertLessEqual(execution["incarnation"], execution["stamp"])
        scopes = [
            f"principal:{worlds.AGENT}", "class:summarizer", f"td:{worlds.TRUST_DOMAIN}", "orchestrator:interop",
        ]
        reach = [hashlib.sha256(scope.encode()).digest()[:16] for scope in scopes]
        self.assertEqual(sorted(execution["reach"]), sorted(reach))

    def test_keys_of_foreign_software_are_taken_and_certified(self):
        keys = [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)]
        requests = [(key.public_key(), request_for(key)) for key in keys] + [self.request_by_openssl()]
        with Caller(self.world, "orchestrator") as orchestrator, Caller(self.world, "agent") as agent:
            task = orchestrator.begin()
            for public_key, request in requests:
                issued = agent.issue_certificate(task.task_id, request)
                chain = list(issued.credential.certificate_chain_der)
                self.verify(chain=chain)
                self.assertEqual(self.openssl(chain=chain)[0], 0)
                leaf = x509.load_der_x509_certificate(chain[0])
                self.assertEqual(leaf.public_key(), public_key)

    def request_by_openssl(self):
        """A public key and a request for it, both by the command line."""
        command = [
            "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", "/CN=agent", "-outform", "DER", "-keyout", "/dev/null",
        ]
        der = subprocess.run(command, capture_output=True, check=True, timeout=20).stdout
        return x509.load_der_x509_csr(der).public_key(), der

    def test_a_request_that_its_key_did_not_sign_is_refused(self):
        request = request_for(worlds.new_key())
        broken = request[:-1] + bytes([request[-1] ^ 1])
        with Caller(self.world, "orchestrator") as orchestrator, Caller(self.world, "agent") as agent:
            task = orchestrator.begin()
            with self.assertRaises(grpc.RpcError) as refusal:
                agent.issue_certificate(task.task_id, broken)
        self.assertEqual(reason(refusal.exception), (grpc.StatusCode.UNAUTHENTICATED, "PROOF_INVALID"))

    def test_a_token_that_is_minted_with_a_certificate_is_bound_to_it(self):
        with Caller(self.world, "orchestrator") as orchestrator, Caller(self.world, "agent") as agent:
            task = orchestrator.begin()
            credential = agent.issue_token(task.task_id, request_for(worlds.new_key())).credential
        chain = list(credential.certificate_chain_der)
        self.verify(chain=chain)
        thumbprint = x509.load_der_x509_certificate(chain[0]).fingerprint(hashes.SHA256())
        claims = jwt.decode(credential.access_token, options={"verify_signature": False})
        bound = base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()
        self.assertEqual(claims["cnf"], {"x5t#S256": bound})
