"""Scopes as they are granted: which exist, and which cover which."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lakegate_contracts.identity import Principal, Scope, covers
from lakegate_gateway.errors import InvalidScope

_PATTERN = re.compile(r"[^\s@\x00-\x1f\x7f]{1,256}")
_NAMES = frozenset(scope.value for scope in Scope)
MAX_SCOPES = 64


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """The scopes without duplicates, in order. Raises InvalidScope."""
    unique = tuple(dict.fromkeys(scopes))
    if not 1 <= len(unique) <= MAX_SCOPES:
        raise InvalidScope(f"Name 1 to {MAX_SCOPES} scopes, such as loads:write@travel.*")
    for scope in unique:
        name, at, pattern = scope.partition("@")
        if name not in _NAMES:
            raise InvalidScope(f"There is no scope {name[:100]!r}. There are: {', '.join(sorted(_NAMES))}.")
        if at and (name == Scope.ADMIN or not _PATTERN.fullmatch(pattern)):
            raise InvalidScope(
                f"{scope[:200]!r}: after the @ stands a namespace pattern such as travel.* (and admin takes none)."
            )
    return unique


def narrow(held: tuple[str, ...], wanted: Iterable[str]) -> tuple[str, ...] | None:
    """`wanted` when every one of them is covered by what is held; else None."""
    asked = tuple(dict.fromkeys(wanted))
    return asked if all(any(_includes(have, want) for have in held) for want in asked) else None


def _includes(held: str, wanted: str) -> bool:
    have, _, have_pattern = held.partition("@")
    want, _, want_pattern = wanted.partition("@")
    if have == Scope.ADMIN:
        return True
    if have != want:
        return False
    if not have_pattern or have_pattern == want_pattern:
        return True
    # a pattern is covered by another only where that is certain: a subtree by a subtree above it, or a plain name
    plain = want_pattern.removesuffix(".*")
    if not plain or any(character in plain for character in "*?["):
        return False
    if plain != want_pattern and not have_pattern.endswith(".*"):
        return False
    return covers(have_pattern, plain)


def for_loading(principal: Principal) -> Principal:
    """The caller as ingest speaks for it to the catalog: who may load into a namespace may have its tables made."""
    extra = [
        f"{right.value}{at}{pattern}"
        for name, at, pattern in (scope.partition("@") for scope in principal.scopes)
        if name == Scope.LOADS_WRITE
        for right in (Scope.DATASETS_READ, Scope.DATASETS_WRITE)
    ]
    return principal.model_copy(update={"scopes": tuple(dict.fromkeys([*principal.scopes, *extra]))})
