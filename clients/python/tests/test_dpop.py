"""Tokens that are bound to a key without certificate: got, renewed, sent and verified, with a proof each time."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from documents import Api, serving
from issuer import Issuer, encoded
from playground import AUDIENCE, SUMMARIZER, Playground

import leasehold
import leasehold.httpx
import leasehold.requests
from leasehold import DpopKey, _proof
from leasehold._encoding import json_of
from leasehold.verifier import (
    AsyncVerifier,
    DpopProofs,
    TokenRefusedError,
    Verifier,
    VerifierUnavailableError,
    presented,
)

HERE = "https://documents.example:8443/report"
SECRET = b"n" * 32


@pytest.fixture
def key() -> DpopKey:
    return DpopKey()


@pytest.fixture(params=["httpx", "requests"])
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def running(playground: Playground) -> Iterator[Api]:
    with serving(playground) as api:
        yield api


@pytest.fixture
def api(running: Api) -> Api:
    running.asked.clear()
    running.proofs.clear()
    return running


@pytest.fixture(scope="module")
def nonces(playground: Playground) -> Iterator[Api]:
    """The same, where proofs must have a nonce."""
    verifier = Verifier(
        playground.issuer,
        AUDIENCE,
        ca=playground.ca,
        identity=playground.identity("documents"),
        dpop_nonce_secret=SECRET,
    )
    with serving(playground, verifier) as api:
        yield api


def session_of(library: str, credential: leasehold.Credential, api: Api, ca: Path) -> Any:
    if library == "httpx":
        return leasehold.httpx.client(credential, api.url, ca=ca)
    return leasehold.requests.session(credential, api.url, ca=ca)


def parts_of(proof: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = proof.split(".")
    return json_of(header), json_of(claims)


# What a key makes.


def test_a_proof_says_what_rfc_9449_wants_and_another_library_reads_it(key: DpopKey) -> None:
    proof = key.proof("POST", f"{HERE}?page=2#end", token="a.b.c", nonce="once")
    header, claims = parts_of(proof)
    assert header == {"typ": "dpop+jwt", "alg": "ES256", "jwk": header["jwk"]}
    assert set(header["jwk"]) == {"kty", "crv", "x", "y"}
    jwt.decode(proof, jwt.PyJWK(header["jwk"]).key, algorithms=["ES256"])
    assert (claims["htm"], claims["htu"], claims["nonce"]) == ("POST", HERE, "once")
    assert claims["ath"] == encoded(hashlib.sha256(b"a.b.c").digest())
    assert abs(claims["iat"] - time.time()) < 10
    assert set(parts_of(key.proof("GET", HERE))[1]) == {"jti", "htm", "htu", "iat"}
    assert len({parts_of(key.proof("GET", HERE))[1]["jti"] for _ in range(100)}) == 100


def test_the_thumbprint_is_that_of_rfc_7638() -> None:
    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    }
    # The key of section 4.1 of RFC 9449, which section 6.1 binds a token to.
    assert leasehold.dpop.jwk_thumbprint(jwk) == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def test_a_key_that_others_keep_is_read_and_what_is_none_is_refused(tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = private.private_bytes(serialization.Encoding.PEM, *form)
    assert DpopKey.from_pem(pem).thumbprint == DpopKey.from_pem(pem.decode()).thumbprint
    other = ec.generate_private_key(ec.SECP384R1())
    for wrong in (
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        other.private_bytes(serialization.Encoding.PEM, *form),
        ed25519.Ed25519PrivateKey.generate().private_bytes(serialization.Encoding.PEM, *form),
    ):
        with pytest.raises(leasehold.RequestError):
            DpopKey.from_pem(wrong)


def test_the_key_is_in_nothing_that_is_printed(
    agent: leasehold.Client, task: leasehold.Task, key: DpopKey
) -> None:
    secret = str(key._key.private_numbers().private_value)
    with agent.credential(task.id, AUDIENCE, proof=key) as credential:
        for printed in (key, credential, credential.current(), credential._renewal.attempt()):
            text = f"{printed!r} {printed}"
            assert secret not in text
            assert credential.token() not in text


# How a token is got.


def test_a_token_is_bound_to_the_key_and_renewed_by_it(
    agent: leasehold.Client, documents: leasehold.Client, task: leasehold.Task, key: DpopKey
) -> None:
    with agent.credential(task.id, AUDIENCE, proof=key) as credential:
        first = credential.current()
        told = documents.introspect(first.token)
        assert told.active
        assert told.claims["cnf"] == {"jkt": key.thumbprint}
        assert first.key_pair is None
        second = credential.refresh()
        assert second.lease_id == first.lease_id, "a renewal, not another lease"
        assert documents.introspect(second.token).claims["cnf"] == {"jkt": key.thumbprint}
        task.advance(step="review")
        third = credential.refresh()
        assert third.lease_id != first.lease_id
        assert documents.introspect(third.token).claims["cnf"] == {"jkt": key.thumbprint}


def test_without_a_key_of_ones_own_there_is_a_new_one_for_each_credential(
    agent: leasehold.Client, documents: leasehold.Client, task: leasehold.Task
) -> None:
    bound = set()
    for _ in range(2):
        with agent.credential(task.id, AUDIENCE, proof="dpop") as credential:
            bound.add(documents.introspect(credential.token()).claims["cnf"]["jkt"])
    assert len(bound) == 2


def test_a_caller_with_an_oidc_token_needs_no_certificate_at_all(
    playground: Playground,
    api: Api,
    library: str,
    orchestrator: leasehold.Client,
    tmp_path: Path,
) -> None:
    file = tmp_path / "reader.jwt"
    file.write_text(playground.oidc_token("reader"))
    identity = leasehold.TokenIdentity(file)
    task = orchestrator.begin(
        agent="oidc:dev:reader", grant={AUDIENCE: ["read"]}, tier="standard", duration=600
    )
    with (
        leasehold.Client(playground.address, ca=playground.ca, identity=identity) as client,
        client.credential(task.id, AUDIENCE, proof="dpop") as credential,
        session_of(library, credential, api, playground.ca) as http,
    ):
        assert http.get(f"{api.url}/").json()["reader"] == "oidc:dev:reader"
        credential.refresh()
        assert http.get(f"{api.url}/").status_code == 200


def test_a_nonce_that_the_broker_demands_is_taken_once_and_used_from_then_on(
    demanding: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str | None] = []
    sign = DpopKey.proof

    def noting(key: DpopKey, method: str, url: str, **more: Any) -> str:
        made.append(more["nonce"])
        return sign(key, method, url, **more)

    monkeypatch.setattr(DpopKey, "proof", noting)
    with demanding.client("orchestrator") as orchestrator, demanding.client("summarizer") as agent:
        task = orchestrator.begin(
            agent=SUMMARIZER, grant={AUDIENCE: ["read"]}, tier="standard", duration=600
        )
        with agent.credential(task.id, AUDIENCE, proof="dpop") as credential:
            assert made[0] is None
            assert len(made) == 2
            credential.refresh()
            assert made[2:] == [made[1]], "the nonce is still good, and no call is refused for it"

        async def main() -> None:
            identity = demanding.identity("summarizer")
            async with (
                leasehold.AsyncClient(
                    demanding.address, ca=demanding.ca, identity=identity
                ) as client,
                await client.credential(task.id, AUDIENCE, proof=DpopKey()) as credential,
            ):
                assert (await credential.headers("GET", HERE))["Authorization"].startswith("DPoP ")

        asyncio.run(main())


def test_a_proof_that_the_broker_refuses_is_not_made_again(
    playground: Playground, task: leasehold.Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    sign = DpopKey.proof

    def elsewhere(key: DpopKey, method: str, url: str, **more: Any) -> str:
        made.append(url)
        return sign(key, method, "https://elsewhere.example/", **more)

    monkeypatch.setattr(DpopKey, "proof", elsewhere)
    with playground.client("summarizer") as agent, pytest.raises(leasehold.IdentityError) as caught:
        agent.credential(task.id, AUDIENCE, proof="dpop")
    assert caught.value.reason == "PROOF_INVALID"
    assert len(made) == 1


def test_a_token_that_the_broker_bound_to_another_key_is_not_taken(
    agent: leasehold.Client, task: leasehold.Task
) -> None:
    class Another(DpopKey):
        @property
        def thumbprint(self) -> str:
            return DpopKey().thumbprint

    with pytest.raises(leasehold.LeaseholdError, match="another key"):
        agent.credential(task.id, AUDIENCE, proof=Another())


# How it is sent.


def test_every_request_has_a_proof_of_its_own_and_no_certificate(
    playground: Playground,
    api: Api,
    library: str,
    agent: leasehold.Client,
    task: leasehold.Task,
    key: DpopKey,
) -> None:
    with (
        agent.credential(task.id, AUDIENCE, proof=key) as credential,
        session_of(library, credential, api, playground.ca) as http,
    ):
        assert http.get(f"{api.url}/a?page=2").json()["reader"] == SUMMARIZER
        assert http.post(f"{api.url}/b", json={"note": "!"}).status_code == 200
        assert http.get(f"{api.url}/a").status_code == 200
    assert {shown for _, shown in api.asked} == {None}
    assert {token for token, _ in api.asked} == {f"DPoP {credential._renewal.latest.token}"}  # type: ignore[union-attr]
    claims = [parts_of(proof)[1] for (proof,) in api.proofs]
    assert [(c["htm"], c["htu"].removeprefix(api.url)) for c in claims] == [
        ("GET", "/a"),
        ("POST", "/b"),
        ("GET", "/a"),
    ]
    assert len({c["jti"] for c in claims}) == 3


def test_after_a_change_the_next_request_is_sent_with_a_new_token_and_proof(
    playground: Playground,
    api: Api,
    library: str,
    agent: leasehold.Client,
    task: leasehold.Task,
) -> None:
    with (
        agent.credential(task.id, AUDIENCE, proof="dpop") as credential,
        session_of(library, credential, api, playground.ca) as http,
    ):
        assert http.get(f"{api.url}/").status_code == 200
        task.advance(step="review")
        assert http.get(f"{api.url}/").status_code == 200
        assert len(api.asked) == 3
        task.complete()
        with pytest.raises(leasehold.TaskEndedError):
            http.get(f"{api.url}/")


def test_a_nonce_that_a_server_demands_goes_into_the_next_proof(
    playground: Playground,
    nonces: Api,
    library: str,
    agent: leasehold.Client,
    task: leasehold.Task,
) -> None:
    nonces.proofs.clear()
    with (
        agent.credential(task.id, AUDIENCE, proof="dpop") as credential,
        session_of(library, credential, nonces, playground.ca) as http,
    ):
        before = credential.token()
        for _ in range(3):
            assert http.post(f"{nonces.url}/", json={"note": "!"}).status_code == 200
        assert credential.token() == before, "no other token was asked for"
        # A stream is sent once: its answer is the demand, and the next request has the nonce.
        credential.current().prover._nonces.clear()  # type: ignore[union-attr]
        body: dict[str, Any] = {"data" if library == "requests" else "content": io.BytesIO(b"x")}
        assert http.post(f"{nonces.url}/", **body).status_code == 401
        assert http.get(f"{nonces.url}/").status_code == 200
    claims = [parts_of(proof)[1] for (proof,) in nonces.proofs]
    assert ["nonce" in c for c in claims] == [False, True, True, True, False, True]
    assert len({c["jti"] for c in claims}) == 6


def test_auth_sets_the_headers_and_takes_the_nonce_as_well(
    playground: Playground,
    nonces: Api,
    library: str,
    agent: leasehold.Client,
    task: leasehold.Task,
) -> None:
    with agent.credential(task.id, AUDIENCE, proof="dpop") as credential:
        if library == "httpx":
            auth: Any = leasehold.httpx.Auth(credential)
            http: Any = httpx.Client(auth=auth, verify=credential.ssl_context(playground.ca))
        else:
            http = requests.Session()
            http.auth = leasehold.requests.Auth(credential)
            http.verify, http.trust_env = str(playground.ca), False
        with http:
            assert http.get(f"{nonces.url}/").status_code == 200
            task.advance(step="review")
            assert http.get(f"{nonces.url}/").status_code == 200


def test_with_await_it_is_the_same(
    playground: Playground, nonces: Api, task: leasehold.Task
) -> None:
    async def main() -> None:
        identity = playground.identity("summarizer")
        async with (
            leasehold.AsyncClient(playground.address, ca=playground.ca, identity=identity) as agent,
            await agent.credential(task.id, AUDIENCE, proof="dpop") as credential,
            leasehold.httpx.async_client(credential, nonces.url, ca=playground.ca) as http,
            httpx.AsyncClient(
                auth=leasehold.httpx.Auth(credential),
                verify=await credential.ssl_context(playground.ca),
            ) as other,
        ):
            assert (await http.get("/")).status_code == 200
            credential._renewal.latest.prover._nonces.clear()  # type: ignore[union-attr]
            assert (await other.get(nonces.url)).status_code == 200
            await asyncio.to_thread(task.advance, step="review")
            assert (await http.get("/")).status_code == 200

    asyncio.run(main())


def test_a_redirect_takes_neither_token_nor_proof_elsewhere_and_has_a_new_proof_here(
    playground: Playground,
    library: str,
    agent: leasehold.Client,
    task: leasehold.Task,
    tmp_path: Path,
) -> None:
    server = playground.authority.svid("spiffe://dev.example/server", local=True)
    here, there = Issuer(tmp_path, server, server), Issuer(tmp_path, server, server)
    try:
        places = iter([f"{here.url}/second", f"{there.url}/there"])
        here.keys = lambda: (302, {"Location": next(places)}, b"")
        with agent.credential(task.id, AUDIENCE, proof="dpop") as credential:
            if library == "httpx":
                http: Any = leasehold.httpx.client(
                    credential,
                    here.url,
                    ca=playground.ca,
                    verify=credential.ssl_context(playground.ca),
                    follow_redirects=True,
                )
            else:
                http = leasehold.requests.session(credential, here.url, ca=playground.ca)
                http.verify, http.trust_env = str(playground.ca), False
            with http:
                assert http.get(f"{here.url}/first").status_code == 200
        places_shown = [parts_of(proof)[1]["htu"] for proof in here.proofs if proof]
        assert places_shown == [f"{here.url}/first", f"{here.url}/second"]
        assert (there.asked, there.shown, there.proofs) == (["/there"], [None], [None])
    finally:
        here.close()
        there.close()


def test_headers_are_for_one_request_which_must_be_said(
    agent: leasehold.Client, task: leasehold.Task, key: DpopKey
) -> None:
    with agent.credential(task.id, AUDIENCE, proof=key) as credential:
        with pytest.raises(leasehold.RequestError, match="`method`"):
            credential.headers()
        one, two = (credential.headers("GET", HERE) for _ in range(2))
        assert one["Authorization"] == two["Authorization"] == f"DPoP {credential.token()}"
        assert one["DPoP"] != two["DPoP"]


# How it is verified.


def test_a_token_of_the_broker_is_good_with_its_proof_until_its_task_ends(
    broker: Verifier, agent: leasehold.Client, task: leasehold.Task, key: DpopKey
) -> None:
    def shown() -> dict[str, Any]:
        headers = credential.headers("GET", f"{HERE}?page=3")
        found = presented(
            headers["Authorization"], [headers["DPoP"]], method="GET", url=f"{HERE}?page=3"
        )
        return {"token": found.token, "dpop": found.dpop, "certificate": None}

    with agent.credential(task.id, AUDIENCE, proof=key) as credential:
        told = broker.verify_active(action="read", **shown())
        assert (told.agent, told.task_id) == (SUMMARIZER, task.id)
        credential_of_old = shown()
        task.complete()
        with pytest.raises(TokenRefusedError, match="not active"):
            broker.verify_active(action="read", **credential_of_old)


@pytest.fixture
def bound(issuer: Issuer, key: DpopKey) -> str:
    """A token that is bound to the key."""
    return issuer.token(cnf={"jkt": key.thumbprint})


def refused(
    verifier: Verifier, token: str, dpop: DpopProofs | None, why: str, error: str
) -> TokenRefusedError:
    with pytest.raises(TokenRefusedError, match=why) as caught:
        verifier.verify(token, certificate=None, action="read", dpop=dpop)
    assert (caught.value.status, caught.value.error) == (401, error)
    return caught.value


def test_a_bound_token_is_no_bearer_token_whatever_headers_come_with_it(
    playground: Playground, issuer: Issuer, bound: str, key: DpopKey
) -> None:
    proof = key.proof("GET", HERE, token=bound)
    with Verifier(issuer.url, AUDIENCE, ca=playground.ca, accept_bearer=True) as lax:
        for scheme in ("Bearer", "bearer"):
            found = presented(f"{scheme} {bound}", [proof], method="GET", url=HERE)
            assert found.dpop is None
            error = refused(lax, found.token, found.dpop, "takes that scheme", "invalid_token")
            assert error.www_authenticate.startswith('DPoP error="invalid_token"')
            assert 'algs="ES256 ' in error.www_authenticate
        for other in (bound, f"Basic {bound}", "", None):
            found = presented(other, [proof], method="GET", url=HERE)
            refused(lax, found.token, found.dpop, "no token", "invalid_token")
        # Nor the other way round: what is bound to nothing, or to a certificate, proves nothing by this scheme.
        for token in (issuer.token(cnf=None), issuer.token()):
            shown = DpopProofs([key.proof("GET", HERE, token=token)], "GET", HERE)
            refused(lax, token, shown, "no such key", "invalid_token")
        for odd in ({"jkt": 7}, {"jkt": ""}, {"jkt": key.thumbprint, "x5t#S256": "x"}):
            token = issuer.token(cnf=odd)
            shown = DpopProofs([key.proof("GET", HERE, token=token)], "GET", HERE)
            with pytest.raises(TokenRefusedError):
                lax.verify(token, certificate=issuer.client_der, action="read", dpop=shown)


def test_a_proof_is_one_for_this_very_request_by_the_key_that_the_token_names(
    verifier: Verifier, bound: str, issuer: Issuer, key: DpopKey
) -> None:
    def judged(proofs: list[str], method: str = "GET", url: str = HERE) -> None:
        shown = DpopProofs(proofs, method, url)
        verifier.verify(bound, certificate=None, action="read", dpop=shown)

    def proof(method: str = "GET", url: str = HERE, token: str | None = bound) -> str:
        return key.proof(method, url, token=token)

    judged([proof()])
    judged([proof(url="https://DOCUMENTS.example:8443/re%70ort?page=2")])
    judged([proof(url="https://documents.example/x")], url="https://documents.example:443/x?a=b#c")
    for why, proofs in {
        "exactly one": [[], [proof(), proof()]],
        "compact": [[f"{proof()},{proof()}"], [""], [f" {proof()}"], [proof() + "a" * 9_000]],
        "`htm`": [[proof("POST")], [proof("get")]],
        "`htu`": [
            [proof(url=other)]
            for other in (
                "https://documents.example/report",
                "https://documents.example:8444/report",
                "https://documents.example:8443/report/",
                "https://documents.example:8443/Report",
                "https://evil.example:8443/report",
                "http://documents.example:8443/report",
                "https://me@documents.example:8443/report",
                "https://documents.example:8443/x/../report",
                "https://documents.example:x/report",
            )
        ],
        "`ath`": [[proof(token=None)], [proof(token="another.token.x")]],
        "another key": [[DpopKey().proof("GET", HERE, token=bound)]],
    }.items():
        for shown in proofs:
            refused(verifier, bound, DpopProofs(shown, "GET", HERE), why, "invalid_dpop_proof")
    for elsewhere in ("https://documents.example:8443/a/../report", "nowhere", ""):
        shown_to = DpopProofs([proof(url=elsewhere)], "GET", elsewhere)
        refused(verifier, bound, shown_to, "`htu`", "invalid_dpop_proof")
    stolen = issuer.token(cnf={"jkt": DpopKey().thumbprint})
    shown_with = DpopProofs([key.proof("GET", HERE, token=stolen)], "GET", HERE)
    refused(verifier, stolen, shown_with, "another key", "invalid_dpop_proof")


def test_a_proof_is_good_once(
    verifier: Verifier, bound: str, key: DpopKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(proof: str) -> DpopProofs:
        return DpopProofs([proof], "GET", HERE)

    proof = key.proof("GET", HERE, token=bound)
    verifier.verify(bound, certificate=None, action="read", dpop=shown(proof))
    refused(verifier, bound, shown(proof), "shown before", "invalid_dpop_proof")
    # Of many at once, exactly one.
    proof = key.proof("GET", HERE, token=bound)
    taken, gate = [], threading.Barrier(8)

    def show() -> None:
        gate.wait()
        try:
            verifier.verify(bound, certificate=None, action="read", dpop=shown(proof))
        except TokenRefusedError:
            return
        taken.append(1)

    threads = [threading.Thread(target=show) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1
    # As long as it could be good, it is remembered; and rather than forget one, nobody is let in.
    now = [0.0]
    monkeypatch.setattr("leasehold._clock.now", lambda: now[0])
    seen = _proof._Seen()
    assert seen.add("a")
    for at in (0, 119, 120, 239):
        now[0] = at
        assert not seen.add("a"), at
    now[0] = 480
    assert seen.add("a")
    monkeypatch.setattr(_proof, "MOST_REMEMBERED", 2)
    assert seen.add("b")
    with pytest.raises(VerifierUnavailableError):
        seen.add("c")


class Forger:
    """Makes proofs with any header and claims, and signs them as it is told."""

    def __init__(self, token: str) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.key = DpopKey(self.private)
        self.token = token

    def proof(
        self, header: dict[str, Any] | None = None, signed_by: Any = None, **claims: Any
    ) -> str:
        good, said = parts_of(self.key.proof("GET", HERE, token=self.token))
        head = {k: v for k, v in {**good, **(header or {})}.items() if v is not None}
        body = {k: v for k, v in {**said, **claims}.items() if v is not None}
        return self.sign(json.dumps(head), json.dumps(body), signed_by)

    def sign(self, head: str, body: str, signed_by: Any = None) -> str:
        message = f"{encoded(head.encode())}.{encoded(body.encode())}"
        name = json.loads(head).get("alg") if signed_by else "ES256"
        signature = jwt.get_algorithm_by_name(name).sign(
            message.encode(), signed_by or self.private
        )
        return f"{message}.{encoded(signature)}"


@pytest.fixture
def forger(issuer: Issuer) -> Forger:
    made = Forger("")
    made.token = issuer.token(cnf={"jkt": made.key.thumbprint})
    return made


def test_a_header_or_claim_that_is_not_exactly_that_of_a_proof_is_refused(
    verifier: Verifier, forger: Forger
) -> None:
    def judge(proof: str, why: str) -> None:
        shown = DpopProofs([proof], "GET", HERE)
        refused(verifier, forger.token, shown, why, "invalid_dpop_proof")

    good, claims = parts_of(forger.proof())
    verifier.verify(
        forger.token,
        certificate=None,
        action="read",
        dpop=DpopProofs(
            [forger.proof(header={"jwk": {**good["jwk"], "kid": "mine"}})], "GET", HERE
        ),
    )
    for typ in ("JWT", "at+jwt", "DPOP+JWT", "", None, 1):
        judge(forger.proof(header={"typ": typ}), "header")
    for name in ("kid", "crit", "b64", "x5u", "jku", "x5c", "zip", "cty"):
        judge(forger.proof(header={name: "x"}), "header")
    for alg in ("none", "HS256", "EdDSA", "ES512", "es256", "", 1, ["ES256"]):
        judge(forger.proof(header={"alg": alg}), "key or algorithm")
    jwk = good["jwk"]
    for wrong in (
        {**jwk, "d": "AQ"},
        {**jwk, "crv": "P-384"},
        {**jwk, "kty": "OKP"},
        {**jwk, "use": "enc"},
        {**jwk, "alg": "ES384"},
        {**jwk, "x": 7},
        {"kty": "oct", "k": "AQ"},
        {},
    ):
        judge(forger.proof(header={"jwk": wrong}), "public key")
    judge(forger.proof(header={"jwk": []}), "key or algorithm")
    judge(forger.proof(header={"jwk": {**jwk, "x": jwk["y"]}}), "public key")
    judge(forger.proof(header={"jwk": Forger("").key._jwk}), "signature")
    now = int(time.time())
    wrong_claims: dict[str, tuple[Any, ...]] = {
        "jti": (None, 1, "", "x" * 257),
        "htm": (None, 1, ["GET"]),
        "htu": (None, 1, f"{HERE}?page=2", f"{HERE}#x", f"{HERE} "),
        "iat": (None, str(now), now + 0.5, True, now - 61, now + 70, -1),
        "exp": (now, now - 1, "x"),
        "nbf": (now + 70, "x"),
        "ath": (None, 1),
    }
    for claim, values in wrong_claims.items():
        for value in values:
            judge(forger.proof(**{claim: value}), f"`{claim}`|minute")
    twice = json.dumps(claims)[:-1] + ', "htm": "GET"}'
    judge(forger.sign(json.dumps(good), twice), "twice")
    judge(forger.sign(json.dumps(good), "[]"), "JSON object")


def test_keys_of_other_kinds_prove_as_well_if_they_are_strong(
    verifier: Verifier, issuer: Issuer
) -> None:
    def jwk_of(key: Any, name: str) -> dict[str, str]:
        found = json.loads(jwt.get_algorithm_by_name(name).to_jwk(key.public_key()))
        return {member: found[member] for member in found if member not in {"key_ops", "kid"}}

    for name, key, strong in (
        ("ES384", ec.generate_private_key(ec.SECP384R1()), True),
        ("RS256", rsa.generate_private_key(public_exponent=65537, key_size=2048), True),
        ("PS256", rsa.generate_private_key(public_exponent=65537, key_size=2048), True),
        ("RS256", rsa.generate_private_key(public_exponent=65537, key_size=1024), False),  # noqa: S505
    ):
        jwk = jwk_of(key, name)
        forger = Forger(issuer.token(cnf={"jkt": leasehold.dpop.jwk_thumbprint(jwk)}))
        proof = forger.proof(header={"alg": name, "jwk": jwk}, signed_by=key)
        shown = DpopProofs([proof], "GET", HERE)
        if strong:
            verifier.verify(forger.token, certificate=None, action="read", dpop=shown)
        else:
            refused(verifier, forger.token, shown, "2048 bits", "invalid_dpop_proof")


def test_where_a_nonce_is_demanded_a_refusal_brings_one_that_every_server_of_the_secret_takes(
    playground: Playground, issuer: Issuer, bound: str, key: DpopKey
) -> None:
    def shown(nonce: str | None) -> DpopProofs:
        return DpopProofs([key.proof("GET", HERE, token=bound, nonce=nonce)], "GET", HERE)

    def server(secret: bytes) -> Verifier:
        return Verifier(issuer.url, AUDIENCE, ca=playground.ca, dpop_nonce_secret=secret)

    with server(SECRET) as one, server(SECRET) as two, server(b"o" * 32) as other:
        error = refused(one, bound, shown(None), "`nonce`", "use_dpop_nonce")
        nonce = error.headers["DPoP-Nonce"]
        assert error.headers["WWW-Authenticate"].startswith('DPoP error="use_dpop_nonce"')
        two.verify(bound, certificate=None, action="read", dpop=shown(nonce))
        refused(other, bound, shown(nonce), "`nonce`", "use_dpop_nonce")
        for wrong in ("", "made-up", nonce[:-1], nonce + "A"):
            refused(one, bound, shown(wrong), "`nonce`", "use_dpop_nonce")
    kept = _proof.Nonces(SECRET)
    for at, good in ((-61, False), (-60, True), (299, True), (300, False)):
        assert kept.accepts(kept.fresh(1_000_000), 1_000_000 + at) is good, at
    with pytest.raises(ValueError, match="32 bytes"):
        Verifier(issuer.url, AUDIENCE, ca=playground.ca, dpop_nonce_secret=b"short")
    # Who demands none takes any.
    with Verifier(issuer.url, AUDIENCE, ca=playground.ca) as lenient:
        lenient.verify(bound, certificate=None, action="read", dpop=shown("anything"))


def test_with_await_a_proof_is_checked_too(
    playground: Playground, issuer: Issuer, bound: str, key: DpopKey
) -> None:
    async def main() -> None:
        async with AsyncVerifier(issuer.url, AUDIENCE, ca=playground.ca) as verifier:
            proof = key.proof("GET", HERE, token=bound)
            shown = DpopProofs([proof], "GET", HERE)
            told = await verifier.verify(bound, certificate=None, action="read", dpop=shown)
            assert told.claims["cnf"] == {"jkt": key.thumbprint}
            with pytest.raises(TokenRefusedError, match="shown before"):
                await verifier.verify(bound, certificate=None, action="read", dpop=shown)

    asyncio.run(main())
