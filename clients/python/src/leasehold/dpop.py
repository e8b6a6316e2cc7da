"""Keys that tokens are bound to without a certificate, by DPoP (RFC 9449): every request carries a proof of its own.

who sends                                          who takes
  DPoP: {jti, htm, htu, iat, ath, nonce?} ────────▶ the token's `cnf.jkt` is the key of the proof,
        signed by the key                           which is for this request, now, and new
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ._encoding import encoded
from .errors import request_error

__all__ = ["DpopKey"]

TYP = "dpop+jwt"
#: The header with a proof, and the one with a server's nonce.
PROOF, NONCE = "DPoP", "DPoP-Nonce"
#: What a nonce may consist of (RFC 9449 section 8.1).
_NONCE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,512}")
_COORDINATE_BYTES = 32
_DEMANDED = 401
_MOST_ORIGINS = 64


class DpopKey:
    """A P-256 key of this process that tokens are bound to. It signs a proof for every request, and is never sent.

    A new one; or with `from_pem` one that others keep, so that a token outlives the process that got it.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey | None = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1()) if key is None else key
        if not isinstance(self._key.curve, ec.SECP256R1):
            raise request_error("key", "is not on P-256; proofs are signed with ES256")
        numbers = self._key.public_key().public_numbers()
        x, y = (encoded(n.to_bytes(_COORDINATE_BYTES, "big")) for n in (numbers.x, numbers.y))
        self._jwk = {"crv": "P-256", "kty": "EC", "x": x, "y": y}

    @classmethod
    def from_pem(cls, pem: bytes | str) -> DpopKey:
        """The key in a PEM, as `leasehold token issue --dpop-key` leaves it."""
        content = pem.encode() if isinstance(pem, str) else pem
        try:
            key = serialization.load_pem_private_key(content, password=None)
        except (ValueError, TypeError):
            # The fault of a parser may quote what it read.
            raise request_error("pem", "holds no private key in PEM") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise request_error("pem", "holds no P-256 key; proofs are signed with ES256")
        return cls(key)

    @property
    def thumbprint(self) -> str:
        """What a token says of the key it is bound to: `jkt` of its `cnf` (RFC 7638, RFC 9449 section 6.1)."""
        return jwk_thumbprint(self._jwk)

    def proof(
        self, method: str, url: str, *, token: str | None = None, nonce: str | None = None
    ) -> str:
        """A proof for one request, to be sent in its `DPoP` header: made now, and good once.

        `token`: the access token that goes with it. `nonce`: what the server last sent in `DPoP-Nonce`.
        """
        claims: dict[str, Any] = {
            "jti": secrets.token_urlsafe(16),
            "htm": method,
            "htu": without_query(url),
            "iat": int(time.time()),
        }
        if token is not None:
            claims["ath"] = hash_of(token)
        if nonce is not None:
            claims["nonce"] = nonce
        header = {"typ": TYP, "alg": "ES256", "jwk": self._jwk}
        signed = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        signature = b"".join(number.to_bytes(_COORDINATE_BYTES, "big") for number in (r, s))
        return f"{signed}.{encoded(signature)}"

    def __repr__(self) -> str:
        return f"DpopKey(thumbprint={self.thumbprint!r}, key=[hidden])"


class Prover:
    """Proofs of one key, with the nonce that each server gave last. Safe to share between threads."""

    def __init__(self, key: DpopKey) -> None:
        self.key = key
        self._lock = threading.Lock()
        self._nonces: OrderedDict[str, str] = OrderedDict()

    def proof(self, method: str, url: str, token: str | None = None) -> str:
        """A proof for one request."""
        with self._lock:
            nonce = self._nonces.get(_origin(url))
        return self.key.proof(method, url, token=token, nonce=nonce)

    def headers(self, method: str, url: str, token: str) -> dict[str, str]:
        """The headers by which a request shows a token that is bound to the key (RFC 9449 section 7.1)."""
        return {"Authorization": f"DPoP {token}", PROOF: self.proof(method, url, token)}

    def learn(self, url: str, nonce: str) -> None:
        """What goes into the next proof for that server."""
        if not _NONCE.fullmatch(nonce):
            return
        with self._lock:
            self._nonces[_origin(url)] = nonce
            self._nonces.move_to_end(_origin(url))
            while len(self._nonces) > _MOST_ORIGINS:
                self._nonces.popitem(last=False)

    def hear(self, url: str, status: int, headers: Mapping[str, str]) -> bool:
        """Takes the nonce that an answer brings. Whether it demands one: then the request is worth sending again."""
        nonce = headers.get(NONCE)
        if nonce is None:
            return False
        self.learn(url, nonce)
        challenge = headers.get("WWW-Authenticate") or ""
        return status == _DEMANDED and "use_dpop_nonce" in challenge


def hash_of(token: str) -> str:
    """`ath` of the proof that goes with a token."""
    return encoded(hashlib.sha256(token.encode()).digest())


def jwk_thumbprint(jwk: Mapping[str, str]) -> str:
    """Of the members of a JWK that its kind requires, and no others (RFC 7638 section 3)."""
    canonical = json.dumps(dict(sorted(jwk.items())), separators=(",", ":"))
    return encoded(hashlib.sha256(canonical.encode()).digest())


def without_query(url: str) -> str:
    """A URL as `htu` has it: neither query nor fragment."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path or "/", "", ""))


def _origin(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
