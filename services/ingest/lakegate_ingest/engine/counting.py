"""How many records a body has, counted from its bytes as they arrive: the check on everything that follows.

Shares no code with the readers but how a delimiter and an encoding are told. A record is a line that is not
blank; in CSV and TSV a line break inside a quoted field does not end it, where a quote opens a field only at
its very start (RFC 4180). CR LF, LF and a lone CR (not in NDJSON) end a line. In JSON a record is an element
of the outermost array.
"""

from __future__ import annotations

import codecs
import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakegate_ingest.engine.commas import StrayCommas
from lakegate_ingest.engine.delimiters import HEAD_BYTES, sniff_delimiter
from lakegate_ingest.engine.detect import text_encoding
from lakegate_ingest.engine.errors import InvalidEncoding, InvalidJson, LineTooLong, UnclosedQuote
from lakegate_ingest.engine.model import MAX_LINE_BYTES, Format, ReadOptions

_NEWLINE = pa.scalar(10, pa.uint8())
_PIECE_BYTES = 1024 * 1024
_COMMA = pa.scalar(ord(","), pa.uint8())
_MAX_DEPTH = 500  # of brackets in one element; Python's decoder ends not far above
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[]{},\n"))
_STEPS = bytes.maketrans(b"[{]},\n", b"\x01\x01\xff\xff\x00\x00")
# A quoted field, to its closing quote or to the end of what we have; possessive, so never quadratic.
_REST_OF_QUOTED = re.compile(rb'[^"]*+(?:""[^"]*+)*+("?)')


def too_long(limit_bytes: int, line: int | None = None) -> LineTooLong:
    where = f"The record that starts on line {line}" if line is not None else "A record"
    return LineTooLong(
        f"{where} is longer than {limit_bytes // (1024 * 1024)} MB. Either its lines do not end in a line break, "
        'or a quote (") is opened and never closed. Correct the file, or send it in the format that it is in.'
    )


def unclosed(line: int) -> UnclosedQuote:
    return UnclosedQuote(
        f'A quote (") opens a field on line {line} and is never closed, so that all behind it is part of that field. '
        "Nothing was kept. Close it, or double it if it is part of the text; if the file was cut off, send it whole."
    )


class RecordCounter:
    """Feed it the decompressed bytes in any chunks; `finish` gives the number of records, without the header.

    Raises LineTooLong as soon as one record exceeds `max_line_bytes`, InvalidJson for nesting beyond 500
    levels, InvalidEncoding for UTF-16 or UTF-32 without its mark; `finish` raises UnclosedQuote. Parquet counts as 0:
    its footer says.
    """

    def __init__(self, options: ReadOptions, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._options = options
        self._decoder = _decoder(options.encoding)
        self._started = self._decoded = False
        self._counter: _Lines | _Quoted | _Elements | None = None
        if options.format is Format.NDJSON:
            self._counter = _Lines(max_line_bytes)
        elif options.format is Format.JSON:
            self._counter = _Elements(max_line_bytes)
        elif options.format.delimited:
            self._counter = _Quoted(max_line_bytes, options.field_delimiter)

    def feed(self, chunk: bytes) -> None:
        if self._counter is None or not chunk:
            return
        if not self._started:
            self._started = True
            marked = text_encoding(chunk, None)
            if self._options.encoding is None and marked != "utf-8":
                self._decoder = codecs.getincrementaldecoder(marked)("replace")
            elif chunk[:3] == codecs.BOM_UTF8 and self._decoder is None:
                chunk = chunk[3:]
        if self._decoder is not None:
            try:
                text = self._decoder.decode(chunk)
            except UnicodeError as error:
                raise InvalidEncoding(
                    f"The text can't be read as {self._options.encoding}: {error}. Name its real encoding: "
                    "Content-Type: text/csv; charset=…, or save it as UTF-8."
                ) from error
            chunk = (text if self._decoded else text.removeprefix("\ufeff")).encode()
            self._decoded |= bool(text)
        if chunk:
            self._counter.feed(chunk)

    @property
    def malformed(self) -> bool:
        """Whether a quoted field has text behind its closing quote, which some readers join to it, or spaces before its
        opening one, which some skip; or JSON may have a comma before a closing bracket, which some take."""
        return self._counter is not None and self._counter.malformed

    def finish(self) -> int:
        if self._counter is None:
            return 0
        records = self._counter.finish()
        return max(0, records - 1) if self._options.format.delimited and self._options.header else records


def _decoder(encoding: str | None) -> codecs.IncrementalDecoder | None:
    name = text_encoding(b"", encoding)
    return None if name == "utf-8" else codecs.getincrementaldecoder(name)("replace")


def _line_ends(chunk: bytes, at_start: bool) -> tuple[int, int]:
    r"""The \n in `chunk`, and those that do not end a blank line; `at_start` tells whether it begins a line."""
    values = pa.Array.from_buffers(pa.uint8(), len(chunk), [None, pa.py_buffer(chunk)])
    ends = pc.equal(values, _NEWLINE)
    blank = pc.and_(ends[1:], ends[:-1]).true_count  # one pass each over bits: ten times faster than a search
    breaks = int(ends.true_count)
    return breaks, int(breaks - blank - (at_start and chunk[:1] == b"\n"))


class _Lines:
    def __init__(self, max_line_bytes: int) -> None:
        self._max = max_line_bytes
        self._records = 0
        self._length = 0  # of the unfinished line
        self._blank_tail = True
        self._held = b""
        self._line = 1  # on which the unfinished line is
        self._commas = StrayCommas()

    @property
    def malformed(self) -> bool:
        return self._commas.found

    def feed(self, chunk: bytes) -> None:
        if self._held:
            chunk, self._held = self._held + chunk, b""
        if b"\r" in chunk:
            if chunk.endswith(b"\r"):
                chunk, self._held = chunk[:-1], b"\r"
            chunk = chunk.replace(b"\r\n", b"\n")
        if not chunk:
            return
        self._commas.feed(chunk)
        breaks, records = _line_ends(chunk, self._length == 0)
        self._line += breaks
        self._records += records
        last = chunk.rfind(b"\n")
        tail = chunk[last + 1 :]
        self._length = len(tail) if last >= 0 else self._length + len(tail)
        self._blank_tail = not tail.strip() and (last >= 0 or self._blank_tail)
        if self._length > self._max:
            raise too_long(self._max, self._line)

    def finish(self) -> int:
        return self._records + (self._length > 0 and not self._blank_tail)


class _Quoted:
    """Lines outside quotes. A chunk without a quote costs one pass; others lose their quoted parts first."""

    def __init__(self, max_line_bytes: int, delimiter: str | None) -> None:
        self._max = max_line_bytes
        self._delimiter = delimiter
        self._head = b""  # until the delimiter is known
        self._records = 0
        self._open = False  # a quoted field began before _tail and has not ended
        self._opened = 1  # the line on which it began
        self.malformed = False
        self._length = 0  # of the unfinished record, without _tail
        self._tail = b""
        self._held = b""
        self._line = self._start = 1  # where the counted text ends, and the unfinished record begins

    def feed(self, chunk: bytes) -> None:
        if self._delimiter is None:
            self._head += chunk
            if len(self._head) < HEAD_BYTES:
                return
            chunk, self._head = self._head, b""
            self._delimiter = sniff_delimiter(chunk[:HEAD_BYTES])
        for start in range(0, len(chunk), _PIECE_BYTES):
            self._feed(chunk if len(chunk) <= _PIECE_BYTES else chunk[start : start + _PIECE_BYTES])

    def _feed(self, chunk: bytes) -> None:
        if self._held:
            chunk, self._held = self._held + chunk, b""
        if b"\r" in chunk:
            if chunk.endswith(b"\r"):
                chunk, self._held = chunk[:-1], b"\r"
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if not chunk:
            return
        last = chunk.rfind(b"\n") + 1
        if self._open or b'"' in chunk or b'"' in self._tail:
            if last:
                self._count_quoted(self._tail + chunk[:last])
                self._tail = chunk[last:]
            else:
                self._tail += chunk
        elif last:
            breaks, records = _line_ends(chunk, not self._tail)
            self._line += breaks
            self._records += records
            self._start = self._line
            self._tail = chunk[last:]
        else:
            self._tail += chunk
        if self._length + len(self._tail) > self._max:
            raise too_long(self._max, self._opened if self._open else self._start)

    def _count_quoted(self, body: bytes) -> None:
        """`body` ends in a line break and begins a record, or goes on inside quotes when _open."""
        was_open = self._open
        outside, self._open, malformed = _without_quoted(body, was_open, (self._delimiter or ",").encode())
        self.malformed |= malformed
        self._records += _line_ends(outside, not was_open)[1]
        self._length = self._length + len(body) if self._open and b"\n" not in outside else 0
        if not self._open:
            self._start = self._line + body.count(b"\n")
        else:
            # Escaped quotes go in pairs, so that the last one left is on the line of the one that opened the field.
            opening = body.replace(b'""', b"  ").rfind(b'"')
            if opening >= 0:
                self._opened = self._line + body.count(b"\n", 0, opening)
        self._line += body.count(b"\n")

    def finish(self) -> int:
        if self._head:
            head, self._head, self._delimiter = self._head, b"", sniff_delimiter(self._head)
            self._feed(head)
        if self._held:
            self._held = b""
            self._feed(b"\n")
        if self._tail:
            self._feed(b"\n")
        if self._open:
            raise unclosed(self._opened)
        return self._records


def _without_quoted(body: bytes, is_open: bool, delimiter: bytes) -> tuple[bytes, bool, bool]:
    """`body` with each quoted part replaced by one quote; whether the last one is still open; whether there is a quote
    that readers disagree on."""
    parts = body.split(b'"')
    ends_open = is_open ^ (len(parts) % 2 == 0)
    outside = b'"'.join(parts[1::2] if is_open else parts[::2])
    outside = (b'"' if is_open else b"") + outside + (b'"' if ends_open else b"")
    while b'""' in outside:  # an escaped quote, seen as the end of one part and the start of the next
        outside = outside.replace(b'""', b'"')
    quotes = outside.count(b'"')
    opened = outside.count(delimiter + b'"') + outside.count(b'\n"') + outside.startswith(b'"')
    closed = outside.count(b'"' + delimiter) + outside.count(b'"\n') + outside.endswith(b'"')
    if opened == quotes == closed:
        return outside, ends_open, False
    return _without_quoted_exactly(body, is_open, delimiter)


def _without_quoted_exactly(body: bytes, is_open: bool, delimiter: bytes) -> tuple[bytes, bool, bool]:
    """The same field by field, for text with quotes that open nothing (`5" pipe`)."""
    start = 0
    malformed = False
    end_of_field = re.compile(rb" *(?:[\n%b]|\Z)" % re.escape(delimiter))
    pieces = []
    if is_open:
        rest = _REST_OF_QUOTED.match(body)
        if rest is None or not rest[1]:
            return b'"', True, False
        start = rest.end()
        malformed = end_of_field.match(body, start) is None
        pieces.append(b'"')
    ends_open = False
    opening = re.compile(rb"(?<=[\n%b])\"" % re.escape(delimiter))
    if not is_open and body.startswith(b'"'):
        found: re.Match[bytes] | None = re.compile(b'"').match(body)
    else:
        found = opening.search(body, start)
    while found:
        pieces += (body[start : found.start()], b'"')
        rest = _REST_OF_QUOTED.match(body, found.end())
        if rest is None or not rest[1]:
            ends_open, start = True, len(body)
            break
        start = rest.end()
        malformed |= end_of_field.match(body, start) is None
        found = opening.search(body, start)
    pieces.append(body[start:])
    outside = b"".join(pieces)
    malformed |= re.search(rb"(?:^|%b) +\"" % re.escape(delimiter), outside, re.MULTILINE) is not None
    return outside, ends_open, malformed


class _Elements:
    """Elements of a JSON array: commas outside strings and brackets."""

    def __init__(self, max_line_bytes: int) -> None:
        self._max = max_line_bytes
        self._in_string = False
        self._held = b""  # backslashes whose partner has not arrived
        self._opening = b""  # the text up to the first element
        self._any = False
        self._ended = False
        self._commas = 0
        self._depth = 0  # brackets that are open, without the array's own
        self._length = 0
        self._line = self._start = 1  # where the counted text ends, and the unfinished element begins
        self._stray_commas = StrayCommas()

    @property
    def malformed(self) -> bool:
        return self._stray_commas.found

    def feed(self, chunk: bytes) -> None:
        for start in range(0, len(chunk), _PIECE_BYTES):
            self._feed(chunk[start : start + _PIECE_BYTES])

    def _feed(self, chunk: bytes) -> None:
        size = len(chunk)
        chunk = self._held + chunk
        kept = chunk.rstrip(b"\\")
        self._held = chunk[len(kept) :] if len(kept) < len(chunk) else b""
        if b"\\" in kept:
            kept = kept.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = kept.split(b'"')
        outside = b'"'.join(parts[1::2] if self._in_string else parts[::2])
        if self._in_string:
            outside = b'"' + outside
        self._in_string ^= len(parts) % 2 == 0
        if self._in_string:
            outside += b'"'
        self._stray_commas.feed(outside.replace(b"\n", b" "))
        if not self._any:
            text = self._opening + outside
            self._opening = text.lstrip()
            outside = self._opening[1:].lstrip()
            self._line += text[: len(text) - len(outside)].count(b"\n")
            self._start = self._line
            if not outside:
                self._opening = self._opening[:1]
                return
            self._any, self._ended = True, outside.startswith(b"]")
            self._commas = -1 if self._ended else 0
        if not self._ended:
            self._measure(outside, size)

    def _measure(self, outside: bytes, size: int) -> None:
        """One pass, however deep the nesting: the running sum of the brackets is the depth."""
        structure = outside.translate(None, _NOT_STRUCTURE)
        steps: Any = pa.Array.from_buffers(pa.int8(), len(structure), [None, pa.py_buffer(structure.translate(_STEPS))])
        depths: Any = pc.add(pc.cumulative_sum(steps.cast(pa.int32())), self._depth)
        end = pc.index(depths, -1).as_py() if structure else -1
        if end >= 0:
            self._ended = True
            structure, depths = structure[:end], depths[:end]
        if structure and pc.max(depths).as_py() > _MAX_DEPTH:
            raise InvalidJson(
                f"An element that starts on line {self._start} or later is nested deeper than {_MAX_DEPTH} levels. "
                "Flatten it, or send it as text."
            )
        codes: Any = pa.Array.from_buffers(pa.uint8(), len(structure), [None, pa.py_buffer(structure)])
        commas = pc.indices_nonzero(pc.and_(pc.equal(codes, _COMMA), pc.equal(depths, pa.scalar(0, pa.int32()))))
        self._commas += len(commas)
        if len(commas):
            after = structure[commas[-1].as_py() + 1 :]
            self._start = self._line + structure.count(b"\n") - after.lstrip(b"\n").count(b"\n")
        self._line += structure.count(b"\n")
        self._depth = depths[-1].as_py() if structure else self._depth
        self._length = 0 if len(commas) or self._ended else self._length + size
        if self._length > self._max:
            raise too_long(self._max, self._start)

    def finish(self) -> int:
        return self._commas + 1 if self._any else 0
