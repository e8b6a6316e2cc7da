"""For whatever accepts credentials: is this token good for this request?

                                          verify    verify_active
signature, issuer, audience, time            x            x
the connection proves the token's key        x            x
the grant allows the action                  x            x
the task lives, nothing was revoked       not seen   when asked
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from . import _clock, _token
from ._closing import AsyncClosing, Closing
from ._http import BrokerHttp
from ._keys import KeyCache, roots_of
from ._proof import DpopProofs, Presented, ProofChecker, presented
from ._token import VerifiedToken
from .identity import Identity
from .refusal import TokenRefusedError, VerifierUnavailableError

__all__ = [
    "AsyncVerifier",
    "DpopProofs",
    "Presented",
    "TokenRefusedError",
    "VerifiedToken",
    "Verifier",
    "VerifierUnavailableError",
    "presented",
]

_MOST_REMEMBERED = 10_000


class Verifier(Closing):
    """Verifies the access tokens of one broker, for one audience. Safe to share between threads."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        *,
        ca: str | os.PathLike[str] | None = None,
        identity: Identity | None = None,
        accept_bearer: bool = False,
        introspection_cache_seconds: float = 0.0,
        dpop_nonce_secret: bytes | None = None,
    ) -> None:
        """`issuer`: the broker's `base_url`, compared byte for byte; its keys lie below. `audience`: our own name.

        `ca`: the PEM of the CA that issued the broker's certificate; default: the machine's roots. `identity`: who we
        are, for introspection; it needs the role `verifier` for the audience. `accept_bearer`: also tokens that are
        bound to no key. `introspection_cache_seconds`: for how long a yes is believed without asking again. What ends
        meanwhile is not seen, so it is 0 unless you say otherwise; a no is always asked again. `dpop_nonce_secret`: 32
        random bytes that all servers of one name share. With it DPoP proofs must have a nonce, which a refusal brings.
        """
        self.issuer = issuer
        self.audience = audience
        self._accept_bearer = accept_bearer
        self._can_ask = identity is not None
        self._http = BrokerHttp(issuer, ca, identity)
        self._keys = KeyCache(lambda: self._http.get("/oauth2/jwks"), _clock.now)
        self._remembered = _Remembered(introspection_cache_seconds)
        self._proofs = ProofChecker(dpop_nonce_secret)

    def verify(
        self,
        token: str,
        *,
        certificate: bytes | None,
        action: str,
        data_class: str | None = None,
        dpop: DpopProofs | None = None,
    ) -> VerifiedToken:
        """That a token is good for an action, as far as the token and the broker's published keys tell.

        `certificate`: the DER of the client certificate of the connection, as `SSLSocket.getpeercert(binary_form=True)`
        has it. `dpop`: what came with a token of the scheme `DPoP`; `presented` has it. A proof is good once to one
        `Verifier`. It does **not** see whether the task still runs: what has ended or was revoked passes until the
        token expires. `verify_active` does. Raises `TokenRefusedError` with the answer to give, or
        `VerifierUnavailableError`.
        """
        verified = _token.read(
            token, self._keys.get(_token.kid_of(token)), self.issuer, self.audience
        )
        _token.check_key(
            token,
            verified.claims,
            certificate,
            dpop,
            accept_bearer=self._accept_bearer,
            proofs=self._proofs,
        )
        return verified.must_allow(action, data_class)

    def verify_active(
        self,
        token: str,
        *,
        certificate: bytes | None,
        action: str,
        data_class: str | None = None,
        dpop: DpopProofs | None = None,
    ) -> VerifiedToken:
        """The same, and that the broker says it is active now: its task lives, and nothing was revoked.

        True at that moment; what ends while the request is served is not seen. If the broker cannot be asked, that is
        `VerifierUnavailableError`, never a yes.
        """
        verified = self.verify(
            token, certificate=certificate, action=action, data_class=data_class, dpop=dpop
        )
        if not self._remembered.has(token):
            self._must_be_active(token, verified)
        return verified

    def introspect(self, token: str) -> Mapping[str, Any] | None:
        """Asks the broker about a token (RFC 7662): its claims if it is active, None if not, whatever the reason.

        It says nothing of who presents the token, or for what: that is up to `verify_active`.
        """
        if not self._can_ask:
            raise VerifierUnavailableError(
                "introspection needs `identity`: the broker tells verifiers only"
            )
        answer = self._http.post("/oauth2/introspect", {"token": token})
        answer = answer if isinstance(answer, dict) else {}
        active = answer.get("active")
        if active is True:
            return answer
        if active is False:
            return None
        raise VerifierUnavailableError("the broker answered introspection with something else")

    def task_roots(self) -> str:
        """The roots of the certificates that the broker signs for tasks, in PEM, as it publishes them now.

        A server whose callers show such certificates trusts these for its clients: tokens with `proof="key"` are bound
        to them.
        """
        return roots_of(self._http.get("/spiffe/bundle.json"))

    def close(self) -> None:
        """Closes the connections to the broker."""
        self._http.close()

    def _must_be_active(self, token: str, verified: VerifiedToken) -> None:
        asked_at = _clock.now()
        answer = self.introspect(token)
        if answer is None or answer.get("jti") != verified.claims["jti"]:
            raise TokenRefusedError("the token is not active")
        self._remembered.add(token, asked_at)


class AsyncVerifier(AsyncClosing):
    """As `Verifier`, with `await`. What waits for the broker waits in a thread."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        *,
        ca: str | os.PathLike[str] | None = None,
        identity: Identity | None = None,
        accept_bearer: bool = False,
        introspection_cache_seconds: float = 0.0,
        dpop_nonce_secret: bytes | None = None,
    ) -> None:
        """As that of `Verifier`."""
        self._verifier = Verifier(
            issuer,
            audience,
            ca=ca,
            identity=identity,
            accept_bearer=accept_bearer,
            introspection_cache_seconds=introspection_cache_seconds,
            dpop_nonce_secret=dpop_nonce_secret,
        )
        self._fetching = asyncio.Lock()

    async def verify(
        self,
        token: str,
        *,
        certificate: bytes | None,
        action: str,
        data_class: str | None = None,
        dpop: DpopProofs | None = None,
    ) -> VerifiedToken:
        """As `Verifier.verify`."""
        verifier = self._verifier
        keys, kid = verifier._keys, _token.kid_of(token)  # noqa: SLF001
        if not keys.is_ready(kid):
            async with self._fetching:
                if not keys.is_ready(kid):
                    await asyncio.to_thread(keys.get, kid)
        return verifier.verify(
            token, certificate=certificate, action=action, data_class=data_class, dpop=dpop
        )

    async def verify_active(
        self,
        token: str,
        *,
        certificate: bytes | None,
        action: str,
        data_class: str | None = None,
        dpop: DpopProofs | None = None,
    ) -> VerifiedToken:
        """As `Verifier.verify_active`."""
        verifier = self._verifier
        verified = await self.verify(
            token, certificate=certificate, action=action, data_class=data_class, dpop=dpop
        )
        if not verifier._remembered.has(token):  # noqa: SLF001
            await asyncio.to_thread(verifier._must_be_active, token, verified)  # noqa: SLF001
        return verified

    async def introspect(self, token: str) -> Mapping[str, Any] | None:
        """As `Verifier.introspect`."""
        return await asyncio.to_thread(self._verifier.introspect, token)

    async def task_roots(self) -> str:
        """As `Verifier.task_roots`."""
        return await asyncio.to_thread(self._verifier.task_roots)

    def close(self) -> None:
        """Closes the connections to the broker."""
        self._verifier.close()


class _Remembered:
    """Which tokens were active when the broker was asked. Their hashes, not they, and not many."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._asked_at: OrderedDict[bytes, float] = OrderedDict()

    def has(self, token: str) -> bool:
        if self._seconds <= 0:
            return False
        with self._lock:
            asked_at = self._asked_at.get(_hash(token))
        return asked_at is not None and _clock.now() - asked_at < self._seconds

    def add(self, token: str, asked_at: float) -> None:
        if self._seconds <= 0:
            return
        with self._lock:
            self._asked_at[_hash(token)] = asked_at
            while len(self._asked_at) > _MOST_REMEMBERED:
                self._asked_at.popitem(last=False)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
