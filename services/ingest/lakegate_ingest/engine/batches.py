"""Records as columns of text, block by block, whatever the format: what the tolerant path judges."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from lakegate_ingest.engine.counting import too_long
from lakegate_ingest.engine.elements import Elements, ElementSplitter
from lakegate_ingest.engine.errors import TruncatedParquet
from lakegate_ingest.engine.inputs import Input, first_rows
from lakegate_ingest.engine.model import EngineLimits, Format
from lakegate_ingest.engine.records import Block, check_utf8, last_record_end, read_blocks, record_pattern
from lakegate_ingest.engine.types import literal, quoted

_ELEMENT_BLOCK_BYTES = 4 * 1024 * 1024
_SAMPLE_BYTES = 1024 * 1024
_PARQUET_ROWS = 16 * 1024


class Records(Protocol):
    """A block: whole records, and the line on which each begins."""

    def records(self) -> tuple[list[bytes], list[int]]: ...


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that is no row at all. `index` counts the block's records from 0."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """`table` has columns c0, c1, … as text, null where the file has null.

    `positions` gives the record of each table row; None when no record is broken.
    """

    table: pa.Table
    positions: pa.Array | None
    broken: tuple[Broken, ...]
    source: Records

    @property
    def records(self) -> int:
        return self.table.num_rows + len(self.broken)


@dataclass(frozen=True, slots=True)
class ParquetRows:
    """Rows of a Parquet file: their "line" is the row number, their raw text is JSON."""

    table: pa.Table
    first_row: int

    def records(self) -> tuple[list[bytes], list[int]]:
        raws = [json.dumps(row, default=str).encode() for row in self.table.to_pylist()]
        return raws, list(range(self.first_row, self.first_row + len(raws)))


def blocks_of(found: Input, limits: EngineLimits, on_read: Callable[[int], None]) -> Iterator[Records]:
    """The input in order. Raises LineTooLong, InvalidEncoding, InvalidJson, TruncatedParquet."""
    if found.format is Format.PARQUET:
        return _parquet_blocks(found, on_read)
    if found.format is Format.JSON:
        return _elements(found, limits, on_read)
    return read_blocks(
        found.path,
        skip=found.body,
        first_line=found.line,
        delimiter=found.delimiter,
        max_line_bytes=limits.max_line_bytes,
        on_read=on_read,
    )


def sample_of(found: Input, limits: EngineLimits, cancelled: threading.Event) -> Records:
    """The first whole records, about _SAMPLE_BYTES of them, or one that is longer. Raises as `blocks_of`."""
    pattern = record_pattern(found.delimiter) if found.delimiter is not None else None
    size = _SAMPLE_BYTES
    while True:
        data, at_end = first_rows(found, size, cancelled)
        if found.format is Format.JSON:
            splitter = ElementSplitter(found.source.name, limits.max_line_bytes)
            elements = splitter.feed(data)
            if at_end:
                last = splitter.feed(b"")
                elements = Elements(elements.raws + last.raws, elements.lines + last.lines)
            if elements.raws or at_end:
                return elements
        else:
            cut = len(data) if at_end else last_record_end(data, pattern)
            check_utf8(data[:cut], found.line)
            if cut or at_end:
                return Block(data[:cut], found.line, found.body + cut, pattern)
        if size > limits.max_line_bytes:
            raise too_long(limits.max_line_bytes, found.line)
        size *= 4


def batch_of(
    block: Records,
    found: Input,
    names: Sequence[str],
    connection: duckdb.DuckDBPyConnection,
    *,
    kinds: bool = False,
) -> Batch:
    """`block` as text columns, one for each of `names`; with `kinds` and JSON, also k0, … with the JSON types."""
    if found.format.delimited:
        return _delimited_batch(block, found, names)
    if isinstance(block, ParquetRows):
        return _parquet_batch(block, names, connection)
    return _json_batch(block, names, connection, kinds)


def _delimited_batch(block: Records, found: Input, names: Sequence[str]) -> Batch:
    broken: list[Broken] = []
    surplus: list[tuple[int, list[str | None]]] = []
    width = len(names)
    nulls = {"", *found.source.options.null_values}
    delimiter = found.delimiter or ","

    def skip(row: arrow_csv.InvalidRow) -> Literal["skip"]:
        index = (row.number or 0) - 1
        # DuckDB drops surplus fields that are null (a trailing comma); so must this path.
        fields = next(csv.reader(io.StringIO(row.text, newline=""), delimiter=delimiter), [])
        if len(fields) == row.actual_columns > width and nulls.issuperset(fields[width:]):
            surplus.append((index, [None if field in nulls else field for field in fields[:width]]))
        else:
            broken.append(Broken(index, _ragged(row.actual_columns, width, row.text)))
        return "skip"

    columns = [f"c{position}" for position in range(width)]
    data = block.data  # type: ignore[attr-defined]
    if not data.strip(b"\r\n"):
        return Batch(pa.table({column: pa.array([], pa.string()) for column in columns}), None, (), block)
    table = arrow_csv.read_csv(
        io.BytesIO(data),
        read_options=arrow_csv.ReadOptions(
            column_names=columns, use_threads=False, block_size=max(len(data) + 1, 1024)
        ),
        parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
        convert_options=arrow_csv.ConvertOptions(
            column_types={column: pa.string() for column in columns},
            null_values=["", *found.source.options.null_values],
            strings_can_be_null=True,
            check_utf8=False,  # the block was checked, with the line in the message
        ),
    )
    if surplus:
        table = _insert(table, surplus, broken)
    return Batch(table, _positions(table.num_rows, broken), tuple(broken), block)


def _insert(table: pa.Table, rows: list[tuple[int, list[str | None]]], broken: Sequence[Broken]) -> pa.Table:
    """`table` with `rows` put back at the record that each came from."""
    gone = {item.index for item in broken} | {index for index, _ in rows}
    kept = (index for index in range(table.num_rows + len(gone)) if index not in gone)
    places = pa.array([*kept, *(index for index, _ in rows)], pa.int64())
    values = zip(*(fields for _, fields in rows), strict=True)
    more = pa.table([pa.array(column, pa.string()) for column in values], schema=table.schema)
    return pa.concat_tables([table, more]).take(pc.sort_indices(places))


def _ragged(fields: int, width: int, text: str) -> str:
    some = "1 field" if fields == 1 else f"{fields} fields"
    if text.startswith('"') and text.count('"') % 2:
        return f"a quote is opened and never closed; the row has {some}, not {width}"
    return f"the row has {some}, the header has {width}"


def _positions(rows: int, broken: Sequence[Broken]) -> pa.Array | None:
    if not broken:
        return None
    gone = {item.index for item in broken}
    return pa.array((i for i in range(rows + len(broken)) if i not in gone), pa.int64())


def _json_batch(block: Records, names: Sequence[str], connection: duckdb.DuckDBPyConnection, kinds: bool) -> Batch:
    raws, _ = block.records()
    lines = pa.table({"line": pa.array(raws, pa.binary()).cast(pa.string())})
    paths = ", ".join(literal(_pointer(name)) for name in names)
    fields = "".join(f", v[{position}] AS c{position - 1}" for position in range(1, len(names) + 1))
    types = ""
    if kinds:
        fields += "".join(f", k[{position}] AS k{position - 1}" for position in range(1, len(names) + 1))
        types = f", CASE WHEN kind = 'OBJECT' THEN json_type(line, [{paths}]) END AS k"
    connection.register("lines", lines)
    judged = connection.execute(
        f"SELECT kind{fields} FROM (SELECT kind, CASE WHEN kind = 'OBJECT' THEN json_extract_string(line, [{paths}])"
        f" END AS v{types} FROM (SELECT line, {JSON_KIND} AS kind FROM lines))"
    ).to_arrow_table()
    connection.unregister("lines")
    table = judged.drop_columns(["kind"])
    if pc.all(pc.equal(judged["kind"], "OBJECT")).as_py() is not False:
        return Batch(table, None, (), block)
    found = judged["kind"].to_pylist()
    broken = tuple(Broken(index, _json_reason(kind)) for index, kind in enumerate(found) if kind != "OBJECT")
    table = table.filter(pc.equal(judged["kind"], "OBJECT"))
    return Batch(table, _positions(table.num_rows, broken), broken, block)


JSON_KIND = (
    "CASE WHEN NOT json_valid(line) THEN 'INVALID' WHEN json_type(line) <> 'OBJECT' THEN json_type(line) "
    "WHEN len(json_keys(line)) <> len(list_distinct(json_keys(line))) THEN 'TWICE' ELSE 'OBJECT' END"
)


def _json_reason(kind: str) -> str:
    if kind == "INVALID":
        return "the line is not valid JSON"
    if kind == "TWICE":
        return "the object has the same key twice"
    what = {"ARRAY": "an array", "VARCHAR": "a string", "NULL": "null", "BOOLEAN": "true or false"}
    return f"the line is not a JSON object but {what.get(kind, 'a number')}"


def _pointer(name: str) -> str:
    """RFC 6901; DuckDB's own path syntax has no escape for a quote in a key."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _parquet_batch(block: ParquetRows, names: Sequence[str], connection: duckdb.DuckDBPyConnection) -> Batch:
    fields = []
    for position, name in enumerate(names):
        column = f"r.{quoted(name)}"
        nested = pa.types.is_nested(block.table.schema.field(name).type)
        text = f"to_json({column})::VARCHAR" if nested else f"CAST({column} AS VARCHAR)"
        fields.append(f"CASE WHEN {column} IS NOT NULL THEN {text} END AS c{position}")
    connection.register("rows", block.table)
    table = connection.execute(f"SELECT {', '.join(fields)} FROM rows AS r").to_arrow_table()
    connection.unregister("rows")
    return Batch(table, None, (), block)


def _parquet_blocks(found: Input, on_read: Callable[[int], None]) -> Iterator[ParquetRows]:
    row = 1
    try:
        with pq.ParquetFile(found.path) as file:
            total = max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, use_threads=False):
                on_read(found.size_bytes * (row - 1) // total)
                yield ParquetRows(pa.Table.from_batches([batch]), row)
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise TruncatedParquet(
            f"'{found.source.name}' can't be read after row {row - 1} ({error}). Write it again, and compare its "
            "size with what was sent."
        ) from error


def _elements(found: Input, limits: EngineLimits, on_read: Callable[[int], None]) -> Iterator[Elements]:
    """Split a JSON array by Python's decoder, an element at a time; memory is bounded by the longest element."""
    splitter = ElementSplitter(found.source.name, limits.max_line_bytes)
    with found.path.open("rb", buffering=0) as file:
        file.seek(found.body)
        position = found.body
        while not splitter.ended:
            on_read(position)
            chunk = file.read(_ELEMENT_BLOCK_BYTES)
            position += len(chunk)
            if (block := splitter.feed(chunk)).raws:
                yield block
