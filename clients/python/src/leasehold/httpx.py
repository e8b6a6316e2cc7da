"""Requests with a credential, by httpx: the token, and what proves that it is ours.

That is the certificate which the connection shows, or a DPoP proof for the very request.

`client` and `async_client` are httpx's own clients, and all that most need. `Auth` sets the headers alone, for where
somebody else does the TLS.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ._extra import needs

needs("httpx", "httpx")

import httpx  # noqa: E402

from ._renewal import IssuedCredential  # noqa: E402
from ._tls import client_context  # noqa: E402
from .credential import Credential  # noqa: E402
from .errors import request_error  # noqa: E402
from .identity import KeyPair  # noqa: E402

if TYPE_CHECKING:
    from ._aio_credential import AsyncCredential

__all__ = ["AsyncTransport", "Auth", "Transport", "async_client", "client"]

_REFUSED = 401
_Way = TypeVar("_Way")


def client(
    credential: Credential,
    base_url: str,
    *,
    ca: str | os.PathLike[str] | None = None,
    **options: Any,
) -> httpx.Client:
    """An `httpx.Client` that sends the credential to the origin of `base_url`, and to no other.

    `ca`: the PEM of the CA that issued the server's certificate; default: the machine's roots. `options` are httpx's.
    """
    mounts = {_origin(base_url): Transport(credential, ca=ca)}
    return httpx.Client(base_url=base_url, mounts=mounts, **options)


def async_client(
    credential: AsyncCredential,
    base_url: str,
    *,
    ca: str | os.PathLike[str] | None = None,
    **options: Any,
) -> httpx.AsyncClient:
    """As `client`, with `await`."""
    mounts = {_origin(base_url): AsyncTransport(credential, ca=ca)}
    return httpx.AsyncClient(base_url=base_url, mounts=mounts, **options)


class Auth(httpx.Auth):
    """Sets the headers, over `https` only, and asks for another token when one is refused with 401.

    It shows no certificate: for tokens that are bound to one, use `client`, or TLS that shows the same. A DPoP proof is
    for the first URL: where redirects are followed, use `client`. A `Credential` does for both of httpx's clients, an
    `AsyncCredential` for `httpx.AsyncClient`.
    """

    def __init__(self, credential: Credential | AsyncCredential) -> None:
        self._credential = credential

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """What `httpx.Client` runs."""
        credential = self._credential
        if not isinstance(credential, Credential):
            raise request_error("credential", "is an `AsyncCredential`; use `httpx.AsyncClient`")
        issued = credential.current()
        response = yield _show(request, issued)
        if _lacks_nonce(request, response, issued):
            response = yield _show(request, issued)
        if _is_refused(request, response):
            following = credential.replace(issued)
            if following is not None:
                yield _show(request, following)

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """What `httpx.AsyncClient` runs."""
        credential = self._credential
        issued = await _awaited(credential, credential.current)
        response = yield _show(request, issued)
        if _lacks_nonce(request, response, issued):
            response = yield _show(request, issued)
        if _is_refused(request, response):
            following = await _awaited(credential, credential.replace, issued)
            if following is not None:
                yield _show(request, following)


class Transport(httpx.BaseTransport):
    """Sends every request with the credential: mount it for the origins that the credential is meant for alone."""

    def __init__(
        self, credential: Credential, *, ca: str | os.PathLike[str] | None = None, **options: Any
    ) -> None:
        """`options` are those of `httpx.HTTPTransport`."""
        self._credential = credential
        self._ways = _Ways(
            lambda pair: httpx.HTTPTransport(verify=client_context(ca, pair), **options)
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Sends it; once more with another credential, if it is refused and can be sent again."""
        issued = self._credential.current()
        response = self._send(request, issued)
        if not _is_refused(request, response):
            return response
        try:
            following = self._credential.replace(issued)
        except BaseException:
            response.close()
            raise
        if following is None:
            return response
        response.close()
        return self._send(request, following)

    def close(self) -> None:
        """Closes its connections."""
        for way in self._ways.all():
            way.close()

    def _send(self, request: httpx.Request, issued: IssuedCredential) -> httpx.Response:
        response = self._send_once(request, issued)
        if not _lacks_nonce(request, response, issued):
            return response
        response.close()
        return self._send_once(request, issued)

    def _send_once(self, request: httpx.Request, issued: IssuedCredential) -> httpx.Response:
        way, outdated = self._ways.enter(issued.key_pair)
        if outdated is not None:
            outdated.close()
        try:
            response = way.inner.handle_request(_showing(request, issued))
        except BaseException:
            self._leave(way)
            raise
        stream = cast("httpx.SyncByteStream", response.stream)
        response.stream = _Stream(stream, lambda: self._leave(way))
        return response

    def _leave(self, way: _WayIn[httpx.HTTPTransport]) -> None:
        outdated = self._ways.leave(way)
        if outdated is not None:
            outdated.close()


class AsyncTransport(httpx.AsyncBaseTransport):
    """As `Transport`, with `await`."""

    def __init__(
        self,
        credential: AsyncCredential,
        *,
        ca: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        """`options` are those of `httpx.AsyncHTTPTransport`."""
        self._credential = credential
        self._ways = _Ways(
            lambda pair: httpx.AsyncHTTPTransport(verify=client_context(ca, pair), **options)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends it; once more with another credential, if it is refused and can be sent again."""
        issued = await self._credential.current()
        response = await self._send(request, issued)
        if not _is_refused(request, response):
            return response
        try:
            following = await self._credential.replace(issued)
        except BaseException:
            await response.aclose()
            raise
        if following is None:
            return response
        await response.aclose()
        return await self._send(request, following)

    async def aclose(self) -> None:
        """Closes its connections."""
        for way in self._ways.all():
            await way.aclose()

    async def _send(self, request: httpx.Request, issued: IssuedCredential) -> httpx.Response:
        response = await self._send_once(request, issued)
        if not _lacks_nonce(request, response, issued):
            return response
        await response.aclose()
        return await self._send_once(request, issued)

    async def _send_once(self, request: httpx.Request, issued: IssuedCredential) -> httpx.Response:
        way, outdated = self._ways.enter(issued.key_pair)
        if outdated is not None:
            await outdated.aclose()
        try:
            response = await way.inner.handle_async_request(_showing(request, issued))
        except BaseException:
            await self._leave(way)
            raise
        stream = cast("httpx.AsyncByteStream", response.stream)
        response.stream = _AsyncStream(stream, lambda: self._leave(way))
        return response

    async def _leave(self, way: _WayIn[httpx.AsyncHTTPTransport]) -> None:
        outdated = self._ways.leave(way)
        if outdated is not None:
            await outdated.aclose()


class _WayIn(Generic[_Way]):
    """Connections that show one certificate, and how many answers are still being read from them."""

    def __init__(self, inner: _Way, pair: KeyPair | None) -> None:
        self.inner = inner
        self.pair = pair
        self.users = 0
        self.is_outdated = False


class _Ways(Generic[_Way]):
    """The connections of the present certificate. Those of an earlier one end when their last answer has been read."""

    def __init__(self, make: Callable[[KeyPair | None], _Way]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._present: _WayIn[_Way] | None = None
        self._earlier: set[_WayIn[_Way]] = set()

    def enter(self, pair: KeyPair | None) -> tuple[_WayIn[_Way], _Way | None]:
        """The connections to use, and those that are to be closed."""
        with self._lock:
            present, closing = self._present, None
            if present is None or present.pair is not pair:
                fresh = _WayIn(self._make(pair), pair)
                if present is not None:
                    present.is_outdated = True
                    if present.users == 0:
                        closing = present.inner
                    else:
                        self._earlier.add(present)
                self._present = present = fresh
            present.users += 1
            return present, closing

    def leave(self, way: _WayIn[_Way]) -> _Way | None:
        """An answer has been read; the connections that are to be closed."""
        with self._lock:
            way.users -= 1
            if way.is_outdated and way.users == 0:
                self._earlier.discard(way)
                return way.inner
        return None

    def all(self) -> list[_Way]:
        """All connections, at the end."""
        with self._lock:
            ways = [*self._earlier, *([] if self._present is None else [self._present])]
            self._present, self._earlier = None, set()
        return [way.inner for way in ways]


class _Stream(httpx.SyncByteStream):
    def __init__(self, inner: httpx.SyncByteStream, read: Callable[[], None]) -> None:
        self._inner, self._read = inner, read
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._inner

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._inner.close()
            self._read()


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, read: Callable[[], Awaitable[None]]) -> None:
        self._inner, self._read = inner, read
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            yield part

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self._inner.aclose()
            await self._read()


def _show(request: httpx.Request, issued: IssuedCredential) -> httpx.Request:
    """Puts the credential into a request."""
    if request.url.scheme != "https":
        origin = f"{request.url.scheme}://{request.url.host}"
        raise request_error("url", f"`{origin}` is not `https`; a credential goes over TLS only")
    request.headers.update(issued.headers(request.method, str(request.url)))
    return request


def _showing(request: httpx.Request, issued: IssuedCredential) -> httpx.Request:
    """A request with the credential. The one given, which a redirect is made from, stays without."""
    sent = httpx.Request(
        request.method,
        request.url,
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions,
    )
    return _show(sent, issued)


def _lacks_nonce(
    request: httpx.Request, response: httpx.Response, issued: IssuedCredential
) -> bool:
    """Whether the server demands a nonce in the proof, and the request can be sent again."""
    demanded = issued.prover is not None and issued.prover.hear(
        str(request.url), response.status_code, response.headers
    )
    return demanded and _is_refused(request, response)


def _is_refused(request: httpx.Request, response: httpx.Response) -> bool:
    """Whether another credential may do, and the request can be sent again: a stream is read only once."""
    return response.status_code == _REFUSED and isinstance(request.stream, httpx.ByteStream)


def _origin(base_url: str) -> str:
    url = httpx.URL(base_url)
    if url.scheme != "https" or not url.host:
        raise request_error(
            "base_url", f"`{base_url}` is not `https`; a credential goes over TLS only"
        )
    port = "" if url.port is None else f":{url.port}"
    return f"https://{url.host}{port}"


async def _awaited(credential: Any, verb: Callable[..., Any], *arguments: Any) -> Any:
    """A verb of either kind of credential; one that blocks runs in a thread."""
    if isinstance(credential, Credential):
        return await asyncio.to_thread(verb, *arguments)
    return await verb(*arguments)
