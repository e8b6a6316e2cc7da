"""Keys that are made here and stay here, and TLS with keys that lie in no file."""

from __future__ import annotations

import os
import secrets
import ssl
import tempfile
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .identity import KeyPair, read_file


class FreshKey:
    """A P-256 key of this process, for a certificate that the broker signs."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def request(self) -> bytes:
        """A PKCS #10 request for it, in DER. Only key and signature are used."""
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return request.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def pair(self, chain_der: Sequence[bytes]) -> KeyPair:
        """With the certificate that the broker signed for it."""
        pem = b"".join(ssl.DER_cert_to_PEM_cert(der).encode() for der in chain_der)
        key = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return KeyPair.parse(pem, key)


def client_context(ca: str | os.PathLike[str] | None, pair: KeyPair | None) -> ssl.SSLContext:
    """TLS towards a server that the CA vouches for, showing a certificate. Without a CA: the machine's roots."""
    if ca is None:
        context = ssl.create_default_context()
    else:
        context = ssl.create_default_context(cadata=read_file(ca).decode("ascii", "replace"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if pair is not None:
        load_pair(context, pair)
    return context


def load_pair(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Has a context show a certificate. Python reads keys from files only, so there is one for a moment."""
    if hasattr(os, "memfd_create"):
        _from_memory(context, pair)
    else:
        _from_sealed_file(context, pair)


def _from_memory(context: ssl.SSLContext, pair: KeyPair) -> None:
    """A file that is in memory only, and that no other process sees."""
    descriptor = os.memfd_create("leasehold", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pair.key_pem + b"\n" + pair.certificate_pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")


def _from_sealed_file(context: ssl.SSLContext, pair: KeyPair) -> None:
    """A file that nobody else may read, in which the key lies under a password that is forgotten."""
    password = secrets.token_bytes(32).hex().encode()
    key = serialization.load_pem_private_key(pair.key_pem, password=None)
    sealed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )
    descriptor, name = tempfile.mkstemp(prefix="leasehold-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(sealed + b"\n" + pair.certificate_pem)
        context.load_cert_chain(name, password=password)
    finally:
        os.unlink(name)
