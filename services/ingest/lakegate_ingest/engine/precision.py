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


def too_precise(column: Any) -> Any:
    """For each value of a top-level column whether it has a fraction of a microsecond; false for other types."""
    if not _in_nanoseconds(column.type):
        return pa.repeat(pa.scalar(False), len(column))
    count = column.cast(pa.int64())
    return pc.fill_null(pc.not_equal(pc.multiply(pc.divide(count, 1000), 1000), count), False)


def nanoseconds_as_text(table: pa.Table) -> pa.Table:
    """Python's own times hold microseconds only, and Arrow refuses to make them of anything finer."""
    arrays: list[Any] = [
        column.cast(pa.string()) if _in_nanoseconds(column.type) else column for column in table.columns
    ]
    return pa.table(arrays, names=table.column_names)


def first_too_precise(path: Path) -> str | None:
    """The first column of the file that has such a value. Reads only the columns in nanoseconds."""
    with pq.ParquetFile(path) as file:
        names = [field.name for field in file.schema_arrow if _in_nanoseconds(field.type)]
        for batch in file.iter_batches(columns=names, use_threads=False) if names else ():
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                if pc.any(too_precise(column)).as_py():
                    return name
    return None
