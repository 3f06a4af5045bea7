"""A block of records as columns of text: what the tolerant path judges, whatever the format was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa


class Records(Protocol):
    """A block: whole records, and the line on which each begins."""

    def records(self) -> tuple[list[bytes], list[int]]: ...


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that is no row at all. `index` counts the block's records from 0."""

    index: int
    reason: str
    column: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """`table` has columns c0, c1, … as text, null where the file has null.

    `positions` gives the record of each table row; None when no record is broken.
    """

    table: pa.Table
    positions: Any
    broken: tuple[Broken, ...]
    source: Records
    unknown: tuple[str, ...] = ()  # keys of JSON objects that were not asked for

    @property
    def records(self) -> int:
        return self.table.num_rows + len(self.broken)


def positions_of(rows: int, broken: Sequence[Broken]) -> Any:
    """Which record each of `rows` table rows is, when `broken` ones lie between; None when none does."""
    if not broken:
        return None
    gone = {item.index for item in broken}
    return pa.array((i for i in range(rows + len(broken)) if i not in gone), pa.int64())
