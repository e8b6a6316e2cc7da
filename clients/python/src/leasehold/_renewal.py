"""What is known of a credential that is kept alive, and what to do next: no clock, no connection.

issue ──▶ living ──renew──▶ living …      the lease is over: issue; the task is over: gone
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from . import _rpc
from ._rpc import Call, request_id_of
from ._times import Length, duration, instant
from ._tls import FreshKey
from .dpop import DpopKey, Prover
from .errors import LeaseholdError, request_error
from .grant import Grant, to_json
from .identity import Identity, KeyPair, X509Identity
from .schedule import renew_in, retry_in
from .v1 import credential_service_pb2 as wire

#: What a token is bound to: the certificate that the client calls with, a key that is made for it and certified, a key
#: that signs a DPoP proof for every request, or nothing.
Proof: TypeAlias = Literal["certificate", "key", "dpop", "bearer"]
Kind: TypeAlias = Literal["token", "certificate"]

#: What is issued is dead, and nothing will be issued any more.
_GONE = frozenset({"TASK_ENDED", "NOT_FOUND", "EPOCH_STALE", "CLOSED"})
#: What is issued lives to its end, and nothing will be issued after it.
_LAST = frozenset({"CEILING_REACHED", "INSTANCE_MISMATCH"})
#: What is issued is dead; more may be issued later.
_PAUSED = frozenset({"TASK_SUSPENDED", "QUARANTINED"})
#: Said of a renewal: the lease is dead, and another one may be had at once.
_ANOTHER = frozenset({"LEASE_REVOKED", "NOT_FOUND"})
#: Said of a release: there is nothing left to give back.
LEASE_IS_OVER = frozenset({"LEASE_REVOKED", "TASK_ENDED", "NOT_FOUND"})
#: However often servers refuse what was issued, the broker is not asked for another one sooner than this.
_BETWEEN_REPLACEMENTS = 0.1
#: Limits that asking earlier does not lift.
_FINAL_CLAMPS = frozenset({wire.TTL_CLAMP_TASK_DEADLINE, wire.TTL_CLAMP_LEASE_CEILING})
#: Counted from a time in whole seconds, a life may be a second shorter than it looks.
_ROUNDING = 1.0


@dataclass(frozen=True)
class Terms:
    """What is asked for."""

    task_id: str
    kind: Kind
    audience: str
    grant: Grant | None
    ttl: Length | None
    expected_epoch: int | None
    proof: Proof
    #: Of tokens that are bound by DPoP.
    prover: Prover | None = None


@dataclass(frozen=True, repr=False, eq=False)
class IssuedCredential:
    """A credential as it was issued. It is in no `repr`."""

    #: The compact JWS, or empty for a certificate.
    token: str
    #: The certificate that proves the holder, with its key: show it on the connection that the token goes over.
    #: None for a bearer token, and one that is bound by DPoP.
    key_pair: KeyPair | None
    audience: str
    lease_id: str
    epoch: int
    #: SPIFFE ID of a certificate that was minted; else empty.
    spiffe_id: str
    #: When it ends, by the broker's clock.
    expires_at: datetime
    #: The orchestrator's label for where in the task the agent is.
    step: str
    #: What the orchestrator left for the agent to continue from.
    checkpoint: bytes
    asked_at: float
    life: float
    extensible: bool
    prover: Prover | None = None

    def headers(
        self, method: str | None = None, url: str | None = None, *, nonce: str | None = None
    ) -> dict[str, str]:
        """The headers by which a request shows it; none of a certificate.

        Bound by DPoP, it goes with a proof for this very request, so they are for one `method` and `url`, once.
        `nonce`: what that server sent in `DPoP-Nonce`, for this proof and those to come.
        """
        if self.prover is None:
            return {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if method is None or url is None:
            problem = (
                "say the `method` and the `url` of the request: the token goes with a proof for it"
            )
            raise request_error("method", problem)
        if nonce is not None:
            self.prover.learn(url, nonce)
        return self.prover.headers(method, url, self.token)

    def __repr__(self) -> str:
        return (
            f"IssuedCredential(audience={self.audience!r}, lease_id={self.lease_id!r}, "
            f"expires_at={self.expires_at.isoformat()!r}, token=[hidden])"
        )


@dataclass(frozen=True)
class Attempt:
    """One try to get a credential."""

    call: Call[Any, Any]
    key: FreshKey | None
    is_renewal: bool


@dataclass
class Renewal:
    """A credential that is kept alive."""

    terms: Terms
    random: Callable[[], float]
    latest: IssuedCredential | None = None
    #: Why there will be no further one.
    end: LeaseholdError | None = None
    #: Why the last try failed.
    failure: LeaseholdError | None = None
    due_at: float = 0.0
    _replaced_at: float | None = field(default=None, repr=False)
    #: How many tries in a row have failed.
    failures: int = 0
    _lease_id: str | None = field(default=None, repr=False)
    _is_dead: bool = field(default=True, repr=False)

    def usable(self, now: float) -> IssuedCredential | None:
        """The latest one, if it lives. Raises if there will be no further one."""
        latest = self.latest
        if latest is not None and not self._is_dead and now < latest.asked_at + latest.life:
            return latest
        if self.end is not None:
            raise copy(self.end)
        return None

    def attempt(self) -> Attempt:
        """What to send next: a renewal where there is a lease, else a request for one."""
        terms, lease = self.terms, self._lease_id
        key = FreshKey() if terms.kind == "certificate" or terms.proof == "key" else None
        csr = key.request() if key is not None else b""
        if lease is None:
            issue = Call(_rpc.ISSUE, _issue(terms, csr), lambda answer: answer, terms.prover)
            return Attempt(issue, key, False)
        request = wire.RenewCredentialRequest(
            request_id=request_id_of(None),
            lease_id=lease,
            ttl=duration("ttl", terms.ttl),
            csr_der=csr,
        )
        return Attempt(Call(_rpc.RENEW, request, lambda answer: answer, terms.prover), key, True)

    def took(
        self, attempt: Attempt, answer: Any, pair: KeyPair | None, asked_at: float
    ) -> IssuedCredential:
        """A try succeeded. `pair` is the certificate that it was made with."""
        issued = self._issued(attempt, answer, pair, asked_at)
        if self.end is not None:
            # It was closed meanwhile; the lease is remembered for whoever gives it back.
            self._lease_id = issued.lease_id
            raise copy(self.end)
        self.latest, self._lease_id, self._is_dead = issued, issued.lease_id, False
        self.failure, self.failures = None, 0
        wait = renew_in(issued.life, extensible=issued.extensible, random=self.random())
        self.due_at = asked_at + wait
        return issued

    def failed(self, attempt: Attempt, error: LeaseholdError, now: float) -> bool:
        """A try failed. Whether another one is to follow at once."""
        self.failure = error
        if attempt.is_renewal and error.reason in _ANOTHER:
            self._lease_id, self._is_dead = None, True
            return True
        if error.reason in _GONE | _LAST:
            self.end = error
        if error.reason in _GONE | _PAUSED:
            self._is_dead = True
        self.failures += 1
        asked = 0.0 if error.retry_after is None else error.retry_after.total_seconds()
        self.due_at = now + retry_in(self.failures, random=self.random(), asked=asked)
        return False

    def replace_in(self, now: float) -> float:
        """How many seconds to wait before asking for another one because a server has refused the latest."""
        earliest = now if self._replaced_at is None else self._replaced_at + _BETWEEN_REPLACEMENTS
        self._replaced_at = max(now, earliest)
        return self._replaced_at - now

    def stop(self, why: LeaseholdError) -> None:
        """There is to be no further one, and the latest is not to be used."""
        self.end, self._is_dead = self.end or why, True

    def give_up_lease(self) -> str | None:
        """The lease that lives as far as we know; whoever takes it releases it."""
        lease, self._lease_id = self._lease_id, None
        return lease

    def _issued(
        self, attempt: Attempt, answer: Any, pair: KeyPair | None, asked_at: float
    ) -> IssuedCredential:
        credential, lease, before = answer.credential, answer.lease, self.latest
        prover = self.terms.prover
        if prover is not None and lease.jkt != prover.key.thumbprint:
            raise LeaseholdError("the broker bound the token to another key", reason="INTERNAL")
        if attempt.key is not None:
            pair = attempt.key.pair(credential.certificate_chain_der)
        expires, issued = instant(answer.expire_time), instant(lease.issue_time)
        carried = before if attempt.is_renewal and before is not None else answer
        return IssuedCredential(
            token=credential.access_token,
            key_pair=pair if self.terms.proof in ("certificate", "key") else None,
            audience=lease.audience,
            lease_id=lease.lease_id,
            epoch=lease.epoch,
            spiffe_id=credential.spiffe_id,
            expires_at=expires,
            step=carried.step,
            checkpoint=carried.checkpoint,
            asked_at=asked_at,
            life=(expires - issued).total_seconds() - _ROUNDING,
            extensible=answer.ttl_clamp not in _FINAL_CLAMPS,
            prover=prover,
        )


def token_terms(
    task_id: str,
    audience: str,
    grant: Grant | None,
    ttl: Length | None,
    expected_epoch: int | None,
    *,
    proof: Proof | DpopKey | None,
    identity: Identity,
) -> Terms:
    """Those of a token. What it is bound to by default: the certificate that we call with, else a key of our own."""
    if proof is None:
        proof = "certificate" if isinstance(identity, X509Identity) else "key"
    prover = None
    if isinstance(proof, DpopKey) or proof == "dpop":
        prover = Prover(DpopKey() if proof == "dpop" else proof)
        proof = "dpop"
    return Terms(task_id, "token", audience, grant, ttl, expected_epoch, proof, prover)


def release_call(lease_id: str) -> Call[Any, None]:
    """Gives a lease back."""
    request = wire.ReleaseCredentialRequest(request_id=request_id_of(None), lease_id=lease_id)
    return Call(_rpc.RELEASE, request, lambda _: None)


def _issue(terms: Terms, csr: bytes) -> wire.IssueCredentialRequest:
    request = wire.IssueCredentialRequest(
        request_id=request_id_of(None),
        task_id=terms.task_id,
        expected_epoch=terms.expected_epoch or 0,
        audience=terms.audience,
        authorization_details="" if terms.grant is None else to_json(terms.grant),
        ttl=duration("ttl", terms.ttl),
    )
    if terms.kind == "certificate":
        request.x509_svid.csr_der = csr
    elif terms.proof == "key":
        request.access_token.csr_der = csr
    elif terms.proof == "dpop":
        request.access_token.dpop = True
    elif terms.proof == "bearer":
        request.access_token.bearer = True
    else:
        request.access_token.SetInParent()
    return request
