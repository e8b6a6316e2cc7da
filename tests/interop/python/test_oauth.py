"""A plain HTTP client introspects (RFC 7662) and revokes (RFC 7009)."""

import http.client
import json
import unittest
import urllib.parse

import world as worlds
from caller import Caller

INACTIVE = b'{"active":false}'


class OAuth(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = worlds.find()
        cls.orchestrator, cls.agent = Caller(cls.world, "orchestrator"), Caller(cls.world, "agent")
        cls.addClassCleanup(cls.orchestrator.channel.close)
        cls.addClassCleanup(cls.agent.channel.close)

    def setUp(self):
        self.task = self.orchestrator.begin()
        self.issued = self.agent.issue_token(self.task.task_id)
        self.token = self.issued.credential.access_token

    def send(self, method, path, workload=None, form=None, headers=None):
        """Status, headers and body of the answer."""
        connection = http.client.HTTPSConnection(
            "localhost", self.world.http_port, timeout=20, context=self.world.tls(workload)
        )
        try:
            body = form and urllib.parse.urlencode(form)
            kind = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
            connection.request(method, path, body, {**kind, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def introspect(self, workload="verifier", **form):
        return self.send("POST", "/oauth2/introspect", workload, form or {"token": self.token})

    def revoke(self, workload=None, **form):
        return self.send("POST", "/oauth2/revoke", workload, form or {"token": self.token})

    def assert_inactive(self, answer):
        status, headers, body = answer
        self.assertEqual((status, headers["Content-Type"], body), (200, "application/json", INACTIVE))

    def test_an_active_token_tells_its_verifier_what_it_says(self):
        status, headers, body = self.introspect()
        self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
        self.assertEqual(headers["Cache-Control"], "no-store")
        answer = json.loads(body)
        self.assertIs(answer["active"], True)
        self.assertEqual(answer["token_type"], "Bearer")
        self.assertEqual((answer["sub"], answer["client_id"]), (worlds.AGENT, worlds.AGENT))
        self.assertEqual((answer["iss"], answer["aud"]), (self.world.base_url, worlds.AUDIENCE))
        self.assertEqual(answer["exp"], self.issued.expire_time.seconds)
        self.assertEqual(answer["leasehold"]["path"], [[self.task.task_id, 1]])
        self.assertIn("x5t#S256", answer["cnf"])

    def test_a_hint_of_another_type_hides_nothing(self):
        _, _, body = self.introspect(token=self.token, token_type_hint="refresh_token")
        self.assertIs(json.loads(body)["active"], True)

    def test_a_verifier_of_another_audience_is_told_inactive_and_nothing_else(self):
        self.assert_inactive(self.introspect(workload="other-verifier"))

    def test_an_unknown_a_tampered_and_an_identity_token_are_inactive(self):
        tampered = self.token[:-1] + ("A" if self.token[-1] != "A" else "B")
        for token in ("unknown", tampered, self.world.identity_token()):
            self.assert_inactive(self.introspect(token=token))

    def test_the_token_of_an_ended_task_is_inactive(self):
        self.orchestrator.complete(self.task.task_id)
        self.assert_inactive(self.introspect())

    def test_who_is_no_verifier_is_told_nothing(self):
        status, headers, body = self.introspect(workload=None)
        self.assertEqual((status, json.loads(body)["error"]), (401, "invalid_client"))
        self.assertIn("Bearer", headers["WWW-Authenticate"])
        for workload in ("agent", "orchestrator", "stranger"):
            status, _, body = self.introspect(workload=workload)
            self.assertEqual((status, json.loads(body)["error"]), (400, "unauthorized_client"))

    def test_a_request_without_one_token_is_invalid(self):
        status, _, body = self.introspect(token_type_hint="access_token")
        self.assertEqual((status, json.loads(body)["error"]), (400, "invalid_request"))
        status, _, body = self.revoke(token="")
        self.assertEqual((status, json.loads(body)["error"]), (400, "invalid_request"))
        self.assertEqual(self.send("GET", f"/oauth2/introspect?token={self.token}", "verifier")[0], 405)

    def test_who_holds_a_token_can_revoke_it_and_it_is_inactive_from_then_on(self):
        status, _, body = self.revoke()
        self.assertEqual((status, body), (200, b""))
        self.assert_inactive(self.introspect())
        self.assertEqual(self.revoke()[0], 200, "once more is no error")

    def test_revoking_kills_no_other_lease_of_the_task(self):
        other = self.agent.issue_token(self.task.task_id).credential.access_token
        self.assertEqual(self.revoke()[0], 200)
        _, _, body = self.introspect(token=other)
        self.assertIs(json.loads(body)["active"], True)

    def test_revoking_what_is_no_token_of_ours_says_the_same_and_does_nothing(self):
        tampered = self.token[:-1] + ("A" if self.token[-1] != "A" else "B")
        for token in ("unknown", tampered):
            status, _, body = self.revoke(token=token)
            self.assertEqual((status, body), (200, b""))
        _, _, body = self.introspect()
        self.assertIs(json.loads(body)["active"], True)

    def test_the_metadata_leads_to_the_endpoints_and_is_sent_once(self):
        for name in ("oauth-authorization-server", "openid-configuration"):
            path = f"/.well-known/{name}"
            status, headers, body = self.send("GET", path)
            self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
            metadata = json.loads(body)
            self.assertEqual(metadata["issuer"], self.world.base_url)
            self.assertEqual(metadata["introspection_endpoint"], f"{self.world.base_url}/oauth2/introspect")
            self.assertEqual(metadata["revocation_endpoint"], f"{self.world.base_url}/oauth2/revoke")
            again = self.send("GET", path, headers={"If-None-Match": headers["ETag"]})
            self.assertEqual((again[0], again[2]), (304, b""))
