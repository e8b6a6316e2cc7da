"""How a resource server says no (RFC 6750 section 3)."""

from __future__ import annotations

import re

__all__ = ["TokenRefusedError", "VerifierUnavailableError"]

#: What may not stand in a description (RFC 6750 section 3).
_NOT_DESCRIBED = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")


class TokenRefusedError(Exception):
    """The token is not good for the request. Nothing of the token is in it."""

    #: 401: another token may do. 403: this one is good, but not for that.
    status: int
    #: `invalid_token` or `insufficient_scope`.
    error: str

    def __init__(self, message: str, status: int = 401) -> None:
        super().__init__(message)
        self.status = status
        self.error = "insufficient_scope" if status == 403 else "invalid_token"  # noqa: PLR2004

    @property
    def www_authenticate(self) -> str:
        """The `WWW-Authenticate` header of the answer."""
        description = _NOT_DESCRIBED.sub("?", str(self))
        return f'Bearer error="{self.error}", error_description="{description}"'


class VerifierUnavailableError(Exception):
    """The broker cannot be asked for its keys, or about a token: no yes, and no fault of the token."""

    #: For the answer to whoever showed the token.
    status = 503
