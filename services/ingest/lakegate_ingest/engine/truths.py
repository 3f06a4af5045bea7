"""Where true and false stand in JSON: DuckDB's reader makes them 1 and 0 in a column of numbers, without a word.

Counted as the file is read, in one vectorised pass; the count has to be that of the boolean columns' values. Only when
it is not (a text says "true", or a nested value does), or an escape may hide a letter of "true", the file is searched
for the names of the columns themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_WORDS = (b"true", b"fals")  # four bytes each: compared as one number, at each of four alignments
_NUMBERS = tuple(pa.scalar(int.from_bytes(word, "little"), pa.uint32()) for word in _WORDS)
_ESCAPES = (b"\\u006", b"\\u007")  # of the letters from a to z
_PIECE = 64 * 1024  # numbers compared at once: the bits stay in the cache
_READ_BYTES = 1024 * 1024
_OVERLAP_BYTES = 64 * 1024


# A number that is so small that a double has only 0 for it; four bytes of it may stand in the range before.
_TINY = (re.compile(rb"e-[0-9]{3,}+(?:[^0-9a-zA-Z-]|\Z)"), re.compile(rb"E-[0-9]{3,}+(?:[^0-9a-zA-Z-]|\Z)"))
_ZEROS = b"0" * 100


def _may_be_tiny(text: bytes) -> bool:
    """Looking for one letter costs a tenth of looking for the pattern, and few files have a capital E."""
    small, capital = _TINY
    return small.search(text) is not None or (b"E" in text and capital.search(text) is not None)


class TruthCount:
    """Told of every range that is read, in any order and by any thread."""

    def __init__(self) -> None:
        self.tiny = False  # there may be a number that becomes 0
        self._seen: dict[tuple[int, int], int] = {}  # (start, end): words that end in it
        self.escaped = False  # a letter of a word may be written as \u0074

    def saw(self, start: int, before: bytes, data: bytes) -> None:
        """`data` from byte `start` on; `before` are the four bytes in front of it."""
        self.tiny = self.tiny or _ZEROS in data or _may_be_tiny(data) or _may_be_tiny(before + data[:64])
        border = before[-3:] + data[:3]
        if b"\\" in data or b"\\" in before:
            self.escaped |= any(start in text for start in _ESCAPES for text in (data, before + data[:4]))
        found = sum(border.count(word) for word in _WORDS) + _count(data)
        self._seen[start, start + len(data)] = found

    def total(self, start: int, end: int) -> int | None:
        """The words between the two, or None when no ranges that were read make up just that.

        DuckDB reads the beginning twice, the first time further: whichever ranges join up will do.
        """
        reached = {start: 0}
        for (first, last), found in sorted(self._seen.items()):
            if first in reached and last > first:
                reached[last] = reached[first] + found
        return reached.get(end)


def _count(data: bytes) -> int:
    buffer = pa.py_buffer(data)
    found = 0
    for shift in range(4):
        values: Any = pa.Array.from_buffers(pa.uint32(), max(len(data) - shift, 0) // 4, [None, buffer.slice(shift)])
        for start in range(0, len(values), _PIECE):
            piece = values[start : start + _PIECE]
            found += sum(pc.equal(piece, number).true_count for number in _NUMBERS)
    return found


def truth_under(path: Path, skip: int, names: Sequence[str]) -> bool:
    """Whether the file has true or false as the value of one of the keys, at any depth, or of one with an escape."""
    return _found_under(path, skip, names, rb"[tf]")


def long_fraction_under(path: Path, skip: int, names: Sequence[str]) -> bool:
    """Likewise a number with a point or an exponent, and with more digits, or a smaller one, than a double may hold."""
    return _found_under(path, skip, names, rb"-?(?:(?=[0-9.]{16})[0-9]*[.eE]|[0-9.]+[eE]-[0-9]{3})")


def tiny_under(path: Path, skip: int, names: Sequence[str]) -> bool:
    """Likewise a number, or a text, that a double may only hold as 0."""
    return _found_under(path, skip, names, rb'"?-?(?:[0-9.]+[eE]-[0-9]{3}|0\.0{200})')


def _found_under(path: Path, skip: int, names: Sequence[str], value: bytes) -> bool:
    keys = b"|".join(re.escape(json.dumps(name, ensure_ascii=False)[1:-1].encode()) for name in names)
    named = re.compile(rb'"(?:%b)"[ \t\r\n]*+:[ \t\r\n]*+%b' % (keys, value))
    escaped = re.compile(rb'\\[^"]*+"[ \t\r\n]*+:[ \t\r\n]*+%b' % value)
    with path.open("rb", buffering=0) as file:
        file.seek(skip)
        rest = b""
        while chunk := file.read(_READ_BYTES):
            text = rest + chunk
            if named.search(text) or (b"\\" in text and escaped.search(text)):
                return True
            rest = text[-_OVERLAP_BYTES:]
    return False
