"""A grpcio client, generated from the published contract, does what an orchestrator, an agent and a verifier do."""

import datetime
import json
import unittest

import grpc
from leasehold.v1 import operator_service_pb2 as operator_messages
from leasehold.v1 import task_service_pb2 as task_messages
from leasehold.v1 import types_pb2 as types
from leasehold.v1 import verification_service_pb2 as verification_messages

import world as worlds
from caller import TIMEOUT_SECONDS, Caller, grant, new_id, reason


class Contract(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = worlds.find()
        for workload in ("orchestrator", "agent", "other-agent", "verifier", "operator", "stranger"):
            caller = Caller(cls.world, workload)
            cls.addClassCleanup(caller.channel.close)
            setattr(cls, workload.replace("-", "_"), caller)

    def refused(self, call, *arguments, **fields):
        with self.assertRaises(grpc.RpcError) as refusal:
            call(*arguments, **fields)
        return reason(refusal.exception)

    def introspect(self, token):
        request = verification_messages.IntrospectCredentialRequest(token=token)
        return self.verifier.verification.IntrospectCredential(request, timeout=TIMEOUT_SECONDS)

    def test_after_the_task_is_complete_nothing_is_issued_and_nothing_is_active(self):
        task = self.orchestrator.begin(step="s-1", checkpoint=b"page 1", labels={"run": "7"})
        self.assertEqual((task.state, task.epoch), (types.TASK_STATE_ACTIVE, 1))
        self.assertEqual((task.agent, task.orchestrator), (worlds.AGENT, "interop"))

        issued = self.agent.issue_token(task.task_id)
        self.assertEqual((issued.step, issued.checkpoint), ("s-1", b"page 1"))
        self.assertEqual(issued.lease.state, types.LEASE_STATE_ACTIVE)

        token = issued.credential.access_token
        answer = self.introspect(token)
        claims = json.loads(answer.claims)
        self.assertTrue(answer.active)
        self.assertEqual(answer.expire_time, issued.expire_time)
        self.assertEqual(claims["leasehold"]["path"], [[task.task_id, 1]])
        self.assertEqual(claims["leasehold"]["lease"], issued.lease.lease_id)

        ended = self.orchestrator.complete(task.task_id)
        self.assertEqual(ended.task.state, types.TASK_STATE_COMPLETED)
        recorded = ended.revocation.recorded_at.ToDatetime(datetime.timezone.utc)
        age = datetime.datetime.now(datetime.timezone.utc) - recorded
        self.assertLess(abs(age), datetime.timedelta(minutes=1))

        refused = self.refused(self.agent.issue_token, task.task_id)
        self.assertEqual(refused, (grpc.StatusCode.FAILED_PRECONDITION, "TASK_ENDED"))
        self.assertEqual(self.introspect(token), verification_messages.IntrospectCredentialResponse())

    def test_what_was_issued_before_an_advance_is_dead_and_the_earlier_epoch_is_refused(self):
        task = self.orchestrator.begin()
        before = self.agent.issue_token(task.task_id).credential.access_token
        request = task_messages.AdvanceTaskRequest(
            request_id=new_id(), task_id=task.task_id, expected_epoch=1, step="s-2"
        )
        advanced = self.orchestrator.tasks.AdvanceTask(request, timeout=TIMEOUT_SECONDS).task
        self.assertEqual((advanced.epoch, advanced.step), (2, "s-2"))
        self.assertFalse(self.introspect(before).active)
        refused = self.refused(self.agent.issue_token, task.task_id, expected_epoch=1)
        self.assertEqual(refused, (grpc.StatusCode.FAILED_PRECONDITION, "EPOCH_STALE"))
        after = self.agent.issue_token(task.task_id, expected_epoch=2).credential.access_token
        self.assertTrue(self.introspect(after).active)

    def test_a_lease_that_an_operator_revokes_is_dead_and_nobody_else_may(self):
        issued = self.agent.issue_token(self.orchestrator.begin().task_id)
        request = operator_messages.RevokeLeaseRequest(
            request_id=new_id(), lease_id=issued.lease.lease_id, reason="the key was copied"
        )
        for caller in (self.agent, self.orchestrator, self.verifier):
            refused = self.refused(caller.operations.RevokeLease, request, timeout=TIMEOUT_SECONDS)
            self.assertEqual(refused, (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING"))
        self.assertTrue(self.introspect(issued.credential.access_token).active)
        revoked = self.operator.operations.RevokeLease(request, timeout=TIMEOUT_SECONDS)
        self.assertEqual(revoked.lease.state, types.LEASE_STATE_REVOKED)
        self.assertFalse(self.introspect(issued.credential.access_token).active)

    def test_a_request_sent_twice_is_done_once_and_its_id_serves_no_other(self):
        request_id = new_id()
        first, again = (self.orchestrator.begin(request_id=request_id) for _ in range(2))
        self.assertEqual(first, again)
        refused = self.refused(self.orchestrator.begin, request_id=request_id, purpose="another")
        self.assertEqual(refused, (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"))

    def test_a_task_of_somebody_else_is_not_found(self):
        task = self.orchestrator.begin()
        refused = self.refused(self.other_agent.issue_token, task.task_id)
        self.assertEqual(refused, (grpc.StatusCode.NOT_FOUND, "NOT_FOUND"))

    def test_more_than_the_grant_is_refused(self):
        task = self.orchestrator.begin()
        wanted = json.dumps([grant("read", "delete")])
        code, _ = self.refused(self.agent.issue_token, task.task_id, authorization_details=wanted)
        self.assertEqual(code, grpc.StatusCode.PERMISSION_DENIED)
        wanted = json.dumps([grant("read")])
        issued = self.agent.issue_token(task.task_id, authorization_details=wanted)
        self.assertEqual(json.loads(issued.lease.authorization_details), [grant("read")])

    def test_who_has_no_role_begins_nothing(self):
        for caller in (self.stranger, self.verifier, self.agent):
            refused = self.refused(caller.begin)
            self.assertEqual(refused, (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING"))

    def test_who_proves_no_identity_learns_the_public_keys_and_nothing_else(self):
        with Caller(self.world) as nobody:
            request = verification_messages.GetTrustBundleRequest()
            bundle = nobody.verification.GetTrustBundle(request, timeout=TIMEOUT_SECONDS)
            self.assertEqual(bundle.trust_domain, worlds.BROKER_TRUST_DOMAIN)
            self.assertEqual(bundle.issuer, self.world.base_url)
            refused = self.refused(nobody.begin)
            self.assertEqual(refused, (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_UNVERIFIED"))

    def test_a_certificate_by_another_root_ends_the_handshake(self):
        with Caller(self.world, "impostor") as impostor:
            with self.assertRaises(grpc.RpcError) as refusal:
                impostor.begin()
            self.assertEqual(refusal.exception.code(), grpc.StatusCode.UNAVAILABLE)
