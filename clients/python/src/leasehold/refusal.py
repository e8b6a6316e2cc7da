"""How a resource server says no (RFC 6750 section 3, RFC 9449 section 7.1)."""

from __future__ import annotations

import re

__all__ = ["TokenRefusedError", "VerifierUnavailableError"]

#: What may not stand in a description (RFC 6750 section 3).
_NOT_DESCRIBED = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
_FORBIDDEN = 403


class TokenRefusedError(Exception):
    """The token is not good for the request. Nothing of the token is in it."""

    #: 401: another token, or another proof, may do. 403: this one is good, but not for that.
    status: int
    #: `invalid_token` or `insufficient_scope`; of a DPoP proof `invalid_dpop_proof` or `use_dpop_nonce`.
    error: str

    def __init__(
        self,
        message: str,
        status: int = 401,
        *,
        error: str | None = None,
        dpop_algorithms: str | None = None,
        nonce: str | None = None,
    ) -> None:
        """`dpop_algorithms`: which proofs may be signed with, where one is due. `nonce`: for the next proof."""
        super().__init__(message)
        self.status = status
        given = "insufficient_scope" if status == _FORBIDDEN else "invalid_token"
        self.error = error or given
        self._dpop_algorithms = dpop_algorithms
        self._nonce = nonce

    @property
    def www_authenticate(self) -> str:
        """The `WWW-Authenticate` header of the answer."""
        description = _NOT_DESCRIBED.sub("?", str(self))
        scheme, more = "Bearer", ""
        if self._dpop_algorithms is not None:
            scheme, more = "DPoP", f', algs="{self._dpop_algorithms}"'
        return f'{scheme} error="{self.error}", error_description="{description}"{more}'

    @property
    def headers(self) -> dict[str, str]:
        """All headers of the answer that the refusal makes: the challenge, and a nonce where proofs must have one."""
        nonce = {} if self._nonce is None else {"DPoP-Nonce": self._nonce}
        return {"WWW-Authenticate": self.www_authenticate, **nonce}


class VerifierUnavailableError(Exception):
    """The broker cannot be asked for its keys, or about a token: no yes, and no fault of the token."""

    #: For the answer to whoever showed the token.
    status = 503
