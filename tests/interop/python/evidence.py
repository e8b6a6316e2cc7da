"""Has credentials issued, and writes them into the world's folder for the peers that are not Python."""

import base64
import json

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

import world as worlds
from caller import Caller


def main():
    world = worlds.find()
    with Caller(world, "orchestrator") as orchestrator, Caller(world, "agent") as agent:
        task = orchestrator.begin()
        token = agent.issue_token(task.task_id)
        key = worlds.new_key()
        certificate = agent.issue_certificate(task.task_id, request_for(key))
    chain = certificate.credential.certificate_chain_der
    write_pem(world.cert_file("task"), chain)
    write_pem(world.cert_file("task-without-intermediate"), chain[:1])
    world.key_file("task").write_bytes(worlds.pkcs8(key))
    evidence = {
        "base_url": world.base_url,
        "agent": worlds.AGENT,
        "audience": worlds.AUDIENCE,
        "other_audience": worlds.OTHER_AUDIENCE,
        "task": task.task_id,
        "lease": token.lease.lease_id,
        "token": token.credential.access_token,
        "spiffe_id": certificate.credential.spiffe_id,
    }
    (world.folder / "evidence.json").write_text(json.dumps(evidence))


def request_for(key):
    """DER of a PKCS #10 request; what it asks for beside the key is not granted."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def write_pem(path, chain):
    path.write_text("".join(pem(der) for der in chain))


def pem(der):
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"


if __name__ == "__main__":
    main()
