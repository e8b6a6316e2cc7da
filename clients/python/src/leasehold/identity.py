"""Who the caller is: an X.509-SVID or an OIDC token, in files that somebody else keeps fresh."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from .errors import IdentityError, request_error

__all__ = ["Identity", "KeyPair", "TokenIdentity", "X509Identity", "identity_from_env"]

_Value = TypeVar("_Value")
_Stamp: TypeAlias = tuple[tuple[int, int, int], ...]
#: No token, key or chain is longer.
_MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, repr=False, eq=False)
class KeyPair:
    """A certificate with its chain, and its private key; both in PEM."""

    certificate_pem: bytes
    key_pem: bytes
    #: base64url of the SHA-256 of the certificate: `x5t#S256` (RFC 8705 section 3.1).
    thumbprint: str
    #: When the certificate expires.
    expires_at: datetime

    @classmethod
    def parse(cls, certificate_pem: bytes, key_pem: bytes) -> KeyPair:
        """Reads both. `ValueError` if one is no PEM, or they do not belong together."""
        leaf = x509.load_pem_x509_certificates(certificate_pem)[0]
        key = serialization.load_pem_private_key(key_pem, password=None)
        if _spki(key.public_key()) != _spki(leaf.public_key()):
            raise ValueError("the key is not the certificate's")
        der = leaf.public_bytes(serialization.Encoding.DER)
        return cls(certificate_pem, key_pem, thumbprint(der), leaf.not_valid_after_utc)

    def __repr__(self) -> str:
        return f"KeyPair(thumbprint={self.thumbprint!r}, key=[hidden])"


def thumbprint(certificate_der: bytes) -> str:
    """`x5t#S256` of a certificate (RFC 8705 section 3.1)."""
    digest = hashlib.sha256(certificate_der).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class X509Identity:
    """An X.509-SVID in two files, in PEM: the certificate with its chain, leaf first, and the key.

    The files are looked at before every call. When they have changed, the new ones count from then on; while they are
    half written, the ones before.
    """

    def __init__(self, certificate: str | os.PathLike[str], key: str | os.PathLike[str]) -> None:
        self._watched = _Watched(
            (Path(certificate), Path(key)), lambda files: KeyPair.parse(*files)
        )

    def key_pair(self) -> KeyPair:
        """As the files have it now. `IdentityError` if they never were readable."""
        return self._watched.value()

    def __repr__(self) -> str:
        certificate, key = self._watched.paths
        return f"X509Identity({str(certificate)!r}, {str(key)!r})"


class TokenIdentity:
    """An OIDC token in a file, which is looked at before every call."""

    def __init__(self, token: str | os.PathLike[str]) -> None:
        self._watched = _Watched((Path(token),), lambda files: _token(*files))

    def token(self) -> str:
        """As the file has it now. `IdentityError` if it never was readable."""
        return self._watched.value()

    def __repr__(self) -> str:
        return f"TokenIdentity({str(self._watched.paths[0])!r})"


Identity: TypeAlias = X509Identity | TokenIdentity


def identity_from_env(env: Mapping[str, str]) -> Identity:
    """The identity that `LEASEHOLD_CERT` and `LEASEHOLD_KEY`, or `LEASEHOLD_TOKEN_FILE`, name."""
    certificate, key = env.get("LEASEHOLD_CERT"), env.get("LEASEHOLD_KEY")
    token = env.get("LEASEHOLD_TOKEN_FILE")
    if certificate and key and not token:
        return X509Identity(certificate, key)
    if token and not certificate and not key:
        return TokenIdentity(token)
    raise request_error(
        "identity",
        "who are you? Give `identity`, or set `LEASEHOLD_CERT` and `LEASEHOLD_KEY`, or "
        "`LEASEHOLD_TOKEN_FILE`, and not both",
    )


def read_file(path: str | os.PathLike[str]) -> bytes:
    """A file's bytes. `IdentityError` if it cannot be read."""
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as fault:
        raise _unreadable(str(path), fault.strerror or "cannot be read") from fault
    if len(content) > _MOST_BYTES:
        raise _unreadable(str(path), f"is longer than {_MOST_BYTES} bytes")
    return content


class _Watched(Generic[_Value]):
    """What some files say, read again when they have changed."""

    def __init__(self, paths: tuple[Path, ...], parse: Callable[[list[bytes]], _Value]) -> None:
        self.paths = paths
        self._parse = parse
        self._lock = threading.Lock()
        self._stamp: _Stamp | None = None
        self._value: _Value | None = None

    def value(self) -> _Value:
        with self._lock:
            try:
                stamp = tuple(_stamp(path) for path in self.paths)
                if self._value is None or stamp != self._stamp:
                    self._value, self._stamp = self._read(), stamp
            except IdentityError:
                # Half written, or away for a moment: what was there before counts until it is whole again.
                if self._value is None:
                    raise
            return self._value

    def _read(self) -> _Value:
        contents = [read_file(path) for path in self.paths]
        try:
            return self._parse(contents)
        except (ValueError, TypeError) as fault:
            names = "`, `".join(map(str, self.paths))
            # The fault of a parser may quote what it read.
            why = "the key is not the certificate's" if "key is not" in str(fault) else "no PEM"
            why = "no token" if len(self.paths) == 1 else why
            raise _unreadable(names, why) from None


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as fault:
        raise _unreadable(str(path), fault.strerror or "cannot be read") from fault
    return found.st_mtime_ns, found.st_size, found.st_ino


def _token(content: bytes) -> str:
    token = content.decode("ascii").strip()
    if not token or not token.isprintable() or " " in token:
        raise ValueError("no token")
    return token


def _spki(key: object) -> bytes:
    public = getattr(key, "public_bytes", None)
    if public is None:
        raise ValueError("no key of a kind that signs")
    spki: bytes = public(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return spki


def _unreadable(names: str, why: str) -> IdentityError:
    return IdentityError(
        f"`{names}`: {why}", reason="IDENTITY_UNREADABLE", code="FAILED_PRECONDITION"
    )
