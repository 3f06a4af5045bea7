"""From records to files: what is no row is set aside, the rest goes through the engine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import NestedField

from lakegate_chassis.logs import log
from lakegate_ingest import engine
from lakegate_ingest.engine.inputs import MAX_NAME_CHARS
from lakegate_ingest.streams.avro import AvroReader, BadAvro, is_framed, split_frame
from lakegate_ingest.streams.backlog import Batch
from lakegate_ingest.streams.reading import Read, Reject, Target, read_rows
from lakegate_ingest.streams.requests import OnNewColumn
from lakegate_ingest.streams.shape import MOST_COLUMNS, Shape

FORMATS = "JSON objects, and Avro with the id of a schema registered for this stream"


@dataclass(frozen=True)
class Prepared:
    """`rejects` are by record of the batch."""

    read: Read
    rejects: list[Reject]
    # so many records, from the first; the others would be too much at once
    records: int


def schema_ids(batch: Batch) -> set[int]:
    """The ids of the Avro schemas that are needed to read it."""
    return {split_frame(value)[0] for value in batch.values if value is not None and is_framed(value)}


def prepare(
    batch: Batch,
    metadata: TableMetadata,
    readers: Mapping[int, AvroReader],
    folder: Path,
    *,
    on_new_column: OnNewColumn,
    most_row_bytes: int,
    most_bytes: int,
    limits: engine.EngineLimits,
) -> Prepared:
    """Read records until they are `most_bytes` as rows: Avro may be few bytes, and much as rows.

    Blocks. Raises EngineError when disk or memory are at fault. Whatever else is raised is a record's fault that nobody
    has foreseen: fewer records are read then, down to the one, which is set aside; no record may hold up a stream.
    """
    target = Target(metadata.schema(), metadata.last_column_id, on_new_column)
    shape = Shape(metadata.schema())  # out here: what is wrong with a table is no record's fault
    most_records = len(batch)
    while True:
        part = folder / str(most_records)
        part.mkdir()
        try:
            return _prepare(
                batch.values[:most_records], target, shape, readers, part,
                most_row_bytes=most_row_bytes, most_bytes=most_bytes, limits=limits,
            )  # fmt: skip
        except (engine.EngineError, OSError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - see above
            log.error("stream_records_unreadable", records=most_records, exc_info=error)
            shutil.rmtree(part)
            if most_records == 1:
                reason = f"it can't be read: {type(error).__name__}; the operator's log has more"
                return Prepared(Read(metadata.schema()), [Reject(0, None, None, reason)], 1)
            most_records //= 2


def _prepare(
    values: Sequence[bytes | None],
    target: Target,
    shape: Shape,
    readers: Mapping[int, AvroReader],
    folder: Path,
    *,
    most_row_bytes: int,
    most_bytes: int,
    limits: engine.EngineLimits,
) -> Prepared:
    lines = _lines(values, readers, most_row_bytes=most_row_bytes, most_bytes=most_bytes)
    own = shape.schema
    if target.on_new_column == "evolve":
        target = _with_declared(target, [readers[schema_id] for schema_id in lines.schema_ids])
        if target.schema is not None and target.schema is not own:
            shape = Shape(target.schema)
    lines = _screened(lines, shape, target.on_new_column)
    if not lines.rows:
        return Prepared(Read(own), lines.rejects, lines.records)
    read = read_rows(lines.rows, target, folder, limits, name="the stream")
    rejects = [*lines.rejects, *(replace(item, index=lines.places[item.index]) for item in read.rejects)]
    if read.unread is None:
        return Prepared(read, rejects, lines.records)
    records = lines.places[read.unread]
    return Prepared(read, [reject for reject in rejects if reject.index < records], records)


@dataclass(frozen=True)
class _Lines:
    """`rows[i]` is one line of JSON, of record `places[i]`; `rejects` are the others of the first `records`."""

    rows: list[bytes]
    places: list[int]
    rejects: list[Reject]
    schema_ids: tuple[int, ...]
    records: int


def _lines(
    values: Sequence[bytes | None], readers: Mapping[int, AvroReader], *, most_row_bytes: int, most_bytes: int
) -> _Lines:
    """Of the first records until they are more than `most_bytes`."""
    rows: list[bytes] = []
    places: list[int] = []
    rejects: list[Reject] = []
    # in the order in which they are met: columns are added in it
    schema_ids: dict[int, None] = {}
    size = records = 0
    for index, value in enumerate(values):
        if size > most_bytes:
            break
        records = index + 1
        row = _row(value, readers, most_row_bytes)
        size += len(row)
        if isinstance(row, str):
            rejects.append(Reject(index, None, None, row))
            continue
        rows.append(row)
        places.append(index)
        if value is not None and is_framed(value):
            schema_ids[split_frame(value)[0]] = None
    return _Lines(rows, places, rejects, tuple(schema_ids), records)


def _screened(lines: _Lines, shape: Shape, on_new_column: OnNewColumn) -> _Lines:
    """Without the rows that are no JSON objects or have what the table can't take."""
    refused = {
        place: found
        for place in shape.uncertain(lines.rows)
        if (found := shape.screen(lines.rows[place], on_new_column)) is not None
    }
    if not refused:
        return lines
    return replace(
        lines,
        rows=[row for place, row in enumerate(lines.rows) if place not in refused],
        places=[index for place, index in enumerate(lines.places) if place not in refused],
        rejects=lines.rejects
        + [Reject(lines.places[place], column, None, reason) for place, (column, reason) in refused.items()],
    )


def _with_declared(target: Target, readers: Sequence[AvroReader]) -> Target:
    """With a column for each field that the table lacks and a schema declares; what is left is told from the values."""
    schema = target.schema
    assert schema is not None
    fields = list(schema.fields)
    known = {field.name.casefold() for field in fields}
    last_id = max(target.last_column_id or 0, schema.highest_field_id)
    for name, kind in (column for reader in readers for column in reader.columns.items()):
        if kind is None or name.casefold() in known or len(name) > MAX_NAME_CHARS or len(fields) >= MOST_COLUMNS:
            continue
        last_id += 1
        known.add(name.casefold())
        fields.append(NestedField(last_id, name, kind, required=False))
    if len(fields) == len(schema.fields):
        return target
    grown = Schema(*fields, schema_id=schema.schema_id, identifier_field_ids=schema.identifier_field_ids)
    return replace(target, schema=grown, last_column_id=last_id)


def _row(value: bytes | None, readers: Mapping[int, AvroReader], most_bytes: int) -> bytes | str:
    """One line of JSON; or why the record is no row."""
    if value is None:
        return "the record has no value; streams add rows, and delete none"
    if len(value) > most_bytes:
        return f"the record has {len(value):,} bytes, and a row has at most {most_bytes:,}"
    if is_framed(value):
        schema_id, data = split_frame(value)
        reader = readers.get(schema_id)
        if reader is None:
            return f"no Avro schema {schema_id} is registered for this stream; values are {FORMATS}"
        try:
            return reader.json(data)
        except BadAvro as error:
            return f"not a value of Avro schema {schema_id}: {error}"
    if b"\n" in value or b"\r" in value:
        # a row is one line; between tokens a line break is white space, within a string it is not JSON
        try:
            msgspec.json.decode(value, type=msgspec.Raw)
        except (msgspec.DecodeError, RecursionError) as error:
            return f"not valid JSON: {error}; values are {FORMATS}"
        return value.replace(b"\r", b" ").replace(b"\n", b" ")
    return value
