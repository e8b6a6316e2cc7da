"""The broker takes identity tokens that PyJWT signs, by a JWK set that PyJWT wrote, and refuses every other."""

import unittest

import grpc
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes

import world as worlds
from caller import Caller, reason
from evidence import request_for
from test_access_tokens import base64url

AGENT = f"oidc:{worlds.OIDC_NAME}:{worlds.OIDC_SUBJECT}"


class Identities(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = worlds.find()
        with Caller(cls.world, "orchestrator") as orchestrator:
            cls.task = orchestrator.begin(agent=AGENT)

    def issue(self, identity_token, workload=None):
        with Caller(self.world, workload, identity_token) as agent:
            return agent.issue_token(self.task.task_id, request_for(worlds.new_key()))

    def refused(self, identity_token, workload=None):
        with self.assertRaises(grpc.RpcError) as refusal:
            self.issue(identity_token, workload)
        return reason(refusal.exception)

    def test_a_token_of_the_issuer_is_an_identity(self):
        issued = self.issue(self.world.identity_token())
        self.assertEqual(issued.lease.holder, AGENT)
        claims = jwt.decode(issued.credential.access_token, options={"verify_signature": False})
        self.assertEqual((claims["sub"], claims["client_id"]), (AGENT, AGENT))
        leaf = x509.load_der_x509_certificate(issued.credential.certificate_chain_der[0])
        self.assertEqual(claims["cnf"], {"x5t#S256": base64url(leaf.fingerprint(hashes.SHA256()))})

    def test_a_credential_lives_no_longer_than_the_identity_that_asked_for_it(self):
        now = jwt.decode(self.world.identity_token(), options={"verify_signature": False})["iat"]
        issued = self.issue(self.world.identity_token({"exp": now + 60}))
        self.assertLessEqual(issued.expire_time.seconds, now + 60)

    def test_another_audience_issuer_or_time_is_no_identity(self):
        now = jwt.decode(self.world.identity_token(), options={"verify_signature": False})["iat"]
        for changes in (
            {"aud": self.world.base_url},
            {"aud": None},
            {"iss": worlds.OIDC_ISSUER + "/"},
            {"iat": now - 7200, "exp": now - 3600},
            {"exp": None},
            {"nbf": now + 3600},
            {"sub": None},
        ):
            refused = self.refused(self.world.identity_token(changes))
            self.assertEqual(refused, (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_UNVERIFIED"), changes)

    def test_another_subject_is_nobody(self):
        refused = self.refused(self.world.identity_token({"sub": "somebody"}))
        self.assertEqual(refused, (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING"))

    def test_another_key_or_algorithm_is_no_identity(self):
        other_key = self.world.identity_token(key=worlds.pkcs8(worlds.new_key()))
        by_hmac = self.world.identity_token(key=b"the public key is no secret, and 32 bytes", algorithm="HS256")
        unsigned = jwt.encode({"sub": worlds.OIDC_SUBJECT}, None, algorithm="none")
        for token in (other_key, by_hmac, unsigned):
            self.assertEqual(self.refused(token), (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_UNVERIFIED"))

    def test_an_access_token_of_the_broker_is_no_identity_to_it(self):
        token = self.issue(self.world.identity_token()).credential.access_token
        self.assertEqual(self.refused(token), (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_UNVERIFIED"))

    def test_two_identities_at_once_are_none(self):
        refused = self.refused(self.world.identity_token(), workload="agent")
        self.assertEqual(refused, (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_UNVERIFIED"))
