"""A block of records as columns of text: what the tolerant path judges, whatever the format was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, slots=True)
class Split:
    """The records of a block. `texts` are UTF-8 and may still end in their line breaks, of the characters `breaks`.

    `places` says how many lines below `first_line` each begins; None when that is its index.
    """

    texts: pa.StringArray
    first_line: int
    places: Any = None
    breaks: str = "\n"

    def raw(self, indices: Any) -> Any:
        """The text of some records, as it stands in the file."""
        return (
            pc.utf8_rtrim(self.texts.take(indices), characters=self.breaks) if self.breaks else self.texts.take(indices)
        )

    def lines(self, indices: Any) -> Any:
        """The physical line on which each of some records begins, from 1."""
        places = indices if self.places is None else self.places.take(indices)
        return pc.add(places.cast(pa.int64()), pa.scalar(self.first_line, pa.int64()))


class Records(Protocol):
    """A block of whole records."""

    def split(self) -> Split: ...


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


def among(count: int, indices: Sequence[int]) -> Any:
    """For each number below `count` whether it is one of `indices`."""
    return pc.is_in(_numbers(count), value_set=pa.array(indices, pa.int64()))


def positions_of(rows: int, broken: Sequence[Broken]) -> Any:
    """Which record each of `rows` table rows is, when `broken` ones lie between; None when none does."""
    if not broken:
        return None
    count = rows + len(broken)
    return _numbers(count).filter(pc.invert(among(count, [item.index for item in broken])))


def _numbers(count: int) -> Any:
    """0, 1, … as an Arrow array."""
    arrow: Any = pa  # its stubs do not know arange yet
    return arrow.arange(0, count)
