"""PyJWT verifies JWT-SVIDs from their issuer's discovery document alone, as a cloud that takes identity tokens would."""

import json
import unittest
import urllib.request

import grpc
import jwt
from leasehold.v1 import types_pb2 as types
from leasehold.v1 import verification_service_pb2 as verification_messages

import world as worlds
from caller import TIMEOUT_SECONDS, Caller, reason

CLAIMS = ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "leasehold"]


class JwtSvids(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = worlds.find()
        with Caller(cls.world, "orchestrator") as orchestrator, Caller(cls.world, "agent") as agent:
            cls.task = orchestrator.begin(tier="relaxed")
            cls.issued = agent.issue_jwt_svid(cls.task.task_id)
            cls.access_token = agent.issue_token(cls.task.task_id).credential.access_token
        cls.svid = cls.issued.credential.jwt_svid
        cls.issuer = f"{cls.world.base_url}/spiffe"
        cls.metadata = cls.fetch(f"{cls.issuer}/.well-known/openid-configuration")
        cls.keys = jwt.PyJWKClient(cls.metadata["jwks_uri"], ssl_context=cls.world.tls())

    @classmethod
    def fetch(cls, url):
        with urllib.request.urlopen(url, context=cls.world.tls(), timeout=20) as answer:
            return json.load(answer)

    def verify(self, token, **changes):
        rules = {
            "algorithms": self.metadata["id_token_signing_alg_values_supported"],
            "audience": worlds.AUDIENCE,
            "issuer": self.issuer,
            "options": {"require": CLAIMS},
        }
        return jwt.decode(token, self.keys.get_signing_key_from_jwt(token), **{**rules, **changes})

    def test_discovery_says_what_federation_asks_for(self):
        self.assertEqual(self.metadata["issuer"], self.issuer)
        self.assertTrue(self.metadata["jwks_uri"].startswith(f"{self.issuer}/"))
        self.assertEqual(self.metadata["response_types_supported"], ["id_token"])
        self.assertEqual(self.metadata["subject_types_supported"], ["public"])

    def test_a_jwt_svid_verifies_by_discovery_alone(self):
        claims, lease = self.verify(self.svid), self.issued.lease
        self.assertEqual(sorted(claims), sorted(CLAIMS))
        self.assertEqual(claims["sub"], self.issued.credential.spiffe_id)
        self.assertTrue(claims["sub"].endswith(f"/task/{self.task.task_id}/e/1/summarizer"))
        self.assertEqual((claims["jti"], lease.kind), (lease.credential_id, types.CREDENTIAL_KIND_JWT_SVID))
        self.assertEqual(claims["exp"], self.issued.expire_time.seconds)
        self.assertEqual(claims["leasehold"]["path"], [[self.task.task_id, 1]])

    def test_its_header_has_no_other_members_than_spiffe_allows(self):
        header = jwt.get_unverified_header(self.svid)
        self.assertEqual(sorted(header), ["alg", "kid", "typ"])
        self.assertEqual((header["alg"], header["typ"]), ("ES256", "JWT"))

    def test_the_bundle_has_the_same_keys_by_the_same_names(self):
        bundle = self.fetch(f"{self.world.base_url}/spiffe/bundle.json")["keys"]
        in_bundle = {key["kid"]: (key["x"], key["y"]) for key in bundle if key["use"] == "jwt-svid"}
        published = self.fetch(self.metadata["jwks_uri"])["keys"]
        self.assertEqual(in_bundle, {key["kid"]: (key["x"], key["y"]) for key in published})
        self.assertTrue(published)

    def test_another_audience_and_another_issuer_are_refused(self):
        with self.assertRaises(jwt.InvalidAudienceError):
            self.verify(self.svid, audience=worlds.OTHER_AUDIENCE)
        with self.assertRaises(jwt.InvalidIssuerError):
            self.verify(self.svid, issuer=self.world.base_url)

    def test_an_access_token_has_no_key_here_and_a_jwt_svid_none_there(self):
        with self.assertRaises(jwt.PyJWKClientError):
            self.verify(self.access_token)
        access = jwt.PyJWKClient(f"{self.world.base_url}/oauth2/jwks", ssl_context=self.world.tls())
        with self.assertRaises(jwt.PyJWKClientError):
            access.get_signing_key_from_jwt(self.svid)

    def test_where_every_credential_must_be_bound_there_is_none(self):
        with Caller(self.world, "orchestrator") as orchestrator, Caller(self.world, "agent") as agent:
            task = orchestrator.begin()
            with self.assertRaises(grpc.RpcError) as refusal:
                agent.issue_jwt_svid(task.task_id)
        refused = reason(refusal.exception)
        self.assertEqual(refused, (grpc.StatusCode.UNAUTHENTICATED, "PROOF_INVALID"))

    def test_it_is_no_identity_and_it_dies_with_its_task(self):
        with Caller(self.world, identity_token=self.svid) as impostor:
            with self.assertRaises(grpc.RpcError) as refusal:
                impostor.begin()
        refused = reason(refusal.exception)
        self.assertEqual(refused, (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_UNVERIFIED"))
        with Caller(self.world, "orchestrator") as orchestrator, Caller(self.world, "agent") as agent:
            task = orchestrator.begin(tier="relaxed")
            svid = agent.issue_jwt_svid(task.task_id).credential.jwt_svid
            self.assertTrue(self.is_active(svid))
            orchestrator.complete(task.task_id)
            self.assertFalse(self.is_active(svid))

    def is_active(self, token):
        request = verification_messages.IntrospectCredentialRequest(token=token)
        with Caller(self.world, "verifier") as verifier:
            return verifier.verification.IntrospectCredential(request, timeout=TIMEOUT_SECONDS).active
