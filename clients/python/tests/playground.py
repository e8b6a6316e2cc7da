"""A broker to test against: `leasehold dev` in a folder, with a second root that the tests hold the key of."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import leasehold

AUDIENCE = "https://documents.dev.example"
LEDGER = "https://ledger.dev.example"
ORCHESTRATOR = "spiffe://dev.example/orchestrator"
SUMMARIZER = "spiffe://dev.example/agents/summarizer/1"
RESEARCHER = "spiffe://dev.example/agents/researcher/1"
DOCUMENTS = "spiffe://dev.example/api/documents"

#: Short lives, so that the tests see credentials renewed and dying.
_TIERS = """
standard = { ttl = "5m", ceiling = "1h", min_ttl = "1s", freshness = "1s", proof = "optional" }
flash = { ttl = "3s", ceiling = "5s", min_ttl = "1s", freshness = "1s" }
"""
_CALM = 'calm = { ttl = "5m", ceiling = "1h", min_ttl = "1s", freshness = "10s" }\n'
_ROLES = f"""
[[roles]]
role = "verifier"
audiences = ["{LEDGER}"]
match = "spiffe://dev.example/api/ledger"

[[roles]]
role = "verifier"
audiences = ["{AUDIENCE}"]
issuer = "dev"
subject = "gateway"

[[roles]]
role = "agent"
class = "reader"
owner = "library"
tiers = ["standard"]
issuer = "dev"
subject = "reader"
"""


def binary() -> str:
    """The broker's program."""
    named = os.environ.get("LEASEHOLD_BIN")
    found = named or shutil.which("leasehold")
    assert found, "name the broker's program in LEASEHOLD_BIN; `make clients` builds it"
    return found


class Playground:
    """A broker that can be stopped and started again, and the identities that it knows."""

    def __init__(self, folder: Path, more: str = "", *, patient: bool = False) -> None:
        """`more` goes to the end of its configuration. `patient`: its store allows the tier `calm`."""
        self.folder = folder
        self._more = more
        self._is_patient = patient
        self._process: subprocess.Popen[str] | None = None
        self.authority = Authority()
        try:
            self.start("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")
            self.stop()
            self._extend()
            self.start()
        except BaseException:
            self.stop()
            raise

    def _extend(self) -> None:
        folder = self.folder
        with (folder / "root.pem").open("ab") as roots:
            roots.write(self.authority.pem())
        config = folder / "leasehold.toml"
        text = re.sub(r"(?m)^standard = .*$", _TIERS.strip(), config.read_text())
        text = text.replace('["standard", "critical"]', '["standard", "critical", "flash"]')
        if self._is_patient:
            text = text.replace("[tiers]\n", f"[tiers]\n{_CALM}")
            text = text.replace('"flash"]', '"flash", "calm"]')
        config.write_text(text + _ROLES + self._more)
        if self._is_patient:
            shutil.rmtree(folder / "data")
            made = [binary(), "store", "init", "--config", str(config), "--delta-max", "10s"]
            subprocess.run(made, check=True, stdout=subprocess.DEVNULL)

    def start(self, *options: str) -> None:
        """Runs the broker; returns when it answers."""
        command = [binary(), "dev", "--dir", str(self.folder), *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        told = ""
        for line in self._process.stdout:
            told += line
            if "Running" in line:
                break
        found = re.search(r"gRPC +(\S+)\s+HTTPS +(\S+)", told)
        assert found, f"the broker did not start: {told}"
        self.address, self.issuer = found[1], found[2]

    def stop(self) -> None:
        """Stops the broker; the playground stays."""
        process, self._process = self._process, None
        if process is None:
            return
        # Not the signal of Ctrl-C: what a shell starts in the background does not hear it from the beginning.
        process.terminate()
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise

    @property
    def ca(self) -> Path:
        """The root of broker and workloads."""
        return self.folder / "root.pem"

    def identity(self, who: str) -> leasehold.X509Identity:
        """One of the playground's own workloads."""
        return leasehold.X509Identity(self.folder / f"{who}.pem", self.folder / f"{who}.key")

    def client(self, who: str, timeout: float = 10.0) -> leasehold.Client:
        """The broker, as one of the workloads sees it."""
        return leasehold.Client(
            self.address, ca=self.ca, identity=self.identity(who), timeout=timeout
        )

    def oidc_token(self, subject: str) -> str:
        """An identity token of the playground's issuer."""
        command = [binary(), "dev", "token", "--dir", str(self.folder), "--subject", subject]
        return subprocess.check_output(command, text=True).strip()


@dataclass
class Svid:
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str = "svid") -> leasehold.X509Identity:
        """As an SVID's helper leaves it: each file is replaced at once, one after the other."""
        folder.mkdir(exist_ok=True)
        for suffix, content in ((".key", self.key), (".pem", self.certificate)):
            fresh = folder / f"{name}{suffix}.new"
            fresh.write_bytes(content)
            fresh.rename(folder / f"{name}{suffix}")
        return leasehold.X509Identity(folder / f"{name}.pem", folder / f"{name}.key")


class Authority:
    """A root of the trust domain, with its private key."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test root")])
        builder = self._builder(self._name, self._key, 86_400)
        usage = _usage(key_cert_sign=True, crl_sign=True)
        names = [x509.UniformResourceIdentifier("spiffe://dev.example")]
        self._certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def pem(self) -> bytes:
        """Its certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def svid(self, spiffe_id: str, *, seconds: int = 3_600, local: bool = False) -> Svid:
        """A certificate for a SPIFFE ID; `local`: for servers on this machine too."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(spiffe_id)]
        if local:
            names.append(x509.DNSName("localhost"))
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            self._builder(x509.Name([]), key, seconds)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(issuer_key, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pkcs8 = serialization.PrivateFormat.PKCS8
        return Svid(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption()),
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, seconds: int
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(seconds=seconds))
            .add_extension(ski, critical=False)
        )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
