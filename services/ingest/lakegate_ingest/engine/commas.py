"""Commas before a closing bracket, {"a": 1,}: DuckDB's reader of JSON takes them, where JSON has none (RFC 8259, 4)."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# Two bytes as one number, the first of them in its lower half: a comma or a space (or one of !$%()-, told apart later),
# then } or ]. Looking for each bracket behind each byte would take four times as long.
_PAIR = pa.scalar(0xDFD2, pa.uint16())
_CLOSED = pa.scalar(0x5D00, pa.uint16())
_COMMA = pa.scalar(ord(","), pa.uint8())
_SPACES = pa.array(list(b" \t\r"), pa.uint8())
_ONE = pa.scalar(1, pa.int64())
# RE2. In what is JSON otherwise, no quote stands outside of strings.
_STRINGS = r'"(?:[^"\\]|\\.)*"'
_STRAY = r",[ \t\r\n]*[}\]]"


class StrayCommas:
    """Looks for them in text that comes in chunks. A line break is no space to it. It does not know strings."""

    def __init__(self) -> None:
        self.found = False
        self._last = b""  # byte but spaces, and a space if one followed

    def feed(self, chunk: bytes) -> None:
        if chunk and not self.found:
            text = self._last + chunk
            self.found = any(_in_pairs(text, shift) for shift in (0, 1))
            end = text.rstrip(b" \t\r")
            self._last = end[-1:] + (b" " if len(end) < len(text) else b"")


def _in_pairs(text: bytes, shift: int) -> bool:
    buffer = pa.py_buffer(text)
    pairs: Any = pa.Array.from_buffers(pa.uint16(), max(len(text) - shift, 0) // 2, [None, buffer.slice(shift)])
    closed = pc.equal(pc.bit_wise_and(pairs, _PAIR), _CLOSED)
    if not closed.true_count:
        return False
    values: Any = pa.Array.from_buffers(pa.uint8(), len(text), [None, buffer])
    places: Any = pc.indices_nonzero(closed).cast(pa.int64())
    places = pc.add(pc.add(places, places), pa.scalar(shift, pa.int64()))
    while len(places):
        before = values.take(places)
        if pc.equal(before, _COMMA).true_count:
            return True
        spaces = pc.and_(pc.is_in(before, value_set=_SPACES), pc.greater(places, pa.scalar(0, pa.int64())))
        places = pc.subtract(places.filter(spaces), _ONE)
    return False


def with_stray_comma(texts: Any) -> Any:
    """The indices of those `texts` that would be JSON but for such a comma; of other texts that are none, perhaps."""
    likely = pc.indices_nonzero(pc.match_substring_regex(texts, _STRAY))
    if not len(likely):
        return likely
    bare = pc.replace_substring_regex(texts.take(likely), _STRINGS, '""')
    return likely.filter(pc.match_substring_regex(bare, _STRAY))
