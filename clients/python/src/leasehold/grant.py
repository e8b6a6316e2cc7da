"""What a task's credentials may at most allow: RFC 9396 `authorization_details`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from .errors import request_error

__all__ = ["Access", "Grant", "parse_grant", "to_json"]

_MEMBERS = {"type", "audience", "actions", "data_class", "max_ttl_seconds"}
_TYPE = "resource_access"


@dataclass(frozen=True)
class Access:
    """Actions on one resource: one entry of a grant. There are no wildcards."""

    #: The one resource that it is about.
    audience: str
    #: At least one.
    actions: frozenset[str]
    #: Classes of data; empty: none.
    data_class: frozenset[str] = frozenset()
    #: Longest life of a credential that uses the entry, in seconds.
    max_ttl_seconds: int | None = None

    def __init__(
        self,
        audience: str,
        actions: Iterable[str],
        data_class: Iterable[str] = (),
        max_ttl_seconds: int | None = None,
    ) -> None:
        for field, value in (("actions", actions), ("data_class", data_class)):
            if isinstance(value, str):
                raise request_error(field, f"is one text; give a list, such as `[{value!r}]`")
        object.__setattr__(self, "audience", audience)
        object.__setattr__(self, "actions", frozenset(actions))
        object.__setattr__(self, "data_class", frozenset(data_class))
        object.__setattr__(self, "max_ttl_seconds", max_ttl_seconds)

    def allows(self, audience: str, action: str, data_class: str | None = None) -> bool:
        """Whether an action, on a class of data if one is named, is allowed on an audience."""
        return (
            self.audience == audience
            and action in self.actions
            and (data_class is None or data_class in self.data_class)
        )


#: Entries, or in short the actions by their audience: `{"https://ledger.example": ["read"]}`.
Grant: TypeAlias = Mapping[str, Iterable[str]] | Iterable[Access]


def to_json(grant: Grant) -> str:
    """A grant as the contract has it: a JSON array."""
    if isinstance(grant, Mapping):
        entries = [Access(audience, actions) for audience, actions in grant.items()]
    else:
        entries = list(grant)
    return json.dumps([_entry(entry) for entry in entries])


def parse_grant(details: Any) -> tuple[Access, ...]:
    """The entries of `authorization_details`.

    Raises `ValueError` if one is of a type, or has a member, that is not known: it may be the one that narrows it.
    """
    if not isinstance(details, list):
        raise ValueError("`authorization_details` is no list")  # noqa: TRY004
    return tuple(_access(entry) for entry in details)


def _entry(access: Access) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": _TYPE,
        "audience": access.audience,
        "actions": sorted(access.actions),
    }
    if access.data_class:
        entry["data_class"] = sorted(access.data_class)
    if access.max_ttl_seconds is not None:
        entry["max_ttl_seconds"] = access.max_ttl_seconds
    return entry


def _access(entry: Any) -> Access:
    if not isinstance(entry, dict) or not set(entry) <= _MEMBERS or entry.get("type") != _TYPE:
        raise ValueError("an entry of `authorization_details` is of no known form")
    audience, ttl = entry.get("audience"), entry.get("max_ttl_seconds")
    if not isinstance(audience, str) or not (ttl is None or type(ttl) is int):
        raise ValueError("an entry of `authorization_details` is of no known form")
    actions, data_class = _texts(entry.get("actions")), _texts(entry.get("data_class", []))
    return Access(audience, actions, data_class, ttl)


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("an entry of `authorization_details` is of no known form")
    return value
