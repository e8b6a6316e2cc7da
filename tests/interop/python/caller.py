"""A caller of the broker: grpcio over TLS, and the client that grpcio-tools generated from the published contract."""

import json
import uuid

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from leasehold.v1 import credential_service_pb2 as credential_messages
from leasehold.v1 import credential_service_pb2_grpc as credential_service
from leasehold.v1 import operator_service_pb2_grpc as operator_service
from leasehold.v1 import task_service_pb2 as task_messages
from leasehold.v1 import task_service_pb2_grpc as task_service
from leasehold.v1 import verification_service_pb2_grpc as verification_service

import world as worlds

TIMEOUT_SECONDS = 20


class Caller:
    """One workload's connection. Without a workload there is no client certificate."""

    def __init__(self, world, workload=None, identity_token=None):
        self.credentials = grpc.ssl_channel_credentials(
            world.root_file.read_bytes(),
            workload and world.key_file(workload).read_bytes(),
            workload and world.cert_file(workload).read_bytes(),
        )
        if identity_token is not None:
            bearer = grpc.access_token_call_credentials(identity_token)
            self.credentials = grpc.composite_channel_credentials(self.credentials, bearer)
        self.channel = grpc.secure_channel(f"localhost:{world.grpc_port}", self.credentials)
        self.tasks = task_service.TaskServiceStub(self.channel)
        self.leases = credential_service.CredentialServiceStub(self.channel)
        self.operations = operator_service.OperatorServiceStub(self.channel)
        self.verification = verification_service.VerificationServiceStub(self.channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def begin(self, agent=worlds.AGENT, request_id=None, **fields):
        """Begins a task in which the agent may read documents, for an hour."""
        fields.setdefault("purpose", "see that foreign software agrees")
        fields.setdefault("authorization_details", json.dumps([grant("read", "list")]))
        fields.setdefault("tier", "standard")
        request = task_messages.BeginTaskRequest(
            request_id=request_id or new_id(), agent=agent, **fields
        )
        request.duration.FromSeconds(3600)
        return self.tasks.BeginTask(request, timeout=TIMEOUT_SECONDS).task

    def complete(self, task_id):
        request = task_messages.CompleteTaskRequest(request_id=new_id(), task_id=task_id)
        return self.tasks.CompleteTask(request, timeout=TIMEOUT_SECONDS)

    def issue_token(self, task_id, csr_der=None, **fields):
        """An access token bound to this caller's certificate, or to one that is minted for the request's key."""
        wanted = credential_messages.AccessTokenRequest(csr_der=csr_der)
        return self.issue(task_id, access_token=wanted, **fields)

    def issue_certificate(self, task_id, csr_der, **fields):
        wanted = credential_messages.X509SvidRequest(csr_der=csr_der)
        return self.issue(task_id, x509_svid=wanted, **fields)

    def issue_jwt_svid(self, task_id, **fields):
        return self.issue(task_id, jwt_svid=credential_messages.JwtSvidRequest(), **fields)

    def issue(self, task_id, **fields):
        fields.setdefault("audience", worlds.AUDIENCE)
        request = credential_messages.IssueCredentialRequest(
            request_id=new_id(), task_id=task_id, **fields
        )
        return self.leases.IssueCredential(request, timeout=TIMEOUT_SECONDS)


def new_id():
    return str(uuid.uuid4())


def grant(*actions):
    return {"type": "resource_access", "audience": worlds.AUDIENCE, "actions": list(actions)}


def reason(error):
    """The code of a refused call, and the reason that its one ErrorInfo gives."""
    status = rpc_status.from_call(error)
    assert status is not None, f"no grpc-status-details-bin: {error}"
    found = []
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            found.append(info)
    assert len(found) == 1, status
    assert found[0].domain == "leasehold", status
    return error.code(), found[0].reason
