"""The broker takes the ID tokens of an OpenID provider that it knows by discovery alone, and follows its keys."""

import http.client
import json
import os
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import grpc
import jwt

import world as worlds
from caller import Caller, reason
from evidence import request_for

LEASEHOLD = os.environ["LEASEHOLD_BIN"]
PROVIDER = Path(os.environ["LEASEHOLD_INTEROP_NODE"]) / "provider.mjs"
AGENT = "oidc:provider:reporter"
CALLBACK = "https://agent.invalid/callback"
# The broker asks an issuer for a key that it does not know once in ten seconds.
PATIENCE_SECONDS = 30


def new_keys(kid):
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(worlds.new_key(), as_dict=True)
    return {**jwk, "kid": kid, "use": "sig", "alg": "ES256"}


class Provider:
    """A running oidc-provider. Its clock can be ahead of ours, or behind."""

    def __init__(self, port, keys, offset_seconds=0):
        self.port = port
        self.file = tempfile.NamedTemporaryFile("w", suffix=".json")
        self.file.write(json.dumps({"keys": keys}))
        self.file.flush()
        command = ["node", PROVIDER, str(port), self.file.name, str(offset_seconds)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            if line == "ready\n":
                return
        raise AssertionError(f"the provider ended with {self.process.wait()}")

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def ask(self, method, target, cookies=None, form=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in (cookies or {}).items())}
        if form is not None:
            headers["content-type"] = "application/x-www-form-urlencoded"
        connection.request(method, target, form and urllib.parse.urlencode(form), headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer, body

    def id_token(self, client="leasehold"):
        """What a browser gets that follows the provider's redirects (OpenID Connect Core section 3.2)."""
        query = {"client_id": client, "response_type": "id_token", "scope": "openid", "nonce": "n-1", "redirect_uri": CALLBACK}
        target, cookies = f"/auth?{urllib.parse.urlencode(query)}", {}
        for _ in range(8):
            answer, body = self.ask("GET", target, cookies)
            if answer.status not in (302, 303):
                raise AssertionError(f"{target}: {answer.status} {body}")
            # Cookies of another clock would all have expired; what they expire to is of no interest here.
            for cookie in answer.headers.get_all("set-cookie") or []:
                name, _, value = cookie.partition(";")[0].partition("=")
                cookies[name] = value
            location = answer.headers["location"]
            if location.startswith(CALLBACK):
                found = urllib.parse.parse_qs(urllib.parse.urlsplit(location).fragment)
                return found["id_token"][0]
            parts = urllib.parse.urlsplit(location)
            target = parts.path + (f"?{parts.query}" if parts.query else "")
        raise AssertionError("the redirects do not end")

    def access_token(self):
        """What a program gets with its own secret (RFC 6749 section 4.4, RFC 9068)."""
        form = {"grant_type": "client_credentials", "client_id": "leasehold", "client_secret": "a secret of nobody but the test"}
        answer, body = self.ask("POST", "/token", form=form)
        assert answer.status == 200, body
        return json.loads(body)["access_token"]


class Broker:
    """A broker in a world of its own that trusts the issuer of a port."""

    def __init__(self, provider_port):
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name) / "world"
        worlds.make(folder)
        with open(folder / "leasehold.toml", "a") as configuration:
            configuration.write(trusting(provider_port))
        ports = json.loads((folder / "ports.json").read_text())
        self.world = worlds.World(folder, ports["grpc"], ports["http"], ports["webhook"])
        self.log = open(folder / "log", "w")
        command = [LEASEHOLD, "serve", "--config", folder / "leasehold.toml"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        until(self.is_ready)
        with Caller(self.world, "orchestrator") as orchestrator:
            self.task = orchestrator.begin(agent=AGENT).task_id

    def is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError((self.world.folder / "log").read_text())
        try:
            urllib.request.urlopen(f"{self.world.base_url}/readyz", context=self.world.tls(), timeout=5).close()
            return True
        except (urllib.error.URLError, ConnectionError):
            return False

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.folder.cleanup()

    def issue(self, identity_token):
        with Caller(self.world, identity_token=identity_token) as agent:
            return agent.issue_token(self.task, request_for(worlds.new_key()))


def trusting(port):
    return f"""
[[trust.oidc]]
name = "provider"
issuer = "http://127.0.0.1:{port}"
audience = "leasehold"
danger_loopback = true

[[roles]]
role = "agent"
class = "reporter"
owner = "docs"
tiers = ["standard"]
issuer = "provider"
subject = "reporter"
"""


def until(holds):
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise AssertionError(f"not so after {PATIENCE_SECONDS} s")
        time.sleep(0.1)


class OidcProvider(unittest.TestCase):
    def setUp(self):
        [self.port] = worlds.free_ports(1)
        self.keys = [new_keys("first")]
        self.provider = self.started(self.port, self.keys)
        self.broker = Broker(self.port)
        self.addCleanup(self.broker.stop)

    def started(self, port, keys, offset_seconds=0):
        provider = Provider(port, keys, offset_seconds)
        self.addCleanup(provider.stop)
        return provider

    def restart(self, keys=None, offset_seconds=0):
        self.provider.stop()
        self.provider = self.started(self.port, keys or self.keys, offset_seconds)

    def refusal(self, identity_token, broker=None):
        with self.assertRaises(grpc.RpcError) as refused:
            (broker or self.broker).issue(identity_token)
        return *reason(refused.exception), refused.exception.details()

    def assert_refused(self, identity_token, text):
        code, why, details = self.refusal(identity_token)
        self.assertEqual((code, why), (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_UNVERIFIED"))
        self.assertIn(text, details)

    def until_taken(self, identity_token, broker, meanwhile):
        """Until it is an identity; meanwhile it is refused for that reason and no other."""

        def is_taken():
            try:
                return broker.issue(identity_token).lease.holder == AGENT
            except grpc.RpcError as error:
                self.assertEqual(reason(error), meanwhile)
                return False

        until(is_taken)

    def test_its_id_token_is_an_identity_and_no_other_token_is(self):
        self.assertEqual(self.broker.issue(self.provider.id_token()).lease.holder, AGENT)
        self.assert_refused(self.provider.id_token("other"), "not for this broker")
        access_token = self.provider.access_token()
        self.assertEqual(jwt.decode(access_token, options={"verify_signature": False})["aud"], "leasehold")
        self.assert_refused(access_token, "`typ`")
        [other_port] = worlds.free_ports(1)
        self.assert_refused(self.started(other_port, self.keys).id_token(), "issuer")

    def test_its_id_tokens_of_another_time_or_key_are_none(self):
        self.broker.issue(self.provider.id_token())
        self.restart(offset_seconds=-7200)
        self.assert_refused(self.provider.id_token(), "expired")
        self.restart(offset_seconds=600)
        self.assert_refused(self.provider.id_token(), "not valid yet")
        self.restart(keys=[new_keys("first")])
        self.assert_refused(self.provider.id_token(), "signature")

    def test_its_keys_are_followed_when_they_rotate(self):
        first = self.provider.id_token()
        self.broker.issue(first)
        # The new one signs; the old one is still published.
        self.restart(keys=[new_keys("second"), *self.keys])
        second = self.provider.id_token()
        self.assertEqual(jwt.get_unverified_header(second)["kid"], "second")
        self.until_taken(second, self.broker, (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_UNVERIFIED"))
        self.assertEqual(self.broker.issue(first).lease.holder, AGENT)

    def test_while_it_is_down_its_keys_verify_and_no_new_one_does(self):
        self.broker.issue(self.provider.id_token())
        later = self.provider.id_token()
        self.restart(keys=[new_keys("unseen")])
        unseen = self.provider.id_token()
        self.provider.stop()
        self.assertEqual(self.broker.issue(later).lease.holder, AGENT)
        self.assert_refused(unseen, "`kid`")

    def test_until_its_keys_were_fetched_callers_are_told_to_try_again(self):
        [port] = worlds.free_ports(1)
        provider = self.started(port, self.keys)
        token = provider.id_token()
        provider.stop()
        broker = Broker(port)
        self.addCleanup(broker.stop)
        away = (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")
        code, why, details = self.refusal(token, broker)
        self.assertEqual((code, why), away)
        self.assertIn("try again", details)
        self.started(port, self.keys)
        self.until_taken(token, broker, away)


if __name__ == "__main__":
    unittest.main()
