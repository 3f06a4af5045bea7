"""Namespace patterns of scopes as a condition that a store can look for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lakegate_catalog.store.port import SEPARATOR

_WILD = f"[^{SEPARATOR}]"


def parents_in(areas: Sequence[str]) -> str:
    """A regular expression, PostgreSQL's and PCRE's alike, of the `parent` of each name in one of `areas`.

    The parent of a table ends with its namespace, that of another dataset is its namespace. Sets of characters, as
    `[ab]`, are written differently everywhere: here they stand for any character, and the caller looks again.
    """
    found = []
    for area in areas:
        stem, below = (area[:-2], f"(\\.{_WILD}*)?") if area.endswith(".*") else (area, "")
        found.append("".join(_part(part) for part in re.findall(r"\[!?\]?[^\]]*\]|.", stem, re.DOTALL)) + below)
    return f"^([^{SEPARATOR}]*{SEPARATOR})?({'|'.join(found)})$"


def _part(part: str) -> str:
    if part == "*":
        return f"{_WILD}*"
    return _WILD if part == "?" or len(part) > 1 else re.escape(part)
