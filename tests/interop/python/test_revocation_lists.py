"""Python's cryptography and OpenSSL go by the revocation list that a long certificate names."""

import base64
import datetime
import json
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

import world as worlds
from caller import Caller
from evidence import pem, request_for

NO_REV_AVAIL = x509.ObjectIdentifier("2.5.29.56")
PATIENCE_SECONDS = 30


class RevocationLists(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = worlds.find()
        keys = json.loads(cls.get(f"{cls.world.base_url}/spiffe/bundle.json"))["keys"]
        cls.roots = [base64.b64decode(key["x5c"][0]) for key in keys if key["use"] == "x509-svid"]

    @classmethod
    def get(cls, url):
        with urllib.request.urlopen(url, context=cls.world.tls(), timeout=20) as answer:
            return answer.read()

    def certify(self, tier):
        """A task of a tier, and the chain of a certificate of it."""
        with Caller(self.world, "orchestrator") as orchestrator, Caller(self.world, "agent") as agent:
            task = orchestrator.begin(tier=tier)
            issued = agent.issue_certificate(task.task_id, request_for(worlds.new_key()))
        return task, list(issued.credential.certificate_chain_der)

    def complete(self, task):
        with Caller(self.world, "orchestrator") as orchestrator:
            orchestrator.complete(task.task_id)

    def url(self, leaf):
        """The one place that a certificate names."""
        points = x509.load_der_x509_certificate(leaf).extensions.get_extension_for_class(x509.CRLDistributionPoints)
        self.assertFalse(points.critical)
        [point] = points.value
        [name] = point.full_name
        self.assertIsNone(point.reasons)
        self.assertIsNone(point.crl_issuer)
        return name.value

    def fetch(self, leaf):
        return x509.load_der_x509_crl(self.get(self.url(leaf)))

    def fetch_after(self, leaf, number):
        """The first list with a higher number: no older one is served for longer than the configuration says."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            fetched = self.fetch(leaf)
            if self.number(fetched) > number:
                return fetched
            time.sleep(0.1)
        self.fail("no newer list came")

    @staticmethod
    def number(fetched):
        return fetched.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number

    def openssl(self, chain, fetched, later_seconds=0, check="-crl_check", more=()):
        """What `openssl verify -crl_check` says by a list, and by more of them."""
        leaf, *intermediates = chain
        now = int(datetime.datetime.now(datetime.timezone.utc).timestamp())
        with tempfile.TemporaryDirectory() as folder:
            files = {"leaf": [leaf], "intermediates": intermediates, "roots": self.roots}
            for name, certificates in files.items():
                (Path(folder) / name).write_text("".join(map(pem, certificates)))
            lists = [crl.public_bytes(serialization.Encoding.PEM) for crl in [fetched, *more]]
            (Path(folder) / "list").write_bytes(b"".join(lists))
            command = [
                "openssl", "verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile", "roots", check,
                "-CRLfile", "list", "-attime", str(now + later_seconds), "-untrusted", "intermediates", "leaf",
            ]
            run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20)
        return run.returncode, run.stdout + run.stderr

    def test_openssl_accepts_a_living_certificate_and_refuses_it_once_its_task_is_over(self):
        task, chain = self.certify("long")
        _, beside = self.certify("long")
        before = self.fetch(chain[0])
        self.assertEqual(self.openssl(chain, before), (0, "leaf: OK\n"))
        self.complete(task)
        after = self.fetch_after(chain[0], self.number(before))
        # One that was begun before the ending may have come first.
        if self.openssl(chain, after)[0] == 0:
            after = self.fetch_after(chain[0], self.number(after))
        code, text = self.openssl(chain, after)
        self.assertEqual(code, 2)
        self.assertIn("certificate revoked", text)
        self.assertEqual(self.openssl(beside, after), (0, "leaf: OK\n"))

    def test_openssl_refuses_by_a_list_that_is_over_and_accepts_short_certificates_beside(self):
        _, chain = self.certify("long")
        fetched = self.fetch(chain[0])
        code, text = self.openssl(chain, fetched, later_seconds=400)
        self.assertEqual(code, 2)
        self.assertIn("CRL has expired", text)
        _, short = self.certify("standard")
        self.assertEqual(self.openssl(short, fetched), (0, "leaf: OK\n"))

    def test_openssl_checks_the_whole_chain_by_the_list_of_the_root_beside(self):
        task, chain = self.certify("long")
        [root] = [x509.load_der_x509_certificate(der) for der in self.roots]
        key_id = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
        of_root = x509.load_der_x509_crl(self.get(f"{self.world.base_url}/crl/{key_id}.crl"))
        self.assertTrue(of_root.is_signature_valid(root.public_key()))
        self.assertEqual(list(of_root), [])
        before = self.fetch(chain[0])
        whole = {"check": "-crl_check_all", "more": [of_root]}
        self.assertEqual(self.openssl(chain, before, **whole), (0, "leaf: OK\n"))
        code, text = self.openssl(chain, before, check="-crl_check_all")
        self.assertEqual(code, 2)
        self.assertIn("unable to get certificate CRL", text)
        self.complete(task)
        after = before
        while self.openssl(chain, after, **whole)[0] == 0:
            after = self.fetch_after(chain[0], self.number(after))
        self.assertIn("certificate revoked", self.openssl(chain, after, **whole)[1])

    def test_cryptography_reads_a_list_that_the_authority_signed(self):
        task, chain = self.certify("long")
        leaf, authority = [x509.load_der_x509_certificate(der) for der in chain]
        before = self.fetch(chain[0])
        self.complete(task)
        began = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        after = before
        while after.get_revoked_certificate_by_serial_number(leaf.serial_number) is None:
            after = self.fetch_after(chain[0], self.number(after))
        self.assertTrue(after.is_signature_valid(authority.public_key()))
        self.assertEqual(after.issuer, authority.subject)
        key_id = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        named = after.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        self.assertEqual(named.key_identifier, key_id.digest)
        self.assertEqual(self.url(chain[0]), f"{self.world.base_url}/crl/{key_id.digest.hex()}.crl")
        critical = [extension.oid for extension in after.extensions if extension.critical]
        self.assertEqual(critical, [])
        self.assertLess(after.last_update_utc, after.next_update_utc)
        entry = after.get_revoked_certificate_by_serial_number(leaf.serial_number)
        reason = entry.extensions.get_extension_for_oid(CRLEntryExtensionOID.CRL_REASON).value.reason
        self.assertEqual(reason, x509.ReasonFlags.cessation_of_operation)
        self.assertLess(abs(entry.revocation_date_utc - began), datetime.timedelta(seconds=30))
        self.assertIsNone(before.get_revoked_certificate_by_serial_number(leaf.serial_number))

    def test_a_long_certificate_names_a_list_and_a_short_one_says_that_there_is_none(self):
        for tier, has, lacks in [
            ("long", ExtensionOID.CRL_DISTRIBUTION_POINTS, NO_REV_AVAIL),
            ("standard", NO_REV_AVAIL, ExtensionOID.CRL_DISTRIBUTION_POINTS),
        ]:
            _, chain = self.certify(tier)
            oids = [extension.oid for extension in x509.load_der_x509_certificate(chain[0]).extensions]
            self.assertIn(has, oids)
            self.assertNotIn(lacks, oids)

    def test_there_is_no_list_of_another_authority(self):
        with self.assertRaises(urllib.error.HTTPError) as refusal:
            self.get(f"{self.world.base_url}/crl/00.crl")
        refusal.exception.close()
        self.assertEqual(refusal.exception.code, 404)
