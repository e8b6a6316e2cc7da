"""Requests with a credential, by requests: the token, and what proves that it is ours.

That is the certificate which the connection shows, or a DPoP proof for the very request.

`session` is requests' own session, and all that most need. `Auth` sets the headers alone, for where somebody else does
the TLS.
"""

from __future__ import annotations

import os
import ssl
import threading
import urllib.parse
from collections.abc import Mapping
from typing import Any

from ._extra import needs

needs("requests", "requests")

import requests  # noqa: E402
from requests.adapters import HTTPAdapter  # noqa: E402
from requests.auth import AuthBase  # noqa: E402

from ._renewal import IssuedCredential  # noqa: E402
from ._tls import client_context  # noqa: E402
from .credential import Credential  # noqa: E402
from .errors import request_error  # noqa: E402
from .identity import KeyPair  # noqa: E402

__all__ = ["Adapter", "Auth", "session"]

_REFUSED = 401


def session(
    credential: Credential, base_url: str, *, ca: str | os.PathLike[str] | None = None
) -> requests.Session:
    """A `requests.Session` that sends the credential to the origin of `base_url`, and to no other.

    `ca`: the PEM of the CA that issued the server's certificate; default: the machine's roots.
    """
    url = urllib.parse.urlsplit(base_url)
    _must_be_secure(base_url)
    made = requests.Session()
    # With the slash: without it, `https://a.example` would be a prefix of `https://a.example.org`.
    made.mount(f"https://{url.netloc}/", Adapter(credential, ca=ca))
    return made


class Auth(AuthBase):
    """Sets the headers, over `https` only, and asks for another token when one is refused with 401.

    It shows no certificate: for tokens that are bound to one, use `session`, or TLS that shows the same. A DPoP proof
    is for the first URL: where redirects are followed, use `session`.
    """

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """What requests runs before it sends."""
        issued = self._credential.current()

        def again(response: requests.Response, **options: Any) -> requests.Response:
            if response.history:
                return response
            if _lacks_nonce(response, issued):
                response = _repeated(response, issued, options)
            if not _is_refused(response):
                return response
            try:
                following = self._credential.replace(issued)
            except BaseException:
                response.close()
                raise
            return response if following is None else _repeated(response, following, options)

        request.register_hook("response", again)  # type: ignore[no-untyped-call]
        return _show(request, issued)


class Adapter(HTTPAdapter):
    """Sends every request with the credential: mount it for the origins that the credential is meant for alone."""

    def __init__(
        self, credential: Credential, *, ca: str | os.PathLike[str] | None = None, **options: Any
    ) -> None:
        """`options` are those of `requests.adapters.HTTPAdapter`."""
        self._credential = credential
        self._ca = ca
        self._options = options
        self._lock = threading.Lock()
        self._inner: tuple[KeyPair | None, _Inner] | None = None
        super().__init__(**options)

    def send(  # noqa: PLR0917
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Sends it; once more with another credential, if it is refused and can be sent again.

        `verify` and `cert` do not count: whom to trust was said by `ca`, and what is shown belongs to the token.
        """
        issued = self._credential.current()
        response = self._send(request, issued, stream, timeout, proxies)
        if not _is_refused(response):
            return response
        try:
            following = self._credential.replace(issued)
        except BaseException:
            response.close()
            raise
        if following is None:
            return response
        response.close()
        return self._send(request, following, stream, timeout, proxies)

    def close(self) -> None:
        """Closes its connections."""
        with self._lock:
            inner, self._inner = self._inner, None
        if inner is not None:
            inner[1].close()
        super().close()

    def _send(
        self,
        request: requests.PreparedRequest,
        issued: IssuedCredential,
        stream: bool,
        timeout: Any,
        proxies: Mapping[str, str] | None,
    ) -> requests.Response:
        inner = self._way(issued.key_pair)

        def once() -> requests.Response:
            # A copy: what a redirect is made from stays without the credential.
            sent = _show(request.copy(), issued)
            response = inner.send(sent, stream, timeout, True, None, proxies)
            response.request = request
            return response

        response = once()
        if _lacks_nonce(response, issued):
            response.close()
            response = once()
        return response

    def _way(self, pair: KeyPair | None) -> _Inner:
        with self._lock:
            if self._inner is None or self._inner[0] is not pair:
                if self._inner is not None:
                    # Those in use are not cut off; they are not used again.
                    self._inner[1].close()
                self._inner = (pair, _Inner(client_context(self._ca, pair), self._options))
            return self._inner[1]


class _Inner(HTTPAdapter):
    """Connections that show one certificate."""

    def __init__(self, context: ssl.SSLContext, options: Mapping[str, Any]) -> None:
        self._context = context
        super().__init__(**options)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Has every connection use our TLS."""
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Has every connection through a proxy use our TLS."""
        return super().proxy_manager_for(proxy, **options, ssl_context=self._context)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Adds no roots to those of our TLS."""
        conn.cert_reqs = "CERT_REQUIRED"


def _show(request: requests.PreparedRequest, issued: IssuedCredential) -> requests.PreparedRequest:
    """Puts the credential into a request."""
    url = request.url or ""
    _must_be_secure(url)
    request.headers.update(issued.headers(request.method, url))
    return request


def _repeated(
    response: requests.Response, issued: IssuedCredential, options: Mapping[str, Any]
) -> requests.Response:
    """The answer to the same request, sent again."""
    response.close()
    request = response.request.copy()
    request.hooks = {"response": []}
    second: requests.Response = response.connection.send(_show(request, issued), **options)
    second.history.append(response)
    return second


def _lacks_nonce(response: requests.Response, issued: IssuedCredential) -> bool:
    """Whether the server demands a nonce in the proof, and the request can be sent again."""
    demanded = issued.prover is not None and issued.prover.hear(
        response.request.url or "", response.status_code, response.headers
    )
    return demanded and _is_refused(response)


def _is_refused(response: requests.Response) -> bool:
    """Whether another credential may do, and the request can be sent again: a stream is read only once."""
    body = response.request.body
    return response.status_code == _REFUSED and (body is None or isinstance(body, (bytes, str)))


def _must_be_secure(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" or not parts.netloc:
        origin = f"{parts.scheme}://{parts.hostname}"
        raise request_error("url", f"`{origin}` is not `https`; a credential goes over TLS only")
