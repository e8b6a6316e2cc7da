"""An access token (`at+jwt`, RFC 9068), and every rule that can be checked without asking anybody."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from ._encoding import json_of
from ._extra import needs
from ._proof import ALGORITHMS, DpopProofs, ProofChecker
from .grant import Access, parse_grant
from .identity import thumbprint
from .refusal import TokenRefusedError

needs("jwt", "verifier")

import jwt  # noqa: E402

_MOST_BYTES = 16 * 1024
_MOST_KID_BYTES = 128
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_REQUIRED = [
    *("iss", "sub", "client_id", "aud", "iat", "nbf", "exp", "jti", "txn"),
    *("authorization_details", "leasehold"),
]
#: What `cnf` may say: the thumbprint of a certificate (RFC 8705), or of a key that signs proofs (RFC 9449).
_CERTIFICATE, _KEY = "x5t#S256", "jkt"
_VERSION = 1
#: The clock of a broker may be so far ahead of ours, as its `nbf` allows: that lies as long before `iat`.
_IAT_LEEWAY_SECONDS = 5


@dataclass(frozen=True)
class VerifiedToken:
    """A token that is good for what was asked."""

    #: Who presents it: the task's agent.
    agent: str
    #: For whom, in the end: the root task's agent.
    subject: str
    task_id: str
    root_task_id: str
    lease_id: str
    audience: str
    expires_at: datetime
    grant: tuple[Access, ...]
    #: All that it says.
    claims: Mapping[str, Any]

    def allows(self, action: str, data_class: str | None = None) -> bool:
        """Whether it allows an action here, on a class of data if one is named."""
        return any(access.allows(self.audience, action, data_class) for access in self.grant)

    def must_allow(self, action: str, data_class: str | None = None) -> VerifiedToken:
        """The same token, if it does. Raises `TokenRefusedError` with the answer to give."""
        if not self.allows(action, data_class):
            raise TokenRefusedError(f"the token does not allow `{action}` here", 403)
        return self


def kid_of(token: str) -> str:
    """Which key is said to have signed it. `TokenRefusedError` if it is not of the published form."""
    if not token:
        raise TokenRefusedError("there is no token")
    if len(token) > _MOST_BYTES or not _COMPACT.fullmatch(token):
        raise TokenRefusedError("the token is no compact JWS")
    try:
        header = json_of(token.partition(".")[0])
    except ValueError:
        raise TokenRefusedError("the token's header is no JSON") from None
    # Exactly these: what is not known here may be what says that the token is not for us (RFC 8725 section 3.10).
    if not isinstance(header, dict) or set(header) != {"alg", "typ", "kid"}:
        raise TokenRefusedError("the token's header is not that of an access token")
    if header["alg"] != "ES256" or header["typ"] != "at+jwt":
        raise TokenRefusedError("the token is no access token, or of another algorithm")
    kid = header["kid"]
    if not isinstance(kid, str) or len(kid) > _MOST_KID_BYTES:
        raise TokenRefusedError("the token's `kid` is of no known form")
    return kid


def read(token: str, key: ec.EllipticCurvePublicKey, issuer: str, audience: str) -> VerifiedToken:
    """What it says, if it is signed by the key, and is by this issuer, for this audience, and now. Not after `exp`."""
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=["ES256"],
            issuer=issuer,
            audience=audience,
            leeway=0,
            # PyJWT's own check of `iat` refuses what was issued by a clock that is a moment ahead.
            options={"require": _REQUIRED, "strict_aud": True, "verify_iat": False},
        )
        issued = claims["iat"]
        if type(issued) is not int or issued > time.time() + _IAT_LEEWAY_SECONDS:
            raise jwt.ImmatureSignatureError("it is not valid yet (iat)")
    except jwt.InvalidTokenError as fault:
        raise TokenRefusedError(f"the token does not verify: {fault}") from None
    try:
        return verified(claims)
    except (ValueError, TypeError, KeyError, IndexError):
        raise TokenRefusedError("the token's claims are of no known form") from None


def check_key(
    token: str,
    claims: Mapping[str, Any],
    certificate: bytes | None,
    dpop: DpopProofs | None,
    *,
    accept_bearer: bool,
    proofs: ProofChecker,
) -> None:
    """That whoever shows the token has the key that it is bound to.

    By the certificate of the connection (RFC 8705 section 3), or a proof that came along (RFC 9449 section 7).
    """
    bound = claims.get("cnf", {})
    # Ignored, a confirmation of another kind would make it a bearer token.
    if not isinstance(bound, dict) or ("cnf" in claims and len(bound) != 1):
        raise TokenRefusedError("the token is bound in a way that is not known here")
    key = bound.get(_KEY)
    if dpop is not None and not isinstance(key, str):
        raise TokenRefusedError(
            "the token came with the scheme `DPoP`, and is bound to no such key"
        )
    if isinstance(key, str):
        if dpop is None:
            why = "the token is bound to a key that signs DPoP proofs: it takes that scheme, and a proof"
            raise TokenRefusedError(why, dpop_algorithms=ALGORITHMS)
        proofs.check(dpop, token, key)
    elif "cnf" in claims:
        _check_certificate(bound.get(_CERTIFICATE), certificate)
    elif not accept_bearer:
        raise TokenRefusedError("the token is bound to no key")


def _check_certificate(bound: Any, certificate: bytes | None) -> None:
    if not isinstance(bound, str):
        raise TokenRefusedError("the token is bound in a way that is not known here")
    if certificate is None:
        raise TokenRefusedError(
            "the token is bound to a certificate, and the connection shows none"
        )
    if not hmac.compare_digest(thumbprint(certificate).encode(), bound.encode()):
        raise TokenRefusedError("the token is bound to another certificate than is shown")


def verified(claims: Mapping[str, Any]) -> VerifiedToken:
    """What the claims of a token say. `ValueError` and the like if they are of no known form."""
    execution = claims["leasehold"]
    if execution["v"] != _VERSION:
        raise TokenRefusedError("the token is of a newer version; upgrade this package")
    hop = execution["path"][-1]
    names = [claims["client_id"], claims["sub"], hop[0], claims["txn"], execution["lease"]]
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError("a name is no text")
    agent, subject, task_id, root_task_id, lease_id = names
    return VerifiedToken(
        agent=agent,
        subject=subject,
        task_id=task_id,
        root_task_id=root_task_id,
        lease_id=lease_id,
        audience=claims["aud"],
        expires_at=datetime.fromtimestamp(claims["exp"], timezone.utc),
        grant=parse_grant(claims["authorization_details"]),
        claims=claims,
    )
