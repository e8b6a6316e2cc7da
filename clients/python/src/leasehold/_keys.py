"""The keys that a broker signs access tokens with: fetched once for all who wait, and kept for a while."""

from __future__ import annotations

import base64
import logging
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from .refusal import TokenRefusedError, VerifierUnavailableError

log = logging.getLogger("leasehold")

#: After this the keys are fetched again. A key is published an hour before it signs.
FRESH_SECONDS = 300.0
#: While the broker is away its keys count so long; then nothing verifies any more.
STALE_SECONDS = 900.0
#: However many unknown keys are named, the broker is not asked more often than that.
BETWEEN_FETCHES_SECONDS = 10.0
#: After a failure it is not asked again sooner.
AFTER_FAILURE_SECONDS = 1.0
_MOST_KEYS = 64
#: 32 bytes in base64url.
_COORDINATE = re.compile(r"[A-Za-z0-9_-]{43}")
_X509 = "x509-svid"

Keys = Mapping[str, ec.EllipticCurvePublicKey]


class KeyCache:
    """Keys by their `kid`. Safe to share between threads."""

    def __init__(self, fetch: Callable[[], Any], clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._fetching = threading.Lock()
        self._keys: Keys = {}
        self._fetched_at: float | None = None
        self._failed_at: float | None = None

    def get(self, kid: str) -> ec.EllipticCurvePublicKey:
        """The key. Asks the broker if the keys are old, or this one is not among them."""
        if not self.is_ready(kid):
            if self._age() < STALE_SECONDS and kid in self._keys:
                # One asks; the others go on with what is there.
                if self._fetching.acquire(blocking=False):
                    try:
                        self._refresh()
                    finally:
                        self._fetching.release()
            else:
                with self._fetching:
                    if not self.is_ready(kid):
                        self._refresh()
        if self._age() >= STALE_SECONDS:
            raise VerifierUnavailableError("the broker's keys cannot be had")
        key = self._keys.get(kid)
        if key is None:
            raise TokenRefusedError("the token is signed by no key of the broker")
        return key

    def is_ready(self, kid: str) -> bool:
        """Whether `get` answers without asking the broker."""
        now, age = self._clock(), self._age()
        if self._failed_at is not None and now - self._failed_at < AFTER_FAILURE_SECONDS:
            return True
        return age < (FRESH_SECONDS if kid in self._keys else BETWEEN_FETCHES_SECONDS)

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock() - self._fetched_at

    def _refresh(self) -> None:
        """Asks the broker. Whoever calls holds `_fetching`."""
        asked_at = self._clock()
        try:
            self._keys = parse_keys(self._fetch())
        except VerifierUnavailableError as error:
            self._failed_at = self._clock()
            log.warning("the broker's keys cannot be fetched: %s", error)
            if self._age() >= STALE_SECONDS:
                raise
        else:
            self._fetched_at, self._failed_at = asked_at, None


def parse_keys(document: Any) -> Keys:
    """The keys of a JWK set (RFC 7517). One that is not as the broker writes them spoils it: somebody else wrote it."""
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not 0 < len(entries) <= _MOST_KEYS:
        raise VerifierUnavailableError("the broker's JWK set is of no known form")
    keys: dict[str, ec.EllipticCurvePublicKey] = {}
    for entry in entries:
        kid, key = _parse(entry)
        if kid in keys:
            raise VerifierUnavailableError("the broker's JWK set has two keys of one `kid`")
        keys[kid] = key
    return keys


def roots_of(bundle: Any) -> str:
    """The X.509 roots of a SPIFFE bundle (SPIFFE Trust Domain and Bundle section 4.2), in PEM."""
    entries = bundle.get("keys") if isinstance(bundle, dict) else None
    known = [e for e in entries or [] if isinstance(e, dict) and e.get("use") == _X509]
    try:
        ders = [base64.b64decode(entry["x5c"][0], validate=True) for entry in known]
    except (KeyError, TypeError, IndexError, ValueError):
        ders = []
    if not ders:
        raise VerifierUnavailableError("the broker's SPIFFE bundle has no root of a known form")
    return "".join(ssl.DER_cert_to_PEM_cert(der) for der in ders)


def _parse(entry: Any) -> tuple[str, ec.EllipticCurvePublicKey]:
    form = {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256"}
    if (
        not isinstance(entry, dict)
        or any(entry.get(name) != value for name, value in form.items())
        or "d" in entry
        or not isinstance(entry.get("kid"), str)
    ):
        raise VerifierUnavailableError("the broker's JWK set has a key of no known form")
    try:
        point = ec.EllipticCurvePublicNumbers(
            _coordinate(entry.get("x")), _coordinate(entry.get("y")), ec.SECP256R1()
        )
        return entry["kid"], point.public_key()
    except ValueError:
        raise VerifierUnavailableError("the broker's JWK set has a key off its curve") from None


def _coordinate(text: Any) -> int:
    if not isinstance(text, str) or not _COORDINATE.fullmatch(text):
        raise ValueError("no 32 bytes in base64url")
    return int.from_bytes(base64.urlsafe_b64decode(text + "="), "big")
