"""Any input as blocks of whole records, and any block as a batch of text columns."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.types import IcebergType

from lakegate_ingest.engine.batch import Batch, Broken, Records, Split, among, positions_of
from lakegate_ingest.engine.counting import too_long
from lakegate_ingest.engine.delimited import delimited_batch
from lakegate_ingest.engine.duck import Session
from lakegate_ingest.engine.elements import Elements, ElementSplitter
from lakegate_ingest.engine.errors import TruncatedParquet
from lakegate_ingest.engine.inference import is_bytes
from lakegate_ingest.engine.inputs import Input, first_rows
from lakegate_ingest.engine.json_records import NOTHING_EXACT, Exact, json_batch
from lakegate_ingest.engine.model import EngineLimits, Format
from lakegate_ingest.engine.pieces import PARQUET_ROWS, read_batches
from lakegate_ingest.engine.plain import as_text, plain
from lakegate_ingest.engine.precision import TOO_PRECISE, nanoseconds_as_text, objects, too_precise
from lakegate_ingest.engine.records import Block, check_utf8, last_record_end, read_blocks, record_pattern
from lakegate_ingest.engine.types import quoted

_ELEMENT_BLOCK_BYTES = 4 * 1024 * 1024
_SAMPLE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ParquetRows:
    """Rows of a Parquet file: their "line" is the row number, their raw text is JSON."""

    table: pa.Table
    first_row: int

    def split(self) -> Split:
        raws = [json.dumps(row, default=str) for row in objects(nanoseconds_as_text(self.table))]
        return Split(pa.array(raws, pa.string()), self.first_row, breaks="")


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
                return Block(data[:cut], found.line, found.body + cut, pattern, (found.delimiter or ",").encode())
        if size > limits.max_line_bytes:
            raise too_long(limits.max_line_bytes, found.line)
        size *= 4


def batch_of(
    block: Records,
    found: Input,
    names: Sequence[str],
    session: Session,
    *,
    kinds: bool = False,
    exact: Exact = NOTHING_EXACT,
    into: Mapping[str, IcebergType] | None = None,
) -> Batch:
    """`block` as text columns, one for each of `names`; with `kinds` and JSON, also k0, … with the JSON types.
    `exact` matters to JSON only: whose numbers have to be as they are written. `into` matters to Parquet only: the
    types of the columns of the table."""
    if found.format.delimited:
        return delimited_batch(block, found, names)
    if isinstance(block, ParquetRows):
        return _parquet_batch(block, names, session, into or {})
    return json_batch(block, names, session, kinds=kinds, exact=exact)


def _parquet_batch(
    block: ParquetRows, names: Sequence[str], session: Session, into: Mapping[str, IcebergType]
) -> Batch:
    fields = []
    for position, name in enumerate(names):
        column = f"r.{quoted(name)}"
        kind = block.table.schema.field(name).type
        nested = pa.types.is_nested(kind)
        text = f"to_json({column})::VARCHAR" if nested else as_text(column, kind, into.get(name))
        if is_bytes(kind):
            text = f"hex({column})"
        fields.append(f"CASE WHEN {column} IS NOT NULL THEN {text} END AS c{position}")
    broken: dict[int, Broken] = {}
    for name in names:
        for row in pc.indices_nonzero(too_precise(block.table[name])).to_pylist():
            value = str(nanoseconds_as_text(block.table.select([name]).slice(row, 1))[name][0].as_py())
            broken.setdefault(row, Broken(row, TOO_PRECISE, name, value))
    rows = block.table
    if broken:
        rows = rows.filter(pc.invert(among(rows.num_rows, list(broken))))
    table = session.ask(f"SELECT {', '.join(fields)} FROM rows AS r", "rows", rows)
    gone = tuple(broken[row] for row in sorted(broken))
    return Batch(table, positions_of(table.num_rows, gone), gone, block)


def _parquet_blocks(found: Input, on_read: Callable[[int], None]) -> Iterator[ParquetRows]:
    row = 1
    try:
        with found.path.open("rb") as source, found.parquet(source) as file:
            total = max(file.metadata.num_rows, 1)
            groups = range(file.num_row_groups)
            names = file.schema_arrow.names
            for batch in read_batches(file, source, groups, names, PARQUET_ROWS, int96=found.int96):
                on_read(found.size_bytes * (row - 1) // total)
                table = pa.table([plain(column) for column in batch.columns], names=batch.schema.names)
                yield ParquetRows(table, row)
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
