"""Times in Parquet that are no times of Iceberg: finer than a microsecond, which DuckDB would cut silently, or of a
year that Python has no date for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakegate_ingest.engine.errors import IncompatibleColumn, LoadCancelled
from lakegate_ingest.engine.pieces import PARQUET_ROWS, read_batches
from lakegate_ingest.engine.plain import plain, plain_type

TOO_PRECISE = "more precise than a microsecond"
Unit = Literal["us", "ns"]
_ZERO, _LEAST, _MOST = pa.scalar(0), pa.scalar(-(2**63) // 1000 + 1), pa.scalar(2**63 // 1000 - 1)  # microseconds


def _in_nanoseconds(kind: pa.DataType) -> bool:
    return kind == pa.time64("ns") or (isinstance(kind, pa.TimestampType) and kind.unit == "ns")


def _holds_nanoseconds(kind: pa.DataType) -> bool:
    return holds(kind, _in_nanoseconds)


def holds(kind: pa.DataType, wanted: Callable[[pa.DataType], bool]) -> bool:
    """Whether the type, or one within it, is `wanted`."""
    if pa.types.is_dictionary(kind):
        return holds(kind.value_type, wanted)
    if pa.types.is_nested(kind):
        return any(holds(kind.field(place).type, wanted) for place in range(kind.num_fields))
    return bool(wanted(kind))


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
    return _with_text(table, _in_nanoseconds)


def objects(table: pa.Table) -> list[dict[str, Any]]:
    """The rows as Python's objects; where one has a date beyond Python's years, all dates as text."""
    try:
        rows = table.to_pylist()
    except (OverflowError, ValueError):
        rows = _with_text(table, _is_day).to_pylist()
    return rows


def _is_day(kind: pa.DataType) -> bool:
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def _with_text(table: pa.Table, wanted: Callable[[pa.DataType], bool]) -> pa.Table:
    arrays: list[Any] = [column.cast(_as_text(column.type, wanted)) for column in table.columns]
    return pa.table(arrays, names=table.column_names)


def _as_text(kind: pa.DataType, wanted: Callable[[pa.DataType], bool]) -> pa.DataType:
    if not holds(kind, wanted):
        return kind
    if pa.types.is_dictionary(kind):
        return _as_text(kind.value_type, wanted)
    if pa.types.is_struct(kind):
        fields = [kind.field(place) for place in range(len(kind))]
        return pa.struct([field.with_type(_as_text(field.type, wanted)) for field in fields])
    if pa.types.is_map(kind):
        return pa.map_(_as_text(kind.key_type, wanted), _as_text(kind.item_type, wanted))
    if pa.types.is_nested(kind):
        return pa.list_(_as_text(kind.field(0).type, wanted))
    return pa.string()


def int96_unit(path: Path, name: str, cancelled: threading.Event) -> Unit:
    """In what unit to read timestamps that have 96 bits (as Spark wrote them), by looking at all of them.

    Arrow makes nanoseconds of them, and another time of one before 1677 or after 2262; or microseconds, and cuts what
    is finer. Raises IncompatibleColumn for a file that has both, and LoadCancelled.
    """
    far = finer = False
    with path.open("rb") as one, path.open("rb") as other:
        fine, coarse = pq.ParquetFile(one), pq.ParquetFile(other, coerce_int96_timestamp_unit="us")
        names = [
            field.name
            for field, same in zip(fine.schema_arrow, coarse.schema_arrow, strict=True)
            if field.type != same.type
        ]
        groups = range(fine.num_row_groups)
        in_ns = read_batches(fine, one, groups, names, PARQUET_ROWS, int96="ns")
        in_us = read_batches(coarse, other, groups, names, PARQUET_ROWS, int96="us")
        for batch, same in zip(in_ns, in_us, strict=True):
            if cancelled.is_set():
                raise LoadCancelled("It was called off while it was read.")
            for column, its in zip(batch.columns, same.columns, strict=True):
                for ns, us in zip(_timestamps(column), _timestamps(its), strict=True):
                    rest = pc.subtract(ns, pc.multiply(us, 1000))  # right where both have overflown, too
                    finer = finer or pc.any(pc.not_equal(rest, _ZERO)).as_py() is True
                    beyond = pc.or_(pc.less(us, _LEAST), pc.greater(us, _MOST))
                    far = far or pc.any(beyond).as_py() is True
            if far and finer:
                break
    if far and finer:
        raise IncompatibleColumn(
            f"'{name}' has timestamps of 96 bits of which some are {TOO_PRECISE} and others before 1677 or after 2262. "
            "Write them as timestamps of 64 bits in microseconds (in Spark: outputTimestampType=TIMESTAMP_MICROS)."
        )
    return "ns" if finer else "us"


def _timestamps(array: Any) -> Iterator[Any]:
    """The counts of all timestamps in it, at any depth, one array after the other."""
    kind = array.type
    if pa.types.is_timestamp(kind):
        yield array.cast(pa.int64())
    elif pa.types.is_struct(kind):
        for part in array.flatten():
            yield from _timestamps(part)
    elif pa.types.is_map(kind):
        yield from _timestamps(array.cast(pa.list_(kind.field(0).type)))
    elif pa.types.is_nested(kind):
        yield from _timestamps(pc.list_flatten(array))


def first_too_precise(path: Path, int96: Unit) -> str | None:
    """The first column of the file that has such a value. Reads only the columns in nanoseconds."""
    with path.open("rb") as source, pq.ParquetFile(source, coerce_int96_timestamp_unit=int96) as file:
        names = [field.name for field in file.schema_arrow if _holds_nanoseconds(plain_type(field.type))]
        groups = range(file.num_row_groups) if names else ()
        for batch in read_batches(file, source, groups, names, PARQUET_ROWS, int96=int96):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                if pc.any(too_precise(plain(column))).as_py():
                    return name
    return None
