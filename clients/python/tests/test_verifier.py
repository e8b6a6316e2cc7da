"""A resource server takes the tokens that are for it, now, from whom they were issued to, and no other."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from issuer import Clock, Issuer, Key, der_of, encoded, refused
from playground import AUDIENCE, LEDGER, SUMMARIZER, Playground

import leasehold
from leasehold import _keys
from leasehold.verifier import (
    AsyncVerifier,
    TokenRefusedError,
    Verifier,
    VerifierUnavailableError,
)


def der_of_pair(pair: leasehold.KeyPair | None) -> bytes:
    assert pair is not None
    certificate = x509.load_pem_x509_certificate(pair.certificate_pem)
    return certificate.public_bytes(serialization.Encoding.DER)


def test_a_token_of_the_broker_is_good_until_its_task_ends(
    broker: Verifier, agent: leasehold.Client, task: leasehold.Task
) -> None:
    with agent.credential(task.id, AUDIENCE) as credential:
        issued = credential.current()
        certificate = der_of_pair(issued.key_pair)
        told = broker.verify_active(issued.token, certificate=certificate, action="annotate")
        assert (told.agent, told.subject) == (SUMMARIZER, SUMMARIZER)
        assert (told.task_id, told.root_task_id, told.lease_id) == (
            *(task.id, task.id),
            issued.lease_id,
        )
        assert told.expires_at == issued.expires_at
        assert told.allows("read")
        assert not told.allows("delete")
        task.complete()
        with pytest.raises(TokenRefusedError, match="not active") as caught:
            broker.verify_active(issued.token, certificate=certificate, action="read")
        assert caught.value.status == 401
        # And this is what a server sees that does not ask.
        assert broker.verify(issued.token, certificate=certificate, action="read") == told


def test_a_delegated_token_names_who_acts_and_for_whom(
    playground: Playground, broker: Verifier, agent: leasehold.Client, task: leasehold.Task
) -> None:
    child = agent.get(task.id).delegate(
        agent="spiffe://dev.example/agents/researcher/1", grant={AUDIENCE: ["read"]}
    )
    with (
        playground.client("researcher") as researcher,
        researcher.credential(child.id, AUDIENCE) as credential,
    ):
        issued = credential.current()
        told = broker.verify_active(
            issued.token, certificate=der_of_pair(issued.key_pair), action="read"
        )
    assert (told.agent, told.subject) == ("spiffe://dev.example/agents/researcher/1", SUMMARIZER)
    assert (told.task_id, told.root_task_id) == (child.id, task.id)


def test_a_token_for_another_audience_is_refused(
    playground: Playground, agent: leasehold.Client, task: leasehold.Task
) -> None:
    with agent.credential(task.id, AUDIENCE) as credential:
        issued = credential.current()
    with (
        Verifier(playground.issuer, LEDGER, ca=playground.ca) as ledger,
        pytest.raises(TokenRefusedError, match=r"[Aa]udience"),
    ):
        ledger.verify(issued.token, certificate=der_of_pair(issued.key_pair), action="read")


def test_what_the_grant_does_not_allow_is_forbidden(verifier: Verifier, issuer: Issuer) -> None:
    error = refused(verifier, issuer, issuer.token(), "does not allow `write`", action="write")
    assert (error.status, error.error) == (403, "insufficient_scope")
    assert error.www_authenticate == (
        'Bearer error="insufficient_scope", '
        'error_description="the token does not allow `write` here"'
    )
    elsewhere = {"type": "resource_access", "audience": LEDGER, "actions": ["write"]}
    token = issuer.token(authorization_details=[elsewhere])
    refused(verifier, issuer, token, "does not allow `write`", action="write")


def test_a_class_of_data_is_allowed_where_it_is_named(verifier: Verifier, issuer: Issuer) -> None:
    entry = {"type": "resource_access", "audience": AUDIENCE, "actions": ["read"]}
    token = issuer.token(authorization_details=[{**entry, "data_class": ["public"]}])
    shown: dict[str, Any] = {"certificate": issuer.client_der, "action": "read"}
    verifier.verify(token, data_class="public", **shown)
    with pytest.raises(TokenRefusedError):
        verifier.verify(token, data_class="secret", **shown)


def test_claims_that_are_not_as_they_must_be_are_refused(
    verifier: Verifier, issuer: Issuer
) -> None:
    now = int(time.time())
    entry = {"type": "resource_access", "audience": AUDIENCE, "actions": ["read"]}
    execution = issuer.claims()["leasehold"]
    cases: list[dict[str, Any]] = [
        {"iss": f"{issuer.url}/"},
        {"iss": None},
        {"aud": LEDGER},
        {"aud": [AUDIENCE]},
        {"aud": [AUDIENCE, LEDGER]},
        {"aud": None},
        {"exp": now},
        {"exp": now - 1},
        {"exp": None},
        {"exp": "tomorrow"},
        {"nbf": now + 5},
        {"nbf": None},
        {"iat": now + 60},
        {"iat": None},
        {"iat": True},
        {"iat": str(now)},
        {"jti": None},
        {"sub": None},
        {"sub": 7},
        {"client_id": None},
        {"client_id": ""},
        {"txn": None},
        {"cnf": {"jkt": "x"}},
        {"cnf": {**issuer.claims()["cnf"], "jkt": "x"}},
        {"cnf": []},
        {"cnf": {"x5t#S256": 7}},
        {"authorization_details": None},
        {"authorization_details": {}},
        {"authorization_details": [{**entry, "type": "payment"}]},
        {"authorization_details": [entry, {**entry, "until": "noon"}]},
        {"authorization_details": [{**entry, "actions": "read"}]},
        {"leasehold": None},
        {"leasehold": {**execution, "v": 2}},
        {"leasehold": {**execution, "path": []}},
        {"leasehold": {**execution, "lease": None}},
    ]
    for changes in cases:
        refused(verifier, issuer, issuer.token(**changes), "the token")
    verifier.verify(issuer.token(), certificate=issuer.client_der, action="read")


def test_a_token_of_a_broker_whose_clock_is_a_moment_ahead_is_taken(
    verifier: Verifier, issuer: Issuer
) -> None:
    ahead = int(time.time()) + 3
    token = issuer.token(iat=ahead, nbf=ahead - 5, exp=ahead + 300)
    verifier.verify(token, certificate=issuer.client_der, action="read")
    far = int(time.time()) + 60
    refused(verifier, issuer, issuer.token(iat=far, nbf=far - 65, exp=far + 300), "not valid yet")


def test_headers_that_are_not_those_of_an_access_token_are_refused(
    verifier: Verifier, issuer: Issuer
) -> None:
    headers: list[dict[str, Any]] = [
        {"typ": "JWT"},
        {"typ": "AT+JWT"},
        {"typ": None},
        {"kid": 7},
        {"kid": "x" * 200},
        {"jku": issuer.url},
        {"jwk": issuer.key.jwk()},
        {"x5c": []},
        {"crit": ["exp"]},
        {"b64": False},
        {"zip": "DEF"},
    ]
    for header in headers:
        kid = header.get("kid", issuer.key.kid)
        head = {"alg": "ES256", "typ": "at+jwt", "kid": kid, **header}
        parts = [encoded(json.dumps(part).encode()) for part in (head, issuer.claims())]
        signature = jwt.get_algorithm_by_name("ES256").sign(
            ".".join(parts).encode(), issuer.key.private
        )
        why = "header|no access token|`kid`"
        refused(verifier, issuer, ".".join([*parts, encoded(signature)]), why)


def test_another_algorithm_or_key_is_refused(verifier: Verifier, issuer: Issuer) -> None:
    claims, header = issuer.claims(), {"typ": "at+jwt", "kid": issuer.key.kid}
    public = issuer.key.private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for token in (  # before any key is looked for
        jwt.encode(claims, "", "none", header),
        jwt.encode(claims, hashlib.sha256(public).digest(), "HS256", header),
        jwt.encode(claims, rsa_key, "RS256", header),
        jwt.encode(claims, ec.generate_private_key(ec.SECP384R1()), "ES384", header),
    ):
        refused(verifier, issuer, token, "another algorithm|no compact JWS")
    for token in (
        issuer.token(key=Key().private),
        issuer.token(header={"kid": "unknown"}),
    ):
        refused(verifier, issuer, token, "the token")


def test_what_is_no_compact_jws_is_refused(verifier: Verifier, issuer: Issuer) -> None:
    good = issuer.token()
    head, body, signature = good.split(".")
    twice = encoded(b'{"alg":"ES256","typ":"at+jwt","kid":"key-2","kid":"key-1"}')
    signed_twice = jwt.get_algorithm_by_name("ES256").sign(
        f"{twice}.{body}".encode(), issuer.key.private
    )
    for token in (
        "",
        "x",
        f"{head}.{body}",
        f"{good}.{signature}",
        f"{good}=",
        f" {good}",
        f"{good}\n",
        f"{head}.{body}.",
        f"{encoded(b'no json')}.{body}.{signature}",
        f"{encoded(b'[]')}.{body}.{signature}",
        f"{twice}.{body}.{encoded(signed_twice)}",
        issuer.token(padding="x" * 16_000),
        "a." * 20_000,
        f"{head}.{body[:-2]}AA.{signature}",
    ):
        with pytest.raises(TokenRefusedError):
            verifier.verify(token, certificate=issuer.client_der, action="read")
    assert issuer.asked == ["/oauth2/jwks"], "what has no form needs no key"


def test_a_stolen_token_is_of_no_use(
    playground: Playground, verifier: Verifier, issuer: Issuer
) -> None:
    other = der_of(playground.authority.svid(SUMMARIZER))
    for certificate in (other, b"", None):
        with pytest.raises(TokenRefusedError, match="bound to") as caught:
            verifier.verify(issuer.token(), certificate=certificate, action="read")
        assert caught.value.status == 401


def test_a_bearer_token_is_taken_only_where_that_was_said(
    playground: Playground, verifier: Verifier, issuer: Issuer
) -> None:
    token, header = issuer.token(cnf=None), {"typ": "at+jwt", "kid": issuer.key.kid}
    refused(verifier, issuer, token, "bound to no key")
    with Verifier(issuer.url, AUDIENCE, ca=playground.ca, accept_bearer=True) as lax:
        lax.verify(token, certificate=None, action="read")
        null = jwt.encode({**issuer.claims(), "cnf": None}, issuer.key.private, "ES256", header)
        for bound in (issuer.token(cnf={"jkt": "x"}), issuer.token(), null):
            with pytest.raises(TokenRefusedError):
                lax.verify(bound, certificate=None, action="read")


def test_only_a_clear_yes_of_the_broker_is_a_yes(verifier: Verifier, issuer: Issuer) -> None:
    token, shown = issuer.token(), {"certificate": issuer.client_der, "action": "read"}
    told = {**issuer.claims(), "active": True}
    issuer.introspection = lambda _: issuer.json(told)
    verifier.verify_active(token, **shown)  # type: ignore[arg-type]
    for body in ({"active": False}, {**told, "jti": "another"}):
        issuer.introspection = lambda _, body=body: issuer.json(body)  # type: ignore[misc]
        with pytest.raises(TokenRefusedError, match="not active"):
            verifier.verify_active(token, **shown)  # type: ignore[arg-type]
    for answer in (
        issuer.json({"active": "true"}),
        issuer.json({"active": 1}),
        issuer.json([True]),
        issuer.json({}),
        issuer.json(told, 500),
        issuer.json({"error": "unauthorized_client"}, 400),
        (200, {}, b"yes"),
    ):
        issuer.introspection = lambda _, answer=answer: answer  # type: ignore[misc]
        with pytest.raises(VerifierUnavailableError):
            verifier.verify_active(token, **shown)  # type: ignore[arg-type]


def test_the_broker_is_asked_every_time_unless_it_was_said_otherwise(
    playground: Playground, verifier: Verifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issuer.token()
    shown: dict[str, Any] = {"certificate": issuer.client_der, "action": "read"}
    issuer.introspection = lambda _: issuer.json({**issuer.claims(), "active": True})
    for _ in range(3):
        verifier.verify_active(token, **shown)
    assert issuer.asked.count("/oauth2/introspect") == 3
    identity = playground.identity("documents")
    with Verifier(
        issuer.url, AUDIENCE, ca=playground.ca, identity=identity, introspection_cache_seconds=2
    ) as caching:
        clock = Clock(monkeypatch, caching)
        for _ in range(3):
            caching.verify_active(token, **shown)
        assert issuer.asked.count("/oauth2/introspect") == 4
        issuer.introspection = lambda _: issuer.json({"active": False})
        clock.advance(2)
        for _ in range(2):
            with pytest.raises(TokenRefusedError):
                caching.verify_active(token, **shown)
    assert issuer.asked.count("/oauth2/introspect") == 6, "a no is not remembered"


def test_a_verifier_without_identity_cannot_ask_and_says_so(
    playground: Playground, issuer: Issuer
) -> None:
    with (
        Verifier(issuer.url, AUDIENCE, ca=playground.ca) as bare,
        pytest.raises(VerifierUnavailableError, match="`identity`"),
    ):
        bare.verify_active(issuer.token(), certificate=issuer.client_der, action="read")


def test_who_is_no_verifier_is_told_nothing(
    playground: Playground, agent: leasehold.Client, task: leasehold.Task
) -> None:
    identity = playground.identity("summarizer")
    with (
        Verifier(playground.issuer, AUDIENCE, ca=playground.ca, identity=identity) as nobody,
        agent.credential(task.id, AUDIENCE) as credential,
        pytest.raises(VerifierUnavailableError, match="unauthorized_client"),
    ):
        nobody.introspect(credential.token())


def test_a_verifier_may_prove_itself_by_oidc(
    playground: Playground, agent: leasehold.Client, task: leasehold.Task, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.jwt"
    file.write_text(playground.oidc_token("nobody"))
    identity = leasehold.TokenIdentity(file)
    with (
        agent.credential(task.id, AUDIENCE) as credential,
        Verifier(playground.issuer, AUDIENCE, ca=playground.ca, identity=identity) as gateway,
    ):
        with pytest.raises(VerifierUnavailableError, match="unauthorized_client"):
            gateway.introspect(credential.token())
        file.write_text(playground.oidc_token("gateway"))
        assert gateway.introspect(credential.token()) is not None


def test_the_verifiers_own_svid_may_rotate_and_its_connections_follow(
    playground: Playground, agent: leasehold.Client, task: leasehold.Task, tmp_path: Path
) -> None:
    spiffe_id = "spiffe://dev.example/api/documents"
    identity = playground.authority.svid(spiffe_id).write(tmp_path)
    rotating = Verifier(playground.issuer, AUDIENCE, ca=playground.ca, identity=identity)
    with agent.credential(task.id, AUDIENCE) as credential:
        for _ in range(3):
            assert rotating.introspect(credential.token()) is not None
        (_, kept), *_ = rotating._http._idle
        playground.authority.svid(spiffe_id).write(tmp_path)
        assert rotating.introspect(credential.token()) is not None
        assert kept.sock is None, "it was closed"
    rotating.close()


def test_a_connection_that_was_closed_meanwhile_is_no_error(
    broker: Verifier, agent: leasehold.Client, task: leasehold.Task
) -> None:
    with agent.credential(task.id, AUDIENCE) as credential:
        assert broker.introspect(credential.token()) is not None
        (_, kept), *_ = broker._http._idle
        assert kept.sock is not None
        kept.sock.shutdown(socket.SHUT_RDWR)
        assert broker.introspect(credential.token()) is not None


def test_the_roots_of_tasks_certificates_are_published(broker: Verifier) -> None:
    (root,) = x509.load_pem_x509_certificates(broker.task_roots().encode())
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    wrong: list[Any] = [None, {}, {"keys": []}, {"keys": [{"use": "x509-svid"}]}]
    for bundle in wrong:
        with pytest.raises(VerifierUnavailableError):
            _keys.roots_of(bundle)


def test_with_await_it_is_the_same(
    playground: Playground, issuer: Issuer, agent: leasehold.Client, task: leasehold.Task
) -> None:
    async def main() -> None:
        slow = AsyncVerifier(issuer.url, AUDIENCE, ca=playground.ca)
        issuer.delay = 0.2
        shown: dict[str, Any] = {"certificate": issuer.client_der, "action": "read"}
        await asyncio.gather(*(slow.verify(issuer.token(), **shown) for _ in range(20)))
        assert issuer.asked == ["/oauth2/jwks"]
        with pytest.raises(TokenRefusedError):
            await slow.verify("x", **shown)
        slow.close()
        identity = playground.identity("documents")
        broker = AsyncVerifier(playground.issuer, AUDIENCE, ca=playground.ca, identity=identity)
        issued = credential.current()
        shown = {"certificate": der_of_pair(issued.key_pair), "action": "read"}
        assert (await broker.verify_active(issued.token, **shown)).task_id == task.id
        assert await broker.introspect(issued.token) is not None
        assert "BEGIN CERTIFICATE" in await broker.task_roots()
        await asyncio.to_thread(task.complete)
        with pytest.raises(TokenRefusedError):
            await broker.verify_active(issued.token, **shown)
        broker.close()

    with agent.credential(task.id, AUDIENCE) as credential:
        asyncio.run(main())
