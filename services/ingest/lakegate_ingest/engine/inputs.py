"""A source made ready to read: UTF-8, its delimiter known, its header parsed, the place where rows begin."""

from __future__ import annotations

import codecs
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from lakegate_ingest.engine.arrival import Arrival
from lakegate_ingest.engine.delimiters import HEAD_BYTES, first_records, sniff_delimiter
from lakegate_ingest.engine.detect import refuse_binary, text_encoding
from lakegate_ingest.engine.errors import (
    BadColumnName,
    DuplicateColumn,
    EmptyBody,
    EmptyColumnName,
    IncompatibleColumn,
    InvalidEncoding,
    LoadCancelled,
    TooManyColumns,
    TruncatedParquet,
    UnclosedQuote,
    WrongDelimiter,
)
from lakegate_ingest.engine.model import EngineLimits, Format, ReadOptions, Source
from lakegate_ingest.engine.plain import plain_type
from lakegate_ingest.engine.precision import Unit, int96_unit
from lakegate_ingest.engine.records import count_breaks, field_pattern, last_record_end, record_pattern, without_padding

# Zero bytes, which no database can store, and what a terminal obeys. Spreadsheets do write names of several lines.
MAX_NAME_CHARS = 255  # the table's metadata repeats it in every schema, and rows of NDJSON in every row
_UNUSABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

_VARIANT = re.compile(r"^ *[a-z]+ group field_id=-?[0-9]+ (.+) \(Variant\([0-9]*\)\) \{$", re.MULTILINE)

_NAME_IN_HEADER = "Name it in the header; or send header=false if the first line is already a row."
_NAME_THE_KEY = 'Objects have the key "": give it a name, or leave it out.'
_NAMING = {
    Format.JSON: _NAME_THE_KEY,
    Format.NDJSON: _NAME_THE_KEY,
    Format.PARQUET: "Name it, or leave it out, where the file is written.",
}


@dataclass(frozen=True, slots=True)
class Input:
    """`path` is UTF-8 (a transcoded copy when the source was not). Rows begin at byte `body`, on line `line`.

    `names` are the columns in file order; None when only reading tells (JSON). `skip` is the byte order mark. `int96`
    is the unit in which timestamps of that type of Parquet are read.
    """

    source: Source
    path: Path
    skip: int
    body: int
    line: int
    delimiter: str | None
    names: tuple[str, ...] | None
    arrow: pa.Schema | None = None
    int96: Unit = "us"

    @property
    def format(self) -> Format:
        return self.source.options.format

    @property
    def arrival(self) -> Arrival | None:
        return self.source.arrival

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    def parquet(self, file: IO[bytes]) -> pq.ParquetFile:
        """`file` is that of `path`."""
        return pq.ParquetFile(file, coerce_int96_timestamp_unit=self.int96)


def open_input(source: Source, work_dir: Path, limits: EngineLimits, cancelled: threading.Event) -> Input:
    """Raises EmptyBody, NotText, InvalidEncoding, WrongDelimiter, UnclosedQuote, TruncatedParquet; column errors."""
    if source.options.format is Format.PARQUET:
        await_all(source.arrival, cancelled)
        return _open_parquet(source, limits, cancelled)
    head = _first_bytes(source, HEAD_BYTES, cancelled)
    if not head.strip():
        raise EmptyBody(f"'{source.name}' is empty. Send a file with at least one row.")
    encoding = text_encoding(head, source.options.encoding)
    if encoding == "utf-8":
        refuse_binary(head, source.name)
        path = source.path
    else:
        await_all(source.arrival, cancelled)
        path = _transcode(source, encoding, work_dir)
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    skip = 3 if head.startswith(codecs.BOM_UTF8) else 0
    if not source.options.format.delimited:
        return Input(source, path, skip, skip, 1, None, None)
    return _open_delimited(source, path, head, skip, limits, cancelled)


def await_all(arrival: Arrival | None, cancelled: threading.Event) -> None:
    """Returns when the file is whole; raises LoadCancelled when it never will be."""
    _await(arrival, None, cancelled)


def _await(arrival: Arrival | None, size_bytes: int | None, cancelled: threading.Event) -> None:
    reached = 0
    while arrival is not None and not arrival.finished and (size_bytes is None or reached < size_bytes):
        if arrival.aborted or cancelled.is_set():
            raise LoadCancelled("The body ended before the file did. Send it again.")
        reached = arrival.wait_past(reached if size_bytes is None else size_bytes - 1, 0.5)


def first_rows(found: Input, size: int, cancelled: threading.Event) -> tuple[bytes, bool]:
    """Up to `size` bytes from where rows begin, and whether the file ends there. Waits for them to arrive."""
    _await(found.arrival, found.body + size, cancelled)
    whole = found.arrival is None or found.arrival.finished
    with found.path.open("rb") as file:
        file.seek(found.body)
        data = file.read(size)
    return data, whole and len(data) < size


def _first_bytes(source: Source, size: int, cancelled: threading.Event) -> bytes:
    _await(source.arrival, size, cancelled)
    with source.path.open("rb") as file:
        return file.read(size)


def _transcode(source: Source, encoding: str, work_dir: Path) -> Path:
    """A UTF-8 copy, block by block. UTF-16 and Latin-1 files are rare enough to pay for a copy."""
    target = work_dir / f"{source.path.name}.utf8"
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    line = 1
    with source.path.open("rb") as original, target.open("wb") as copy:
        while True:
            chunk = original.read(1024 * 1024)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                raise InvalidEncoding(
                    f"'{source.name}' is not {encoding}: near line {line}, {error.reason}. Name its real encoding: "
                    "Content-Type: text/csv; charset=…, or save it as UTF-8."
                ) from error
            line += text.count("\n")
            copy.write(text.encode())
            if not chunk:
                return target


def _open_delimited(
    source: Source, path: Path, head: bytes, skip: int, limits: EngineLimits, cancelled: threading.Event
) -> Input:
    options = source.options
    delimiter = options.field_delimiter or sniff_delimiter(head[skip:])
    if len(delimiter.encode()) != 1 or delimiter in '"\r\n':
        raise WrongDelimiter("The delimiter must be one ASCII character other than a quote or a line break.")
    pattern = record_pattern(delimiter)
    needed = max(len(head), skip + limits.max_line_bytes if _long_header(head, pattern) else 0)
    _await(source.arrival, needed, cancelled)
    with path.open("rb") as file:
        start = file.read(needed)
    offset = skip + len(start[skip:]) - len(start[skip:].lstrip(b"\r\n"))
    found = pattern.match(start, offset)
    end = found.end() if found else offset
    first = start[offset : found.start(1)] if found else b""
    if b'"' in first and without_padding(first, field_pattern(delimiter), delimiter.encode()) is None:
        raise UnclosedQuote(
            f"In the first record, on line {1 + count_breaks(start[skip:offset])}, a field has text behind its closing "
            'quote ("). Close it where it ends, and double a quote that is part of the text.'
        )
    fields = first_records(_header_text(first), delimiter, 1)
    names = [name.strip() for name in fields[0]] if fields else []
    _check_delimiter(names, options, head[skip:], delimiter)
    if len(names) > limits.max_columns:
        raise TooManyColumns(
            f"The first record has {len(names)} columns; {limits.max_columns} are allowed. "
            "If these are not columns, name the delimiter: delimiter=;"
        )
    if not options.header:
        names = [f"column_{number}" for number in range(1, len(names) + 1)]
        return Input(source, path, skip, offset, 1 + count_breaks(start[skip:offset]), delimiter, tuple(names))
    check_names(names, options.format)
    return Input(source, path, skip, end, 1 + count_breaks(start[skip:end]), delimiter, tuple(names))


def _long_header(head: bytes, pattern: re.Pattern[bytes]) -> bool:
    return len(head) >= HEAD_BYTES and last_record_end(head, pattern) == 0


def _header_text(first: bytes) -> str:
    try:
        return first.decode()
    except UnicodeDecodeError as error:
        raise InvalidEncoding(
            "Line 1 has bytes that are not UTF-8. Save the file as UTF-8, or name its encoding: "
            "Content-Type: text/csv; charset=latin-1 (or cp1252, utf-16, …)."
        ) from error


def _check_delimiter(names: list[str], options: ReadOptions, head: bytes, delimiter: str) -> None:
    if len(names) != 1 or options.field_delimiter is None:
        return
    better = sniff_delimiter(head)
    records = first_records(head.decode("utf-8", "replace"), better)
    width = len(records[0]) if records else 0
    if better != delimiter and width > 1 and all(len(record) == width for record in records[:-1]):
        shown = {"\t": "a tab (%09)"}.get(better, better)
        raise WrongDelimiter(
            f"Split by {delimiter!r} the file has one column; split by {better!r} it has {width}. "
            f"Send delimiter={shown}, or leave it out."
        )


def check_width(names: Sequence[str], limits: EngineLimits) -> None:
    """Raises TooManyColumns."""
    if len(names) > limits.max_columns:
        raise TooManyColumns(f"The file has {len(names)} columns; {limits.max_columns} are allowed.")


def check_names(names: list[str], form: Format) -> None:
    """Raises EmptyColumnName, BadColumnName or DuplicateColumn. Names that differ only in case are duplicates:
    SQL engines can't tell them apart."""
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            raise EmptyColumnName(f"Column {number} of {len(names)} has no name. {_NAMING.get(form, _NAME_IN_HEADER)}")
        _check_characters(name, f"Column {number} of {len(names)}")
        if name.casefold() in seen:
            first = seen[name.casefold()]
            raise DuplicateColumn(
                f"Columns {first} and {number} are both named '{name}' (upper and lower case count as the same). "
                "Rename or remove one of them."
            )
        seen[name.casefold()] = number


def _check_characters(name: str, what: str) -> None:
    if len(name) > MAX_NAME_CHARS:
        raise BadColumnName(
            f"{what} is named {name[:50]!a}…, with {len(name):,} characters; {MAX_NAME_CHARS} are allowed. Rename it. "
            "If it is no name, see whether delimiter and header are what the file has."
        )
    if found := _UNUSABLE.search(name):
        raise BadColumnName(
            f"{what} is named {name[:100]!a}, with the control character U+{ord(found[0]):04X}. "
            "Rename it; if the name looks like no text at all, name the encoding: Content-Type: text/csv; charset=…."
        )


def _check_nested(kind: pa.DataType, column: str) -> None:
    """The names of the fields within a column of Parquet become keys of JSON; DuckDB takes two that differ only in case
    for the same, and renames one."""
    names: dict[str, str] = {}
    for number in range(kind.num_fields):
        field = kind.field(number)
        _check_characters(field.name, f"A field of the column '{column}'")
        if (first := names.get(field.name.casefold())) is not None:
            raise DuplicateColumn(
                f"The column '{column}' has the fields '{first}' and '{field.name}' within it (upper and lower case "
                "count as the same). Rename or remove one of them."
            )
        names[field.name.casefold()] = field.name
        _check_nested(field.type, column)


def _open_parquet(source: Source, limits: EngineLimits, cancelled: threading.Event) -> Input:
    if source.path.stat().st_size == 0:
        raise EmptyBody(f"'{source.name}' is empty. Send a file with at least one row.")
    try:
        with pq.ParquetFile(source.path) as file:
            stored = file.schema
        old = any(stored.column(place).physical_type == "INT96" for place in range(len(stored)))
        unit: Unit = int96_unit(source.path, source.name, cancelled) if old else "us"
        with pq.ParquetFile(source.path, coerce_int96_timestamp_unit=unit) as file:
            schema = file.schema_arrow
    except pa.ArrowNotImplementedError as error:
        raise IncompatibleColumn(
            f"A column of '{source.name}' is of a type that no table has ({error}). Cast it before sending, to "
            "a decimal of up to 38 digits or to text."
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise TruncatedParquet(
            f"'{source.name}' is no whole Parquet file: it was cut short or is damaged ({error}). "
            "Write it again, and compare its size with what was sent."
        ) from error
    check_width(schema.names, limits)
    check_names(list(schema.names), Format.PARQUET)
    for place in range(len(stored)):
        if stored.column(place).converted_type == "INTERVAL":
            raise IncompatibleColumn(
                f"The column '{stored.column(place).path}' of '{source.name}' is an interval: tables have no type for "
                "it. Cast it before sending: to whole numbers with the units in the columns' names, or to text."
            )
    # A group, which pyarrow shows nowhere else; DuckDB would write it as text, and Arrow as its bytes.
    if variant := _VARIANT.search(str(stored)):
        raise IncompatibleColumn(
            f"The column '{variant[1]}' of '{source.name}' is a variant: tables have no type for it here. Cast it "
            "before sending: to text (JSON), or its fields to columns of their own."
        )
    schema = pa.schema([field.with_type(plain_type(field.type)) for field in schema])
    for field in schema:
        _check_nested(field.type, field.name)
    return Input(source, source.path, 0, 0, 1, None, tuple(schema.names), schema, unit)
