"""The broker's keys are fetched once for all who wait, by no detour, and are used for no longer than a while."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from issuer import Clock, Issuer, Key, refused
from playground import AUDIENCE, Playground

import leasehold
from leasehold import _keys
from leasehold.verifier import (
    VerifiedToken,
    Verifier,
    VerifierUnavailableError,
)


def test_the_keys_are_fetched_once_for_all_who_wait(verifier: Verifier, issuer: Issuer) -> None:
    issuer.delay = 0.3
    token = issuer.token()

    def verify() -> VerifiedToken:
        return verifier.verify(token, certificate=issuer.client_der, action="read")

    with ThreadPoolExecutor(16) as threads:
        for future in [threads.submit(verify) for _ in range(16)]:
            future.result()
    assert issuer.asked == ["/oauth2/jwks"]


def test_unknown_keys_make_no_storm_and_a_new_key_is_found(
    verifier: Verifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, verifier)
    verifier.verify(issuer.token(), certificate=issuer.client_der, action="read")
    issuer.key = Key("key-2")
    for number in range(50):
        refused(verifier, issuer, issuer.token(header={"kid": f"made-up-{number}"}), "no key")
    refused(verifier, issuer, issuer.token(), "no key")
    assert len(issuer.asked) == 1
    clock.advance(_keys.BETWEEN_FETCHES_SECONDS)
    verifier.verify(issuer.token(), certificate=issuer.client_der, action="read")
    assert len(issuer.asked) == 2


def test_keys_are_fetched_again_and_a_withdrawn_one_verifies_no_more(
    verifier: Verifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, token = Clock(monkeypatch, verifier), issuer.token()
    verifier.verify(token, certificate=issuer.client_der, action="read")
    issuer.key = Key("key-2")
    clock.advance(_keys.FRESH_SECONDS - 1)
    verifier.verify(token, certificate=issuer.client_der, action="read")
    clock.advance(1)
    refused(verifier, issuer, token, "no key")


def test_while_the_broker_is_away_its_keys_count_for_a_while_and_then_not(
    verifier: Verifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, token = Clock(monkeypatch, verifier), issuer.token()
    verifier.verify(token, certificate=issuer.client_der, action="read")
    issuer.keys = lambda: issuer.json({}, 503)
    clock.advance(_keys.STALE_SECONDS - 1)
    for _ in range(9):
        verifier.verify(token, certificate=issuer.client_der, action="read")
    assert len(issuer.asked) == 2, "after a failure it is not asked at every token"
    clock.advance(1)
    for _ in range(2):
        with pytest.raises(VerifierUnavailableError) as caught:
            verifier.verify(token, certificate=issuer.client_der, action="read")
        assert caught.value.status == 503


def test_a_set_of_keys_that_the_broker_would_not_write_is_not_used(issuer: Issuer) -> None:
    jwk = issuer.key.jwk
    x = jwk()["x"]
    wrong: list[Any] = [
        None,
        [],
        {},
        {"keys": []},
        {"keys": [jwk(kty="oct", k="c2VjcmV0")]},
        {"keys": [jwk(), {"kty": "oct", "kid": "2", "k": "c2VjcmV0"}]},
        {"keys": [jwk(crv="P-384")]},
        {"keys": [jwk(alg="ES384")]},
        {"keys": [jwk(use="enc")]},
        {"keys": [jwk(d=x)]},
        {"keys": [jwk(kid=7)]},
        {"keys": [jwk(), Key().jwk()]},
        {"keys": [jwk(y=x)]},
        {"keys": [jwk(x=x[:-2])]},
        {"keys": [jwk(x=x[:-1] + "*")]},
        {"keys": [jwk(x=None)]},
        {"keys": [jwk(kid=str(number)) for number in range(65)]},
    ]
    for document in wrong:
        with pytest.raises(VerifierUnavailableError):
            _keys.parse_keys(document)
    assert set(_keys.parse_keys({"keys": [jwk(), Key("key-2").jwk()]})) == {"key-1", "key-2"}


def test_no_key_comes_by_a_detour_or_without_end(
    playground: Playground, verifier: Verifier, issuer: Issuer
) -> None:
    good = json.dumps({"keys": [issuer.key.jwk()]}).encode()
    for answer in (
        (302, {"Location": f"{issuer.url}/elsewhere"}, good),
        (200, {}, good + b" " * 600_000),
        (200, {}, b"\xff"),
        (404, {}, b""),
    ):
        issuer.keys = lambda answer=answer: answer  # type: ignore[misc]
        with (
            Verifier(issuer.url, AUDIENCE, ca=playground.ca) as fresh,
            pytest.raises(VerifierUnavailableError),
        ):
            fresh.verify(issuer.token(), certificate=issuer.client_der, action="read")
    assert "/elsewhere" not in issuer.asked
    strangers = Verifier(issuer.url, AUDIENCE, ca=None)
    with pytest.raises(VerifierUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        strangers.verify(issuer.token(), certificate=issuer.client_der, action="read")
    for address in ("http://localhost:1", "localhost:1", "https://localhost:1/x"):
        with pytest.raises(leasehold.RequestError):
            Verifier(address, AUDIENCE)
