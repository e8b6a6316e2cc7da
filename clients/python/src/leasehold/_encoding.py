"""base64url and JSON as JOSE has them: one spelling, and no member twice."""

from __future__ import annotations

import base64
import json
from typing import Any


def encoded(content: bytes) -> str:
    """base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """The bytes; `ValueError` if it is no base64url."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def json_of(part: str) -> Any:
    """The JSON in a part of a JWS; `ValueError` if it is none, or a member stands twice in it."""
    try:
        return json.loads(decoded(part), object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("too deep") from None


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member stands twice")
    return found
