"""Whole records of a text file, in blocks of bounded size that know their physical lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakegate_ingest.engine.batch import Split
from lakegate_ingest.engine.counting import too_long, unclosed
from lakegate_ingest.engine.errors import InvalidEncoding

_READ_BYTES = 2 * 1024 * 1024
_NEWLINE = pa.scalar(10, pa.uint8())


@dataclass(frozen=True)
class Block:
    """Bytes that begin and end with a record. `first_line` counts from 1; `end` is a position in the file."""

    data: bytes
    first_line: int
    end: int
    quoted: re.Pattern[bytes] | None  # set when line breaks may stand inside quotes
    delimiter: bytes = b","

    @cached_property
    def well_formed(self) -> bool:
        """Whether every quote opens, closes or escapes, as far as is easily told."""
        return self.quoted is None or b'"' not in self.data or well_formed(self.data, self.delimiter)

    def split(self) -> Split:
        """Blank lines are no records."""
        data = self.data
        if self.quoted is not None and b'"' in data:
            if not self.well_formed:
                return _split_quoted(data, self.first_line, self.quoted)
            parts = data.split(b'"')
            within = b"".join(parts[1::2])
            breaks = b"\n" in within or b"\r" in within
            if breaks and b"\r" in data:
                return _split_quoted(data, self.first_line, self.quoted)
            if breaks:
                parts[1::2] = [part.replace(b"\n", b" ") for part in parts[1::2]]
                return _split_lines(data, self.first_line, b'"'.join(parts))
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
            data = data.replace(b"\r", b"\n") if self.quoted is not None else data
        return _split_lines(data, self.first_line)


def _split_lines(data: bytes, first_line: int, masked: bytes | None = None) -> Split:
    """At each line break; those that `masked` has as spaces stand inside quotes."""
    if not data.endswith(b"\n"):
        data += b"\n"
        masked = None if masked is None else masked + b"\n"
    ends = _breaks_in(data)
    places: Any = None
    if masked is not None:
        last = pc.is_in(ends, value_set=_breaks_in(masked))
        places = pa.concat_arrays(
            [pa.array([0], pa.int64()), pc.add(pc.indices_nonzero(last), 1).cast(pa.int64())[:-1]]
        )
        ends = ends.filter(last)
    offsets: Any = pa.concat_arrays([pa.array([0], pa.int32()), pc.add(ends, 1).cast(pa.int32())])
    texts = pa.StringArray.from_buffers(len(ends), offsets.buffers()[1], pa.py_buffer(data))
    filled = pc.greater(pc.binary_length(texts), pa.scalar(1, pa.int32()))
    if not pc.all(filled).as_py():
        texts = texts.filter(filled)
        places = pc.indices_nonzero(filled) if places is None else places.filter(filled)
    return Split(texts, first_line, places)


def _breaks_in(data: bytes) -> Any:
    characters: Any = pa.Array.from_buffers(pa.uint8(), len(data), [None, pa.py_buffer(data)])
    return pc.indices_nonzero(pc.equal(characters, _NEWLINE))


def record_pattern(delimiter: str) -> re.Pattern[bytes]:
    """One record with its line break: fields that a quote opens at their start only, RFC 4180 otherwise."""
    other = re.escape(delimiter.encode())
    field = rb'(?:"[^"]*+(?:""[^"]*+)*+(?:"|\Z))?+[^\r\n%b]*+' % other
    return re.compile(rb"%b(?:%b%b)*+(\r\n|\n|\r|\Z)" % (field, other, field))


def field_pattern(delimiter: str) -> re.Pattern[bytes]:
    """One field of such a record: what opens and closes its quotes, and what follows them.

    For the few records that need it. (In `record_pattern` groups would be repeated, and Python 3.11 loses those when
    the repetition is possessive.)
    """
    other = re.escape(delimiter.encode())
    return re.compile(rb'(?:(?P<opens>")[^"]*+(?:""[^"]*+)*+(?:(?P<closes>")|\Z))?(?P<rest>[^\r\n%b]*+)' % other)


def without_padding(record: bytes, fields: re.Pattern[bytes], delimiter: bytes) -> bytes | None:
    """`record` without the spaces between a closing quote and the delimiter; None when anything else is there."""
    parts: list[bytes] = []
    position = 0
    while position <= len(record):
        field = fields.match(record, position)
        assert field is not None  # it takes nothing, if need be
        end = field.end()
        if field["closes"] is not None:
            if field["rest"].strip(b" "):
                return None
            end = field.start("rest")
        parts.append(record[position:end])
        position = field.end() + 1
    return delimiter.join(parts)


def well_formed(data: bytes, delimiter: bytes) -> bool:
    """Whether every quote opens, closes or escapes; False also for some text where it does. Several times faster."""
    parts = data.split(b'"')
    if len(parts) % 2 == 0:
        return False
    between = b'"'.join(parts[::2])
    while b'""' in between:
        between = between.replace(b'""', b'"')
    quotes = between.count(b'"')
    opened = between.count(delimiter + b'"') + between.count(b'\n"') + between.count(b'\r"') + between.startswith(b'"')
    closed = between.count(b'"' + delimiter) + between.count(b'"\n') + between.count(b'"\r') + between.endswith(b'"')
    return opened == quotes == closed


def _split_quoted(data: bytes, first_line: int, pattern: re.Pattern[bytes]) -> Split:
    records, places = [], []
    place = 0
    for match in pattern.finditer(data):
        start, end = match.span()
        body_end = match.start(1)
        if body_end > start:
            records.append(data[start:body_end])
            places.append(place)
        place += count_breaks(data[start:end])
        if end == len(data):
            break
    return Split(pa.array(records, pa.string()), first_line, pa.array(places, pa.int64()), breaks="")


def count_breaks(data: bytes) -> int:
    r"""Physical line ends: CR LF, LF, or a lone CR."""
    breaks = data.count(b"\n")
    if b"\r" in data:
        breaks += data.count(b"\r") - data.count(b"\r\n")
    return breaks


def read_blocks(
    path: Path,
    *,
    skip: int,
    delimiter: str | None,
    max_line_bytes: int,
    first_line: int = 1,
    block_bytes: int = _READ_BYTES,
    on_read: Callable[[int], None] = lambda _: None,
) -> Iterator[Block]:
    """Blocks of about `block_bytes` from byte `skip` on. `delimiter` None: one record per line (NDJSON).

    Raises LineTooLong, UnclosedQuote, and InvalidEncoding for bytes that are not UTF-8, each naming the line.
    """
    quoted = record_pattern(delimiter) if delimiter is not None else None
    other = (delimiter or ",").encode()
    line, rest, position = first_line, b"", skip
    with path.open("rb", buffering=0) as file:
        file.seek(skip)
        while True:
            on_read(position)
            chunk = file.read(block_bytes)
            position += len(chunk)
            data = rest + chunk
            at_end = not chunk
            cut = len(data) if at_end else last_record_end(data, quoted)
            if len(data) - cut > max_line_bytes:
                raise too_long(max_line_bytes, line + count_breaks(data[:cut]))
            body, rest = data[:cut], data[cut:]
            if at_end and quoted is not None and delimiter is not None and b'"' in body:
                _refuse_unclosed(body, line, quoted, delimiter)
            if body.strip(b"\r\n") if not at_end or quoted is not None else body.strip():
                check_utf8(body, line)
                yield Block(body, line, position - len(rest), quoted, other)
            line += count_breaks(body) if quoted is not None else body.count(b"\n")
            if at_end:
                return


def _refuse_unclosed(data: bytes, line: int, quoted: re.Pattern[bytes], delimiter: str) -> None:
    """Raises UnclosedQuote when the end of the file is inside quotes."""
    fields = field_pattern(delimiter)
    position = last_record_end(data, quoted)
    while position < len(data) and (field := fields.match(data, position)):
        if field["opens"] is not None and field["closes"] is None:
            raise unclosed(line + count_breaks(data[:position]))
        position = field.end() + 1


def last_record_end(data: bytes, quoted: re.Pattern[bytes] | None) -> int:
    """Where the last record of `data` that is surely whole ends; 0 when none is."""
    if quoted is None or b'"' not in data:
        last = data.rfind(b"\n")
        if quoted is not None and b"\r" in data:
            last = max(last, data.rfind(b"\r", 0, len(data) - 1))  # a CR at the very end may be half a CR LF
        return last + 1
    end = 0
    for match in quoted.finditer(data):
        if match.end() == len(data) and not data.endswith(b"\n"):
            break
        if match.end() == len(data) and match.start(1) == len(data):
            break
        end = match.end()
    return end


def check_utf8(data: bytes, line: int) -> None:
    """Raises InvalidEncoding, naming the line, when `data` (which begins on `line`) is not UTF-8."""
    if data.isascii():
        return
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line += count_breaks(data[: error.start])
        raise InvalidEncoding(
            f"Line {line} has bytes that are not UTF-8 ({data[error.start : error.start + 4]!r}). Save the file as "
            "UTF-8, or name its encoding: Content-Type: text/csv; charset=latin-1 (or cp1252, utf-16, …)."
        ) from error
