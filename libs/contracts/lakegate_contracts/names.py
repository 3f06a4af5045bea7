"""Names of tables and of their OpenLineage datasets, one spelling everywhere."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

_LEVEL = re.compile(r"[^./\x00-\x1f\x7f]{1,128}")
MAX_LEVELS = 16
_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_JOINERS = "\u200c\u200d"  # words of Persian and of Indian languages are written with them


class InvalidName(ValueError):
    """A namespace level or table name that can't be spelled in a path; the message says why."""


class TableName(NamedTuple):
    """An Iceberg table: namespace levels joined with '.', and the table's own name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}"

    @property
    def levels(self) -> tuple[str, ...]:
        return tuple(self.namespace.split("."))

    @classmethod
    def parse(cls, dotted: str) -> TableName:
        """Read `travel.flights`; the last level is the table. Raises InvalidName."""
        namespace, dot, name = dotted.rpartition(".")
        if not dot:
            raise InvalidName(f"'{dotted}' names no namespace; write namespace.table, as in travel.flights.")
        return cls.of(namespace, name)

    @classmethod
    def of(cls, namespace: str, name: str) -> TableName:
        """Check both parts. Raises InvalidName."""
        check_levels(namespace.split("."))
        check_level(name)
        return cls(namespace, name)


def check_levels(levels: list[str]) -> None:
    """Refuse a namespace with a bad level, or with more than MAX_LEVELS. Raises InvalidName."""
    if not 1 <= len(levels) <= MAX_LEVELS:
        raise InvalidName(f"A namespace has 1 to {MAX_LEVELS} levels; this one has {len(levels)}.")
    for level in levels:
        check_level(level)


def check_level(level: str) -> None:
    """Refuse what can't stand in a path or between dots. Raises InvalidName."""
    if not _LEVEL.fullmatch(level) or level != level.strip() or any(map(_unseen, level)):
        shown = "".join(ascii(each)[1:-1] if _unseen(each) else each for each in level[:140])
        raise InvalidName(
            f"'{shown}' can't be a name: use 1 to 128 characters without '.', '/', control characters, characters that "
            "nobody sees or surrounding spaces."
        )


def _unseen(character: str) -> bool:
    """Control characters, and those that change how others are read: two names would look the same."""
    if character.isprintable():
        return False
    return character not in _JOINERS and unicodedata.category(character) in _UNSEEN


def table_dataset(tenant: str, table: TableName) -> tuple[str, str]:
    """The OpenLineage pair (namespace, name) of one of our tables."""
    return f"lakegate://{tenant}", str(table)
