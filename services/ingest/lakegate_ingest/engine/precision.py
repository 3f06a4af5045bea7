"""Nanoseconds in Parquet: Iceberg's times and timestamps hold microseconds, and DuckDB would cut the rest silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

TOO_PRECISE = "more precise than a microsecond"


def _in_nanoseconds(kind: pa.DataType) -> bool:
    return kind == pa.time64("ns") or (isinstance(kind, pa.TimestampType) and kind.unit == "ns")


def _holds_nanoseconds(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_nanoseconds(kind.value_type)
    if pa.types.is_nested(kind):
        return any(_holds_nanoseconds(kind.field(place).type) for place in range(kind.num_fields))
    return _in_nanoseconds(kind)


def too_precise(column: Any) -> Any:
    """For each value of a column whether it has a fraction of a microsecond, at any depth."""
    if not _holds_nanoseconds(column.type):
        return pa.repeat(pa.scalar(False), len(column))
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([too_precise(chunk) for chunk in column.chunks], pa.bool_())
    kind = column.type
    if pa.types.is_dictionary(kind):
        return too_precise(column.dictionary_decode())
    if pa.types.is_struct(kind):
        found = pa.repeat(pa.scalar(False), len(column))
        for part in column.flatten():  # with the nulls of the struct itself
            found = pc.or_(found, too_precise(part))
        return found
    if pa.types.is_map(kind):
        column = column.cast(pa.list_(kind.field(0).type))
    if pa.types.is_nested(kind):
        within = too_precise(pc.list_flatten(column))
        rows = pc.list_parent_indices(column).filter(within)
        return pc.is_in(pa.array(range(len(column)), pa.int64()), value_set=rows.cast(pa.int64()))
    count = column.cast(pa.int64())
    return pc.fill_null(pc.not_equal(pc.multiply(pc.divide(count, 1000), 1000), count), False)


def nanoseconds_as_text(table: pa.Table) -> pa.Table:
    """Python's own times hold microseconds only, and Arrow refuses to make them of anything finer."""
    arrays: list[Any] = [column.cast(_as_text(column.type)) for column in table.columns]
    return pa.table(arrays, names=table.column_names)


def _as_text(kind: pa.DataType) -> pa.DataType:
    if not _holds_nanoseconds(kind):
        return kind
    if pa.types.is_dictionary(kind):
        return _as_text(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([kind.field(place).with_type(_as_text(kind.field(place).type)) for place in range(len(kind))])
    if pa.types.is_map(kind):
        return pa.map_(_as_text(kind.key_type), _as_text(kind.item_type))
    if pa.types.is_nested(kind):
        return pa.list_(_as_text(kind.field(0).type))
    return pa.string()


def first_too_precise(path: Path) -> str | None:
    """The first column of the file that has such a value. Reads only the columns in nanoseconds."""
    with pq.ParquetFile(path) as file:
        names = [field.name for field in file.schema_arrow if _holds_nanoseconds(field.type)]
        for batch in file.iter_batches(columns=names, use_threads=False) if names else ():
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                if pc.any(too_precise(column)).as_py():
                    return name
    return None
