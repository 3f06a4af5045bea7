"""The fast path: DuckDB reads a file typed and writes Parquet, in one statement.

It stops at the first value that does not fit; the tolerant path then starts over. What DuckDB would accept
but change (see types.py) counts as not fitting, either row by row in the statement or, for free, by the
statistics in the Parquet footers afterwards.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.types import DateType, DoubleType, FloatType, LongType, TimestampType, TimestamptzType

from lakegate_ingest.engine.columns import Column
from lakegate_ingest.engine.duck import connect, is_out_of_disk, out_of_disk
from lakegate_ingest.engine.errors import EngineError
from lakegate_ingest.engine.inference import is_bytes
from lakegate_ingest.engine.inputs import Input
from lakegate_ingest.engine.model import DataFile, EngineLimits, Format
from lakegate_ingest.engine.precision import TOO_PRECISE, first_too_precise
from lakegate_ingest.engine.spoolfile import Spool, SpoolFileSystem
from lakegate_ingest.engine.types import EXACT_DOUBLE, literal, on, parquet_reading, quoted, reading

_BUFFER_BYTES = 8 * 1024 * 1024  # DuckDB's own 32 MB for each buffer would eat the memory limit; no slower
_STOP = "a value does not fit"
_PROBE = "__lakegate_probe"
_DAY_LIMIT = 2**31 - 2  # DuckDB writes the dates 'infinity' and '-infinity' as the largest numbers
_INSTANT_LIMIT = 2**63 - 2


class NotTyped(Exception):
    """The file needs the tolerant path. The message says why; it is for logs."""


@dataclass(frozen=True, slots=True)
class TypedResult:
    files: tuple[DataFile, ...]
    rows: int


def write_typed(
    found: Input,
    columns: Sequence[Column],
    wide: frozenset[str],
    *,
    out_dir: Path,
    work_dir: Path,
    limits: EngineLimits,
    on_read: Callable[[int], None],
) -> TypedResult:
    """Write all rows of `found` to `out_dir`, or raise NotTyped and leave `out_dir` without files.

    `wide` are source columns whose sample has whole numbers beyond 2**53: read as text, not as double.
    """
    if found.arrow is not None and (name := first_too_precise(found.path)) is not None:
        raise NotTyped(f"'{name}' has values that are {TOO_PRECISE}")
    json_records = found.format in (Format.NDJSON, Format.JSON)
    spool = Spool(found.path, skip=found.skip, arrival=found.arrival, on_read=on_read, positional=json_records)
    fields = ", ".join(f"{literal(column.field.name)}: {column.field.field_id}" for column in columns)
    statement = (
        f"COPY ({_query(found, columns, wide, spool)}) TO {literal(str(out_dir))} "
        f"(FORMAT parquet, COMPRESSION zstd, FIELD_IDS {{{fields}}}, FILE_SIZE_BYTES {limits.target_file_bytes}, "
        # A dictionary that will not pay is given up early, which saves a tenth of the time.
        "DICTIONARY_SIZE_LIMIT 2000, WRITE_BLOOM_FILTER false, OVERWRITE_OR_IGNORE true)"
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    try:
        with connect(work_dir, memory_bytes=limits.memory_bytes, threads=limits.threads) as connection:
            connection.register_filesystem(SpoolFileSystem({"file": spool}))
            connection.execute(statement)
        files = tuple(_data_file(path, found, columns, wide) for path in sorted(out_dir.glob("*.parquet")))
    except BaseException as error:
        shutil.rmtree(out_dir, ignore_errors=True)
        if isinstance(spool.failure, (EngineError, OSError)):
            raise spool.failure from error
        if is_out_of_disk(error):
            raise out_of_disk() from error
        if isinstance(error, duckdb.Error):
            raise NotTyped(str(error).partition("\n")[0]) from error
        raise
    return TypedResult(tuple(file for file in files if file.rows), sum(file.rows for file in files))


def _query(found: Input, columns: Sequence[Column], wide: frozenset[str], spool: Spool) -> str:
    """The rows as the table wants them; the statement fails at the first value that does not fit.

    Two projections and no filter on values: DuckDB would push one below the inner projection and cast twice.
    The first column carries the check of all.
    """
    values, results, bad = [], [], []
    for position, column in enumerate(columns):
        value = f"c.c{position}" if found.format.delimited else f"c.{quoted(column.source)}"
        choice = _choice(found, column, wide)
        values.append(f"{on(choice.value, value)} AS v{position}")
        results.append(on(choice.result, f"v{position}"))
        if choice.bad:
            bad.append(on(choice.bad, f"v{position}"))
        if column.field.required:
            bad.append(f"v{position} IS NULL")
    where = ""
    if found.format in (Format.NDJSON, Format.JSON):
        # A line `null` would come out as a row of nothing but nulls; so would {}: the tolerant path tells them apart.
        bad.append("(" + " AND ".join(f"v{position} IS NULL" for position in range(len(columns))) + ")")
        where = f" WHERE c.{quoted(_PROBE)} IS NULL"
    if bad:
        results[0] = f"CASE WHEN {' OR '.join(bad)} THEN error('{_STOP}') ELSE {results[0]} END"
    named = ", ".join(
        f"{result} AS {quoted(column.field.name)}" for result, column in zip(results, columns, strict=True)
    )
    reader = _reader(found, columns, wide, spool)
    return f"SELECT {named} FROM (SELECT {', '.join(values)} FROM {reader} AS c{where})"


@dataclass(frozen=True, slots=True)
class _Choice:
    """How a column is read: templates on what the reader gives (value), and on that (result, bad)."""

    value: str
    result: str
    bad: str | None


def _choice(found: Input, column: Column, wide: frozenset[str]) -> _Choice:
    rule = parquet_reading(column.kind)
    arrow = found.arrow.field(column.source).type if found.arrow is not None else None
    assert rule is not None
    by_text = _Choice(
        "{v}" if arrow is None else "CAST({v} AS VARCHAR)",
        "TRY_CAST({v} AS UUID)" if rule.sql == "UUID" else rule.cast,
        None if rule.bad == "false" else f"({{v}} IS NOT NULL AND {rule.bad})",
    )
    if arrow is not None:
        if _same(arrow, rule.arrow):
            return _Choice(f"CAST({{v}} AS {rule.sql})", "{v}", None)
        return _Choice("to_json({v})::VARCHAR", "{v}", None) if pa.types.is_nested(arrow) else by_text
    if rule.read_as is None or column.source in wide:
        return by_text
    needs_cast = _read_as(found.format, column, wide) != rule.read_as
    return _Choice(f"CAST({{v}} AS {rule.read_as})" if needs_cast else "{v}", rule.typed_cast, rule.typed_bad)


def _same(kind: pa.DataType, target: pa.DataType) -> bool:
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        kind = pa.string()
    if is_bytes(kind):
        kind = pa.binary()
    return bool(kind == target) or (
        pa.types.is_timestamp(kind) and pa.types.is_timestamp(target) and kind.tz == target.tz
    )


def _read_as(form: Format, column: Column, wide: frozenset[str]) -> str:
    rule = reading(column.kind)
    assert rule is not None
    if rule.read_as is None or column.source in wide:
        return "VARCHAR"
    if rule.read_as == "TIMESTAMPTZ":
        return "VARCHAR"  # read_csv of DuckDB 1.5.5 makes null of what is no TIMESTAMPTZ, without an error
    if form.delimited or rule.read_as in ("DOUBLE", "VARCHAR"):
        return rule.read_as
    return "VARCHAR"  # JSON: the probe can ask for no more than these two


def _reader(found: Input, columns: Sequence[Column], wide: frozenset[str], spool: Spool) -> str:
    if found.format is Format.PARQUET:
        return f"read_parquet({literal(str(found.path))})"
    if found.format.delimited:
        assert found.delimiter is not None
        types = ", ".join(f"c{i}: '{_read_as(found.format, c, wide)}'" for i, c in enumerate(columns))
        nulls = ", ".join(literal(null) for null in dict.fromkeys(("", *found.source.options.null_values)))
        return (
            f"read_csv('spool://file', auto_detect = false, delim = {literal(found.delimiter)}, quote = '\"', "
            f"escape = '\"', header = {str(found.source.options.header).lower()}, nullstr = [{nulls}], "
            f"buffer_size = {_BUFFER_BYTES}, columns = {{{types}}})"
        )
    # With `columns =` DuckDB would skip unknown keys silently; detecting types from one made-up record, put
    # before the file, gives the same types and an error at the first key that the record does not have.
    probe: dict[str, object] = {}
    for column in columns:
        probe[column.source] = 1.5 if _read_as(found.format, column, wide) == "DOUBLE" else "text"
    probe[_PROBE] = True
    text = json.dumps(probe).encode()
    if found.format is Format.NDJSON:
        spool.head = text + b"\n"
        return "read_ndjson('spool://file', sample_size = 1)"
    with found.path.open("rb") as file:
        file.seek(found.skip)
        start = file.read(64 * 1024)
    spool.skip = found.skip + start.index(b"[") + 1
    spool.head = b"[" + text + b","
    return "read_json('spool://file', format = 'array', sample_size = 1)"


def _data_file(path: Path, found: Input, columns: Sequence[Column], wide: frozenset[str]) -> DataFile:
    """Raises NotTyped when the statistics show a value that reading as typed could not hold exactly."""
    metadata = pq.read_metadata(path)
    for group in range(metadata.num_row_groups):
        for position, column in enumerate(columns if metadata.num_columns == len(columns) else ()):
            chunk = metadata.row_group(group).column(position)
            if column.source not in wide and found.arrow is None and chunk.statistics is not None:
                _check_statistics(column, chunk.statistics)
    return DataFile(path, path.stat().st_size, metadata.num_rows)


def _check_statistics(column: Column, statistics: pq.Statistics) -> None:
    if not statistics.has_min_max:
        return
    low: Any = statistics.min_raw
    high: Any = statistics.max_raw
    if isinstance(column.kind, LongType):
        exact = low > -EXACT_DOUBLE and high < EXACT_DOUBLE
    elif isinstance(column.kind, (DoubleType, FloatType)):
        exact = not math.isinf(low) and not math.isinf(high)
    elif isinstance(column.kind, DateType):
        exact = abs(low) < _DAY_LIMIT and abs(high) < _DAY_LIMIT
    elif isinstance(column.kind, (TimestampType, TimestamptzType)):
        exact = abs(low) < _INSTANT_LIMIT and abs(high) < _INSTANT_LIMIT
    else:
        return
    if not exact:
        raise NotTyped(f"'{column.field.name}' has values from {low} to {high}")
