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

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.types import DateType, DoubleType, FloatType, LongType, TimestampType, TimestamptzType

from lakegate_ingest.engine.columns import Column
from lakegate_ingest.engine.duck import connect, is_out_of_disk, out_of_disk
from lakegate_ingest.engine.errors import EngineError
from lakegate_ingest.engine.inputs import Input
from lakegate_ingest.engine.model import DataFile, EngineLimits, Format
from lakegate_ingest.engine.spoolfile import Spool, SpoolFileSystem
from lakegate_ingest.engine.types import EXACT_DOUBLE, literal, on, quoted, reading

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
    spool = Spool(found.path, skip=found.skip, arrival=found.arrival, on_read=on_read)
    selected = [_select(found, column, position, wide) for position, column in enumerate(columns)]
    reader = _reader(found, columns, wide, spool)
    bad = [condition for _, condition in selected if condition]
    stop = f"error('{_STOP}')::BOOLEAN"
    cases = ""
    if found.format in (Format.NDJSON, Format.JSON):
        # A line `null` would come out as a row of nothing but nulls; so would {}: the tolerant path tells them apart.
        bad.append("(" + " AND ".join(f"c.{quoted(column.source)} IS NULL" for column in columns) + ")")
        cases = f"WHEN c.{quoted(_PROBE)} IS NOT NULL THEN false "  # first: the probe itself fits nothing
    where = f" WHERE CASE {cases}WHEN {' OR '.join(bad)} THEN {stop} ELSE true END" if bad else ""
    fields = ", ".join(f"{literal(column.field.name)}: {column.field.field_id}" for column in columns)
    statement = (
        f"COPY (SELECT {', '.join(sql for sql, _ in selected)} FROM {reader} AS c{where}) TO {literal(str(out_dir))} "
        f"(FORMAT parquet, COMPRESSION zstd, FIELD_IDS {{{fields}}}, FILE_SIZE_BYTES {limits.target_file_bytes}, "
        "DICTIONARY_SIZE_LIMIT 2000, WRITE_BLOOM_FILTER false, OVERWRITE_OR_IGNORE true)"
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    try:
        with connect(work_dir, memory_bytes=limits.memory_bytes, threads=limits.threads) as connection:
            connection.register_filesystem(SpoolFileSystem({"file": spool}))
            connection.execute(statement)
        files = tuple(_data_file(path, columns, wide) for path in sorted(out_dir.glob("*.parquet")))
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


def _select(found: Input, column: Column, position: int, wide: frozenset[str]) -> tuple[str, str | None]:
    """The column's value as SQL under its table name, and the condition under which it is bad."""
    rule = reading(column.kind)
    value = f"c.{quoted(column.source)}" if not found.format.delimited else f"c.c{position}"
    alias = f" AS {quoted(column.field.name)}"
    required = f"{value} IS NULL" if column.field.required else None
    if found.arrow is not None:
        value, bad = _from_parquet(value, column, found.arrow.field(column.source).type)
        return value + alias, " OR ".join(filter(None, (bad, required))) or None
    assert rule is not None
    if _read_as(found.format, column, wide) == rule.read_as:
        cast, bad = on(rule.typed_cast, value), on(rule.typed_bad, value) if rule.typed_bad else None
    else:
        cast = on(rule.cast, value) if not _is_uuid(rule.sql) else f"TRY_CAST({value} AS UUID)"
        bad = f"({value} IS NOT NULL AND {on(rule.bad, value)})"
    return cast + alias, " OR ".join(filter(None, (bad, required))) or None


def _is_uuid(sql: str) -> bool:
    return sql == "UUID"


def _from_parquet(value: str, column: Column, kind: pa.DataType) -> tuple[str, str | None]:
    rule = reading(column.kind)
    if rule is None or _same(kind, rule.arrow):
        return (f"CAST({value} AS {rule.sql})" if rule else value), None
    if pa.types.is_nested(kind):
        return f"to_json({value})::VARCHAR", None
    text = f"CAST({value} AS VARCHAR)"
    cast = on(rule.cast, text) if not _is_uuid(rule.sql) else f"TRY_CAST({text} AS UUID)"
    return cast, f"({value} IS NOT NULL AND {on(rule.bad, text)})"


def _same(kind: pa.DataType, target: pa.DataType) -> bool:
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        kind = pa.string()
    return bool(kind == target) or (
        pa.types.is_timestamp(kind) and pa.types.is_timestamp(target) and kind.tz == target.tz
    )


def _read_as(form: Format, column: Column, wide: frozenset[str]) -> str:
    rule = reading(column.kind)
    assert rule is not None
    if rule.read_as is None or column.source in wide:
        return "VARCHAR"
    if form.delimited or rule.read_as in ("DOUBLE", "VARCHAR"):
        return rule.read_as
    # JSON: a probe can only ask for these two; and `true` read as a number, or 2 as a boolean, must not pass.
    return "VARCHAR"


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


def _data_file(path: Path, columns: Sequence[Column], wide: frozenset[str]) -> DataFile:
    """Raises NotTyped when the statistics show a value that reading as typed could not hold exactly."""
    metadata = pq.read_metadata(path)
    for group in range(metadata.num_row_groups):
        for position, column in enumerate(columns if metadata.num_columns == len(columns) else ()):
            chunk = metadata.row_group(group).column(position)
            if column.source not in wide and chunk.statistics is not None:
                _check_statistics(column, chunk.statistics)
    return DataFile(path, path.stat().st_size, metadata.num_rows)


def _check_statistics(column: Column, statistics: pq.Statistics) -> None:
    if not statistics.has_min_max:
        return
    low, high = statistics.min_raw, statistics.max_raw
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
