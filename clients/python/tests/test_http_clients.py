"""httpx and requests send a credential where it is meant for, over the connection that proves it, and nowhere else."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from documents import Api, serving
from issuer import Issuer
from playground import AUDIENCE, SUMMARIZER, Playground

import leasehold
import leasehold.httpx
import leasehold.requests
from leasehold.identity import thumbprint

Session = httpx.Client | requests.Session


@pytest.fixture(scope="module")
def running(playground: Playground) -> Iterator[Api]:
    with serving(playground) as api:
        yield api


@pytest.fixture
def api(running: Api) -> Api:
    running.asked.clear()
    running.connections = 0
    return running


@pytest.fixture(params=["httpx", "requests"])
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["certificate", "key"])
def credential(
    request: pytest.FixtureRequest, agent: leasehold.Client, task: leasehold.Task
) -> Iterator[leasehold.Credential]:
    with agent.credential(task.id, AUDIENCE, proof=request.param) as credential:
        yield credential


def session_of(
    library: str, credential: leasehold.Credential, api: Api, playground: Playground
) -> Session:
    if library == "httpx":
        return leasehold.httpx.client(credential, api.url, ca=playground.ca)
    return leasehold.requests.session(credential, api.url, ca=playground.ca)


def test_a_request_shows_the_token_and_the_certificate_that_it_is_bound_to(
    playground: Playground, api: Api, library: str, credential: leasehold.Credential
) -> None:
    with session_of(library, credential, api, playground) as http:
        for _ in range(3):
            assert http.get(f"{api.url}/").json()["reader"] == SUMMARIZER
        assert http.post(f"{api.url}/", json={"note": "!"}).status_code == 200
    pair = credential.current().key_pair
    assert pair is not None
    assert {(token, thumbprint(der or b"")) for token, der in api.asked} == {
        (f"Bearer {credential.token()}", pair.thumbprint)
    }
    assert api.connections == 1, "connections are kept"


def test_after_a_change_the_next_request_is_sent_with_a_new_token(
    playground: Playground,
    api: Api,
    library: str,
    credential: leasehold.Credential,
    task: leasehold.Task,
) -> None:
    with session_of(library, credential, api, playground) as http:
        assert http.get(f"{api.url}/").status_code == 200
        task.advance(step="review", grant={AUDIENCE: ["read"]})
        assert http.get(f"{api.url}/").status_code == 200
        assert http.post(f"{api.url}/", json={"note": "!"}).status_code == 403
    first, refused, second, _ = [token for token, _ in api.asked]
    assert first == refused
    assert second != first


def test_when_the_task_has_ended_a_request_says_so(
    playground: Playground,
    api: Api,
    library: str,
    credential: leasehold.Credential,
    task: leasehold.Task,
) -> None:
    with session_of(library, credential, api, playground) as http:
        assert http.get(f"{api.url}/").status_code == 200
        task.complete()
        for _ in range(2):
            with pytest.raises(leasehold.TaskEndedError):
                http.get(f"{api.url}/")
    assert len(api.asked) == 2, "what has ended is not sent again"


def test_a_body_that_is_read_once_is_sent_once(
    playground: Playground,
    api: Api,
    library: str,
    credential: leasehold.Credential,
    task: leasehold.Task,
) -> None:
    def body() -> Iterator[bytes]:
        yield b""

    with session_of(library, credential, api, playground) as http:
        task.advance(step="review")
        send: Any = http.post
        keyword = "content" if library == "httpx" else "data"
        assert send(f"{api.url}/", **{keyword: body()}).status_code == 401
        assert len(api.asked) == 1


def test_after_a_renewal_new_connections_show_the_new_certificate(
    playground: Playground, api: Api, library: str, agent: leasehold.Client, task: leasehold.Task
) -> None:
    with (
        agent.credential(task.id, AUDIENCE, proof="key") as credential,
        session_of(library, credential, api, playground) as http,
    ):
        assert http.get(f"{api.url}/").status_code == 200
        credential.refresh()
        assert http.get(f"{api.url}/").status_code == 200
    (_, first), (_, second) = api.asked
    assert first != second
    assert api.connections == 2


def test_answers_that_are_still_read_are_not_cut_off_by_a_renewal(
    playground: Playground, api: Api, agent: leasehold.Client, task: leasehold.Task
) -> None:
    with (
        agent.credential(task.id, AUDIENCE, proof="key") as credential,
        leasehold.httpx.client(credential, api.url, ca=playground.ca) as http,
    ):
        transport = http._transport_for_url(httpx.URL(api.url))
        assert isinstance(transport, leasehold.httpx.Transport)
        with http.stream("GET", "/") as answer:
            credential.refresh()
            assert http.get("/").status_code == 200
            assert len(transport._ways._earlier) == 1
            assert SUMMARIZER in answer.read().decode()
        assert transport._ways._earlier == set()


def test_no_other_origin_is_sent_the_credential(
    playground: Playground, api: Api, library: str, agent: leasehold.Client, task: leasehold.Task
) -> None:
    other = api.url.replace("localhost", "127.0.0.1")
    with (
        agent.credential(task.id, AUDIENCE) as credential,
        session_of(library, credential, api, playground) as http,
    ):
        # The same server by another name: it is not trusted, and it would not be sent a certificate.
        errors = (httpx.ConnectError, requests.exceptions.SSLError)
        with pytest.raises(errors):
            http.get(f"{other}/")
    assert api.asked == []


def test_a_redirect_takes_the_credential_nowhere_else(
    playground: Playground, library: str, credential: leasehold.Credential, tmp_path: Path
) -> None:
    server = playground.authority.svid("spiffe://dev.example/server", local=True)
    here, there = Issuer(tmp_path, server, server), Issuer(tmp_path, server, server)
    try:
        here.keys = lambda: (302, {"Location": f"{there.url}/there"}, b"")
        if library == "httpx":
            context = ssl.create_default_context(cafile=playground.ca)
            http: Any = leasehold.httpx.client(
                credential, here.url, ca=playground.ca, verify=context, follow_redirects=True
            )
        else:
            http = leasehold.requests.session(credential, here.url, ca=playground.ca)
            http.verify, http.trust_env = str(playground.ca), False
        with http:
            assert http.get(f"{here.url}/here").status_code == 200
        assert here.shown == [f"Bearer {credential.token()}"]
        assert (there.asked, there.shown) == (["/there"], [None])
    finally:
        here.close()
        there.close()


def test_without_tls_nothing_is_sent(
    library: str, agent: leasehold.Client, task: leasehold.Task
) -> None:
    with agent.credential(task.id, AUDIENCE) as credential:
        client: Any = leasehold.httpx.client if library == "httpx" else leasehold.requests.session
        with pytest.raises(leasehold.RequestError, match="TLS only"):
            client(credential, "http://localhost:1")
        auth: Any = leasehold.httpx.Auth(credential)
        get: Any = httpx.get
        if library == "requests":
            auth, get = leasehold.requests.Auth(credential), requests.get
        with pytest.raises(leasehold.RequestError, match="TLS only"):
            get("http://localhost:1", auth=auth)


def test_a_server_that_another_ca_vouches_for_is_sent_nothing(
    playground: Playground,
    api: Api,
    library: str,
    credential: leasehold.Credential,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Where else `requests` finds roots: they are not added to the one that was named.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(playground.ca))
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(playground.ca))
    strange = tmp_path / "strange.pem"
    strange.write_bytes(playground.authority.pem())
    client: Any = leasehold.httpx.client if library == "httpx" else leasehold.requests.session
    with client(credential, api.url, ca=strange) as http:
        # Of `requests`; to say so is not enough.
        http.verify = False
        with pytest.raises((httpx.ConnectError, requests.exceptions.SSLError)):
            http.get(f"{api.url}/")
    assert api.asked == []


def test_the_header_alone_is_set_by_auth(
    playground: Playground, api: Api, library: str, agent: leasehold.Client, task: leasehold.Task
) -> None:
    folder = playground.folder
    files = (str(folder / "summarizer.pem"), str(folder / "summarizer.key"))
    with agent.credential(task.id, AUDIENCE) as credential:
        if library == "httpx":
            context = ssl.create_default_context(cafile=playground.ca)
            context.load_cert_chain(*files)
            http: Any = httpx.Client(auth=leasehold.httpx.Auth(credential), verify=context)
        else:
            http = requests.Session()
            http.auth = leasehold.requests.Auth(credential)
            http.verify, http.cert = str(playground.ca), files
            http.trust_env = False
        with http:
            assert http.get(f"{api.url}/").status_code == 200
            task.advance(step="review")
            assert http.get(f"{api.url}/").status_code == 200
            assert len(api.asked) == 3
            task.complete()
            with pytest.raises(leasehold.TaskEndedError):
                http.get(f"{api.url}/")


def test_with_await_it_is_the_same(playground: Playground, api: Api, task: leasehold.Task) -> None:
    async def main() -> None:
        identity = playground.identity("summarizer")
        context = ssl.create_default_context(cafile=playground.ca)
        context.load_cert_chain(
            playground.folder / "summarizer.pem", playground.folder / "summarizer.key"
        )
        async with (
            leasehold.AsyncClient(playground.address, ca=playground.ca, identity=identity) as agent,
            await agent.credential(task.id, AUDIENCE) as credential,
            leasehold.httpx.async_client(credential, api.url, ca=playground.ca) as http,
            httpx.AsyncClient(auth=leasehold.httpx.Auth(credential), verify=context) as other,
        ):
            answers = await asyncio.gather(*(http.get("/") for _ in range(5)))
            assert {answer.status_code for answer in answers} == {200}
            await asyncio.to_thread(task.advance, step="review")
            assert (await http.get("/")).status_code == 200
            assert (await other.get(api.url)).status_code == 200
            await asyncio.to_thread(task.advance, step="again")
            assert (await other.get(api.url)).status_code == 200
            async with http.stream("GET", "/") as answer:
                await credential.refresh()
                assert SUMMARIZER in (await answer.aread()).decode()
            await asyncio.to_thread(task.complete)
            for client in (http, other):
                with pytest.raises(leasehold.TaskEndedError):
                    await client.get(api.url)
        with pytest.raises(leasehold.RequestError, match=r"httpx\.AsyncClient"):
            await asyncio.to_thread(httpx.get, api.url, auth=leasehold.httpx.Auth(credential))

    asyncio.run(main())


def test_a_credential_that_blocks_serves_an_async_client_from_a_thread(
    playground: Playground, api: Api, agent: leasehold.Client, task: leasehold.Task
) -> None:
    async def main(auth: httpx.Auth) -> int:
        context = ssl.create_default_context(cafile=playground.ca)
        context.load_cert_chain(
            playground.folder / "summarizer.pem", playground.folder / "summarizer.key"
        )
        async with httpx.AsyncClient(auth=auth, verify=context) as http:
            return (await http.get(api.url)).status_code

    with agent.credential(task.id, AUDIENCE) as credential:
        assert asyncio.run(main(leasehold.httpx.Auth(credential))) == 200
