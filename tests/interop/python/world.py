"""A trust domain, an OIDC issuer and a broker's configuration, made by foreign software: what the suites have in common.

`python world.py make FOLDER` makes it; the broker is then started with FOLDER/leasehold.toml. The suites find it by the
environment variable LEASEHOLD_INTEROP_WORLD.
"""

import base64
import datetime
import json
import os
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TRUST_DOMAIN = "interop.example"
BROKER_TRUST_DOMAIN = "leasehold.example"
AUDIENCE = "https://documents.interop.example"
OTHER_AUDIENCE = "https://ledger.interop.example"
WEBHOOK_AUDIENCE = "https://worker.interop.example"

OIDC_NAME = "interop"
OIDC_ISSUER = "https://issuer.interop.example"
OIDC_AUDIENCE = "leasehold"
OIDC_SUBJECT = "reporter"

ORCHESTRATOR = f"spiffe://{TRUST_DOMAIN}/orchestrator"
AGENT = f"spiffe://{TRUST_DOMAIN}/agents/summarizer/1"
OTHER_AGENT = f"spiffe://{TRUST_DOMAIN}/agents/summarizer/2"
VERIFIER = f"spiffe://{TRUST_DOMAIN}/api/documents"
OTHER_VERIFIER = f"spiffe://{TRUST_DOMAIN}/api/ledger"
OPERATOR = f"spiffe://{TRUST_DOMAIN}/people/operator"
STRANGER = f"spiffe://{TRUST_DOMAIN}/nobody"

# The files of each, by name; `impostor` is the agent by a root that nobody trusts.
WORKLOADS = {
    "orchestrator": ORCHESTRATOR,
    "agent": AGENT,
    "other-agent": OTHER_AGENT,
    "verifier": VERIFIER,
    "other-verifier": OTHER_VERIFIER,
    "operator": OPERATOR,
    "stranger": STRANGER,
    "impostor": AGENT,
}


@dataclass(frozen=True)
class World:
    """Where everything is."""

    folder: Path
    grpc_port: int
    http_port: int
    # Where the receiver of the broker's webhook is to listen.
    webhook_port: int

    @property
    def base_url(self):
        return f"https://localhost:{self.http_port}"

    @property
    def root_file(self):
        return self.folder / "root.pem"

    def cert_file(self, workload):
        return self.folder / f"{workload}.pem"

    def key_file(self, workload):
        return self.folder / f"{workload}.key"

    def tls(self, workload=None):
        """A client's TLS towards the broker, with the workload's certificate or without one."""
        context = ssl.create_default_context(cafile=self.root_file)
        if workload is not None:
            context.load_cert_chain(self.cert_file(workload), self.key_file(workload))
        return context

    def identity_token(self, changes=None, key=None, algorithm="ES256"):
        """An identity token of the OIDC issuer, with claims changed; None takes a claim out."""
        now = int(datetime.datetime.now(datetime.timezone.utc).timestamp())
        claims = {
            "iss": OIDC_ISSUER,
            "sub": OIDC_SUBJECT,
            "aud": OIDC_AUDIENCE,
            "iat": now,
            "exp": now + 600,
        }
        claims.update(changes or {})
        claims = {name: value for name, value in claims.items() if value is not None}
        key = key or (self.folder / "issuer.key").read_bytes()
        return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": "interop-1"})


def find():
    """The world that `make` made."""
    folder = Path(os.environ["LEASEHOLD_INTEROP_WORLD"])
    ports = json.loads((folder / "ports.json").read_text())
    return World(folder, ports["grpc"], ports["http"], ports["webhook"])


def make(folder):
    """Makes it in a new folder, which only its owner can read."""
    folder.mkdir(mode=0o700, parents=True)
    world = World(folder, *free_ports(3))
    root, strange_root = Authority("Interop root"), Authority("Strange root")
    world.root_file.write_bytes(root.pem())
    for workload, spiffe_id in WORKLOADS.items():
        authority = strange_root if workload == "impostor" else root
        write_pair(world, workload, authority.leaf([x509.UniformResourceIdentifier(spiffe_id)]))
    write_pair(world, "broker", root.leaf([x509.DNSName("localhost")]))
    make_issuer(folder)
    key = base64.b64encode(os.urandom(32))
    (folder / "keyring.key").write_bytes(key)
    ports = {"grpc": world.grpc_port, "http": world.http_port, "webhook": world.webhook_port}
    (folder / "ports.json").write_text(json.dumps(ports))
    (folder / "leasehold.toml").write_text(configuration(world))


class Authority:
    """A root, with its private key."""

    def __init__(self, name):
        self.key = new_key()
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = key_usage(key_cert_sign=True, crl_sign=True)
        names = [x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}")]
        self.certificate = (
            self.builder(self.name, self.key.public_key(), names)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def leaf(self, names):
        """A certificate for the names, and its key."""
        key = new_key()
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            self.builder(x509.Name([]), key.public_key(), names)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return certificate, key

    def builder(self, subject, public_key, names):
        now, hour = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(hours=1)
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - hour)
            .not_valid_after(now + 24 * hour)
            .add_extension(x509.SubjectAlternativeName(names), critical=not subject.rdns)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(issuer_key, critical=False)
        )


def key_usage(**allowed):
    usages = [
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    ]
    return x509.KeyUsage(**{usage: allowed.get(usage, False) for usage in usages})


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def pkcs8(key):
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def write_pair(world, name, pair):
    certificate, key = pair
    world.cert_file(name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    world.key_file(name).write_bytes(pkcs8(key))


def make_issuer(folder):
    key = new_key()
    (folder / "issuer.key").write_bytes(pkcs8(key))
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    jwk.update(kid="interop-1", use="sig", alg="ES256")
    (folder / "issuer.jwks.json").write_text(json.dumps({"keys": [jwk]}))


def free_ports(count):
    """Ports of this machine that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def configuration(world):
    return f"""\
trust_domain = "{BROKER_TRUST_DOMAIN}"
base_url = "{world.base_url}"
store = {{ kind = "embedded", path = "data" }}
listen = {{ grpc = "127.0.0.1:{world.grpc_port}", http = "127.0.0.1:{world.http_port}" }}
tls = {{ cert_file = "broker.pem", key_file = "broker.key" }}
keys = {{ encryption_key_file = "keyring.key" }}
crl.max_age = "1s"
tiers.standard = {{ ttl = "5m", ceiling = "1h" }}
tiers.long = {{ ttl = "30m", ceiling = "1h" }}
tiers.relaxed = {{ ttl = "5m", ceiling = "1h", proof = "optional" }}

[[trust.spiffe]]
trust_domain = "{TRUST_DOMAIN}"
bundle = {{ file = "root.pem" }}

[[trust.oidc]]
name = "{OIDC_NAME}"
issuer = "{OIDC_ISSUER}"
audience = "{OIDC_AUDIENCE}"
jwks = {{ file = "issuer.jwks.json" }}

[[webhooks]]
name = "worker"
url = "http://127.0.0.1:{world.webhook_port}/events"
audience = "{WEBHOOK_AUDIENCE}"
danger_loopback = true

[[roles]]
role = "orchestrator"
name = "interop"
match = "{ORCHESTRATOR}"

[[roles]]
role = "agent"
class = "summarizer"
owner = "docs"
tiers = ["standard", "long", "relaxed"]
match = "spiffe://{TRUST_DOMAIN}/agents/summarizer/*"

[[roles]]
role = "agent"
class = "reporter"
owner = "docs"
tiers = ["standard"]
issuer = "{OIDC_NAME}"
subject = "{OIDC_SUBJECT}"

[[roles]]
role = "verifier"
audiences = ["{AUDIENCE}"]
match = "{VERIFIER}"

[[roles]]
role = "verifier"
audiences = ["{OTHER_AUDIENCE}"]
match = "{OTHER_VERIFIER}"

[[roles]]
role = "operator"
match = "{OPERATOR}"
"""


if __name__ == "__main__":
    command, path = sys.argv[1:]
    assert command == "make", command
    make(Path(path))
