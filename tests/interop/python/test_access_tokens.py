"""PyJWT verifies access tokens by what the broker publishes, and by nothing else."""

import base64
import hashlib
import json
import ssl
import unittest
import urllib.request

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

import world as worlds
from caller import Caller

# RFC 9068 section 2.2, RFC 8705 section 3.1, RFC 9396 section 9.1, and our own.
CLAIMS = [
    "iss", "sub", "client_id", "aud", "iat", "nbf", "exp", "jti", "cnf", "txn", "authorization_details", "leasehold",
]


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class AccessTokens(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = worlds.find()
        with Caller(cls.world, "orchestrator") as orchestrator, Caller(cls.world, "agent") as agent:
            cls.task = orchestrator.begin()
            cls.issued = agent.issue_token(cls.task.task_id)
        cls.token = cls.issued.credential.access_token
        url = f"{cls.world.base_url}/.well-known/oauth-authorization-server"
        with urllib.request.urlopen(url, context=cls.world.tls(), timeout=20) as answer:
            cls.metadata = json.load(answer)
        cls.keys = jwt.PyJWKClient(cls.metadata["jwks_uri"], ssl_context=cls.world.tls())

    def verify(self, token, key=None, **changes):
        rules = {
            "algorithms": ["ES256"],
            "audience": worlds.AUDIENCE,
            "issuer": self.metadata["issuer"],
            "options": {"require": CLAIMS},
        }
        key = key or self.keys.get_signing_key_from_jwt(token)
        return jwt.decode(token, key, **{**rules, **changes})

    def changed(self, part, change):
        """The token with one of its three parts changed."""
        parts = self.token.split(".")
        parts[part] = base64url(change(unpadded(parts[part])))
        return ".".join(parts)

    def test_a_token_verifies_by_the_published_keys_alone(self):
        claims, task, lease = self.verify(self.token), self.task, self.issued.lease
        self.assertEqual(claims["iss"], self.world.base_url)
        self.assertEqual((claims["sub"], claims["client_id"]), (worlds.AGENT, worlds.AGENT))
        self.assertNotIn("act", claims)
        self.assertEqual(claims["jti"], lease.credential_id)
        self.assertEqual(claims["txn"], task.task_id)
        self.assertEqual(claims["exp"], self.issued.expire_time.seconds)
        self.assertEqual(claims["iat"] - claims["nbf"], 5)
        self.assertEqual(claims["exp"] - claims["iat"], 300)
        self.assertEqual(claims["authorization_details"], json.loads(task.authorization_details))

    def test_its_claim_leasehold_is_the_published_format(self):
        execution = self.verify(self.token)["leasehold"]
        self.assertEqual(execution["v"], 1)
        self.assertEqual(execution["path"], [[self.task.task_id, self.task.epoch]])
        self.assertEqual(execution["lease"], self.issued.lease.lease_id)
        self.assertEqual((execution["tier"], execution["delta_ms"]), ("standard", 5000))
        incarnation, stamp = execution["origin"]
        self.assertLessEqual(int(incarnation), int(stamp))
        self.assertEqual(int(stamp) // 1_000_000, self.verify(self.token)["iat"])
        scopes = [
            f"principal:{worlds.AGENT}", "class:summarizer", f"td:{worlds.TRUST_DOMAIN}", "orchestrator:interop",
        ]
        reach = [base64url(hashlib.sha256(scope.encode()).digest()[:16]) for scope in scopes]
        self.assertEqual(sorted(execution["reach"]), sorted(reach))

    def test_its_header_says_what_kind_of_token_it_is(self):
        header = jwt.get_unverified_header(self.token)
        self.assertEqual(sorted(header), ["alg", "kid", "typ"])
        self.assertEqual((header["alg"], header["typ"]), ("ES256", "at+jwt"))

    def test_it_is_bound_to_the_certificate_of_the_caller(self):
        der = ssl.PEM_cert_to_DER_cert(self.world.cert_file("agent").read_text())
        thumbprint = base64url(hashlib.sha256(der).digest())
        self.assertEqual(self.verify(self.token)["cnf"], {"x5t#S256": thumbprint})

    def test_another_audience_issuer_or_time_is_refused(self):
        with self.assertRaises(jwt.InvalidAudienceError):
            self.verify(self.token, audience=worlds.OTHER_AUDIENCE)
        with self.assertRaises(jwt.InvalidIssuerError):
            self.verify(self.token, issuer=self.world.base_url + "/")
        # Five minutes later by a clock that nobody has to wait for.
        later = {"require": CLAIMS, "verify_iat": False, "verify_nbf": False}
        self.verify(self.token, leeway=-200, options=later)
        with self.assertRaises(jwt.ExpiredSignatureError):
            self.verify(self.token, leeway=-300, options=later)

    def test_a_tampered_token_is_refused(self):
        wider = self.changed(1, lambda claims: claims.replace(b'"list"', b'"edit"'))
        self.assertNotEqual(wider, self.token)
        other_signature = self.changed(2, lambda signature: bytes([signature[0] ^ 1]) + signature[1:])
        other_header = self.changed(0, lambda header: header.replace(b"at+jwt", b"JWT"))
        for tampered in (wider, other_signature, other_header):
            with self.assertRaises(jwt.InvalidSignatureError):
                self.verify(tampered)

    def test_a_token_without_signature_or_by_another_key_is_refused(self):
        claims = self.verify(self.token)
        unsigned = jwt.encode(claims, None, algorithm="none")
        header = {"kid": jwt.get_unverified_header(self.token)["kid"], "typ": "at+jwt"}
        forged = jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), "ES256", header)
        with self.assertRaises(jwt.InvalidAlgorithmError):
            self.verify(unsigned, key=self.keys.get_signing_key_from_jwt(self.token))
        with self.assertRaises(jwt.InvalidSignatureError):
            self.verify(forged)

    def test_the_published_keys_are_public_ones_for_signatures(self):
        url = self.metadata["jwks_uri"]
        with urllib.request.urlopen(url, context=self.world.tls(), timeout=20) as answer:
            self.assertEqual(answer.headers.get_content_type(), "application/jwk-set+json")
            keys = json.load(answer)["keys"]
        self.assertTrue(keys)
        for key in keys:
            self.assertEqual((key["kty"], key["crv"], key["alg"], key["use"]), ("EC", "P-256", "ES256", "sig"))
            self.assertNotIn("d", key)
        self.assertEqual(len({key["kid"] for key in keys}), len(keys))
