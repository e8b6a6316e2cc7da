"""Proofs that come with tokens (RFC 9449 sections 4.3 and 7): each is for this very request, made now, and new."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import _clock
from ._encoding import decoded, encoded, json_of
from ._extra import needs
from .dpop import TYP, hash_of, jwk_thumbprint
from .refusal import TokenRefusedError, VerifierUnavailableError

needs("jwt", "verifier")

import jwt  # noqa: E402

#: `iat` lies at most so long before now, and so long after it.
WINDOW_SECONDS = 60
#: How long a nonce is good.
NONCE_SECONDS = 300
#: A key may be remembered twice so long, and not more of them.
MOST_REMEMBERED = 100_000
_MOST_BYTES = 6 * 1024
_MOST_JTI = 256
_FEWEST_RSA_BITS = 2048
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
#: What a URI in a proof may consist of (RFC 3986), without query and fragment.
_URI = re.compile(r"[A-Za-z0-9\-._~:/\[\]@!$&'()*+,;=%]{1,2048}")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]")
#: By algorithm: the kind of key, its curve, and the members that it must have.
_KEYS = {
    "ES256": ("EC", "P-256", ("crv", "kty", "x", "y")),
    "ES384": ("EC", "P-384", ("crv", "kty", "x", "y")),
    **dict.fromkeys(
        ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None, ("e", "kty", "n"))
    ),
}
ALGORITHMS = " ".join(_KEYS)
_SECRET = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


@dataclass(frozen=True, repr=False)
class DpopProofs:
    """What came with a token of the scheme `DPoP`, and for which request."""

    #: The values of the header `DPoP`, of which there must be one.
    values: Sequence[str]
    method: str
    #: Where the request went, as its sender wrote it: with the host that callers know, not one behind a proxy.
    url: str


@dataclass(frozen=True, repr=False)
class Presented:
    """A token as it came with a request."""

    token: str
    #: None unless the scheme was `DPoP`.
    dpop: DpopProofs | None


def presented(
    authorization: str | None, dpop: Sequence[str] | None, *, method: str, url: str
) -> Presented:
    """The token of a request's `Authorization` header, and the proofs of its `DPoP` headers.

    `dpop`: every value of that header, as `email.message.Message.get_all` and the like have them. `url`: as callers
    write it. A token with the scheme `Bearer` comes without proof, whatever other headers say: one that is bound to a
    DPoP key is then refused (RFC 9449 section 7.2).
    """
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip(" ")
    if scheme.lower() == "dpop":
        return Presented(token, DpopProofs(tuple(dpop or ()), method, url))
    return Presented(token if scheme.lower() == "bearer" else "", None)


class ProofChecker:
    """Checks proofs, and remembers those it has seen. Safe to share between threads."""

    def __init__(self, nonce_secret: bytes | None) -> None:
        self._nonces = None if nonce_secret is None else Nonces(nonce_secret)
        self._seen = _Seen()

    def check(self, shown: DpopProofs, token: str, jkt: str) -> None:
        """That there is one proof, by the key with this thumbprint, for this request with this token."""
        now = time.time()
        if len(shown.values) != 1:
            raise self._refused("there is not exactly one `DPoP` header")
        algorithm, jwk, claims = self._signed(shown.values[0])
        uri = normalised(shown.url.partition("?")[0].partition("#")[0])
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= _MOST_JTI:
            raise self._refused("`jti` is no text of up to 256 characters")
        if claims.get("htm") != shown.method:
            raise self._refused("`htm` is not the method of this request")
        if uri is None or normalised(claims.get("htu")) != uri:
            raise self._refused("`htu` is not the URI of this request")
        self._in_time(claims, now)
        if claims.get("ath") != hash_of(token):
            raise self._refused("`ath` is not the hash of the token that it came with")
        members = _KEYS[algorithm][2]
        bound = jwk_thumbprint({name: jwk[name] for name in members})
        if not hmac.compare_digest(bound.encode(), jkt.encode()):
            raise self._refused("the token is bound to another key than the proof is made with")
        if self._nonces is not None and not self._nonces.accepts(claims.get("nonce"), now):
            raise self._refused("the proof must have a `nonce` that was given lately", demands=True)
        # Last, so that nobody without the key fills the memory.
        if not self._seen.add(json.dumps([bound, shown.method, uri, jti])):
            raise self._refused("the proof was shown before; make one for each request")

    def _signed(self, proof: str) -> tuple[str, Mapping[str, str], Mapping[str, Any]]:
        """Algorithm, key and claims of a proof whose signature holds."""
        if len(proof) > _MOST_BYTES or not _COMPACT.fullmatch(proof):
            raise self._refused("it is no compact JWS")
        header = self._object(proof, 0)
        if set(header) != {"typ", "alg", "jwk"} or header["typ"] != TYP:
            raise self._refused("its header is not that of a DPoP proof")
        algorithm, jwk = header["alg"], header["jwk"]
        if not isinstance(algorithm, str) or algorithm not in _KEYS or not isinstance(jwk, dict):
            raise self._refused("its key or algorithm is not one for proofs")
        kind, curve, members = _KEYS[algorithm]
        if (
            jwk.get("kty") != kind
            or jwk.get("crv") != curve
            or jwk.get("alg", algorithm) != algorithm
            or jwk.get("use", "sig") != "sig"
            or _SECRET & set(jwk)
            or not all(isinstance(jwk.get(name), str) for name in members)
        ):
            raise self._refused("`jwk` is not a public key for its algorithm")
        try:
            key: Any = jwt.PyJWK({name: jwk[name] for name in members}, algorithm).key
        except (jwt.PyJWTError, ValueError, TypeError):
            raise self._refused("`jwk` is not a public key for its algorithm") from None
        if kind == "RSA" and key.key_size < _FEWEST_RSA_BITS:
            raise self._refused(f"its RSA key has fewer than {_FEWEST_RSA_BITS} bits")
        try:
            jwt.api_jws.PyJWS().decode(proof, key, algorithms=[algorithm])
        except (jwt.PyJWTError, ValueError, TypeError):
            raise self._refused("its signature does not verify") from None
        return algorithm, jwk, self._object(proof, 1)

    def _object(self, proof: str, part: int) -> dict[str, Any]:
        try:
            found = json_of(proof.split(".")[part])
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._refused("a part of it is no JSON object, or has a member twice")
        return found

    def _in_time(self, claims: Mapping[str, Any], now: float) -> None:
        issued = claims.get("iat")
        if not isinstance(issued, int) or isinstance(issued, bool):
            raise self._refused("`iat` is no number of whole seconds")
        if not now - WINDOW_SECONDS < issued <= now + WINDOW_SECONDS:
            raise self._refused("it was not made within a minute of now; check the clocks")
        for name, over in (("exp", now), ("nbf", now + WINDOW_SECONDS)):
            value = claims.get(name)
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise self._refused(f"`{name}` is no number of whole seconds")
            if (value <= over) == (name == "exp"):
                raise self._refused(f"by its `{name}` it is not valid now")

    def _refused(self, why: str, *, demands: bool = False) -> TokenRefusedError:
        nonce = None if self._nonces is None else self._nonces.fresh(time.time())
        message = why if demands else f"the DPoP proof does not hold: {why}"
        error = "use_dpop_nonce" if demands else "invalid_dpop_proof"
        return TokenRefusedError(message, error=error, dpop_algorithms=ALGORITHMS, nonce=nonce)


class Nonces:
    """Nonces that need no memory: a time, and its HMAC. Servers with one secret know each other's."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < hashlib.sha256().digest_size:
            raise ValueError("`dpop_nonce_secret` has fewer than 32 bytes")
        self._key = hmac.digest(secret, b"leasehold dpop nonce of a resource server", "sha256")

    def fresh(self, now: float) -> str:
        """One that is good for five minutes."""
        seconds = int(now).to_bytes(8, "big")
        return encoded(seconds + hmac.digest(self._key, seconds, "sha256"))

    def accepts(self, nonce: Any, now: float) -> bool:
        """Whether it is one of ours that is good now."""
        try:
            seconds = decoded(nonce)[:8]
        except (ValueError, TypeError):
            return False
        given = int.from_bytes(seconds, "big")
        if len(seconds) != 8 or not given - WINDOW_SECONDS <= now < given + NONCE_SECONDS:  # noqa: PLR2004
            return False
        known = encoded(seconds + hmac.digest(self._key, seconds, "sha256"))
        return hmac.compare_digest(known.encode(), nonce.encode())


class _Seen:
    """What was seen in the last two minutes, and perhaps a little longer: a proof holds for no longer than that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = _clock.now()
        self._latest: set[bytes] = set()
        self._before: set[bytes] = set()

    def add(self, proof: str) -> bool:
        """Whether it is new."""
        identity = hashlib.sha256(proof.encode()).digest()
        with self._lock:
            passed = _clock.now() - self._since
            if passed >= 2 * WINDOW_SECONDS:
                kept = self._latest if passed < 4 * WINDOW_SECONDS else set()
                self._before, self._latest, self._since = kept, set(), _clock.now()
            if identity in self._latest or identity in self._before:
                return False
            if len(self._latest) >= MOST_REMEMBERED:
                # Forgotten, one might be shown again.
                raise VerifierUnavailableError("there are more DPoP proofs than can be remembered")
            self._latest.add(identity)
            return True


def normalised(uri: Any) -> str | None:
    """One spelling for all of one resource (RFC 3986 section 6.2); None for what could be read in two ways."""
    if not isinstance(uri, str) or not _URI.fullmatch(uri) or _BROKEN_ESCAPE.search(uri):
        return None
    try:
        parts = urllib.parse.urlsplit(uri)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or port == 0:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = _ESCAPE.sub(_unescaped, parts.path) or "/"
    if {".", ".."} & set(path.split("/")):
        return None
    return f"https://{host}:{port or 443}{path}"


def _unescaped(escape: re.Match[str]) -> str:
    character = chr(int(escape[0][1:], 16))
    return character if _UNRESERVED.fullmatch(character) else escape[0].upper()
