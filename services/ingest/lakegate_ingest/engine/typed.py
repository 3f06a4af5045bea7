"""The fast path: DuckDB reads a file typed and writes Parquet, in one statement.

It stops at the first value that does not fit; the tolerant path then starts over. What DuckDB would accept but change
(see types.py) counts as not fitting: the statement compares each value with the text that it came from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.types import (
    BooleanType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    UUIDType,
)

from lakegate_ingest.engine.columns import Column
from lakegate_ingest.engine.duck import connect, is_out_of_disk, legible, out_of_disk
from lakegate_ingest.engine.errors import EngineError
from lakegate_ingest.engine.inference import is_bytes
from lakegate_ingest.engine.inputs import Input
from lakegate_ingest.engine.json_records import NESTED_DOUBT
from lakegate_ingest.engine.model import DataFile, EngineLimits, Format
from lakegate_ingest.engine.plain import as_text
from lakegate_ingest.engine.precision import TOO_PRECISE, first_too_precise
from lakegate_ingest.engine.soundness import check_parquet
from lakegate_ingest.engine.spoolfile import Pipe, Spool, SpoolFileSystem
from lakegate_ingest.engine.truths import TruthCount, long_fraction_under, tiny_under, truth_under
from lakegate_ingest.engine.types import Reading, literal, on, parquet_reading, quoted

_JSON = (Format.NDJSON, Format.JSON)
_BUFFER_BYTES = 2 * 1024 * 1024  # as long as DuckDB's longest line; what stays in the cache is a quarter faster
_STOP = "a value does not fit"
_DOUBT = "a text may be a number"
# How DuckDB writes a double; few texts begin like a number.
_FRACTION = "(CASE WHEN {v} >= '-' AND {v} < ':' THEN contains({v}, '.') OR contains({v}, 'e') ELSE false END)"
# What DuckDB takes for numbers of JSON, in any case, and passes on as it is written. Few texts end like one. (Of a list
# behind IN, DuckDB makes a join.)
_ENDS = " OR ".join(f"suffix({{v}}, '{letter}')" for letter in "nNfFyY")
_WORD = (
    f"(CASE WHEN strlen({{v}}) < 10 AND ({_ENDS})"
    " THEN regexp_full_match({v}, '(?i)-?(nan|inf|infinity)') ELSE false END)"
)
_DOUBTFUL = (
    f"(CASE WHEN {_FRACTION} THEN regexp_full_match({{v}}, '-?[0-9]+([.][0-9]+)?(e[+-]?[0-9]+)?') ELSE false END"
    f" OR {_WORD} OR {NESTED_DOUBT})"
)
_BARE = f"({_FRACTION} OR {_WORD} OR {NESTED_DOUBT})"
_PROBE = "__lakegate_probe"
_GROUP_CONDITIONS = 50
_WIDE_COLUMNS = 400  # each thread has vectors for every column, of its text and of its value
_MOST_COLUMNS = 600  # more do not fit into the memory of one statement
_JSON_OBJECT_BYTES = 8 * 1024 * 1024  # a buffer is twice that; a longer record takes the tolerant path


class NotTyped(Exception):
    """The file needs the tolerant path. The message says why; it is for logs."""


class _Doubtful(NotTyped):
    """A text of JSON may be a number that was not written so."""


@dataclass(frozen=True, slots=True)
class TypedResult:
    files: tuple[DataFile, ...]
    rows: int


def write_typed(
    found: Input,
    columns: Sequence[Column],
    *,
    out_dir: Path,
    work_dir: Path,
    limits: EngineLimits,
    on_read: Callable[[int], None],
) -> TypedResult:
    """Write all rows of `found` to `out_dir`, or raise NotTyped and leave `out_dir` without files.

    A number with a point or an exponent in a column of text comes from DuckDB's JSON reader as a double's text, 1.10 as
    1.1, and no one can tell it from a text "1.1". When there is such a text, all are read once more as JSON, which can.
    """
    if found.arrow is None and len(columns) > _MOST_COLUMNS:
        raise NotTyped(f"{len(columns)} columns of text are more than one statement has memory for")
    try:
        return _write(found, columns, False, out_dir, work_dir, limits, on_read)
    except _Doubtful:
        if len(columns) > _WIDE_COLUMNS:
            raise  # both texts of every column would not fit into memory
        return _write(found, columns, True, out_dir, work_dir, limits, on_read)


def _write(
    found: Input,
    columns: Sequence[Column],
    quotes: bool,
    out_dir: Path,
    work_dir: Path,
    limits: EngineLimits,
    on_read: Callable[[int], None],
) -> TypedResult:
    """With `quotes`, the texts of JSON are read with theirs."""
    if found.arrow is not None:
        check_parquet(found, on_read)
        if (name := first_too_precise(found.path, found.int96)) is not None:
            raise NotTyped(f"'{name}' has values that are {TOO_PRECISE}")
    spool = Spool(
        found.path, skip=found.skip, arrival=found.arrival, on_read=on_read, positional=found.format is Format.NDJSON
    )
    if _of_json(found, columns, FloatType, DoubleType):
        spool.truths = TruthCount()
    served = Pipe(spool, work_dir) if found.format.delimited else nullcontext()
    statement = _copy(_query(found, columns, spool, quotes), columns, out_dir, limits)
    out_dir.mkdir(parents=True, exist_ok=True)
    try:
        threads = limits.threads if len(columns) <= _WIDE_COLUMNS else 1
        with connect(work_dir, memory_bytes=limits.memory_bytes, threads=threads) as connection, served:
            if found.format in _JSON:
                connection.register_filesystem(SpoolFileSystem({"file": spool}))
            with legible():
                connection.execute(statement)
        if spool.failure is not None:
            raise spool.failure
        files = tuple(_data_file(path) for path in sorted(out_dir.glob("*.parquet")))
        _check_numbers(found, columns, spool, [file.path for file in files])
    except BaseException as error:
        shutil.rmtree(out_dir, ignore_errors=True)
        meant = _meant(error, spool)
        if meant is error:
            raise
        raise meant from error
    return TypedResult(tuple(file for file in files if file.rows), sum(file.rows for file in files))


def _of_json(found: Input, columns: Sequence[Column], *kinds: type[IcebergType]) -> list[str]:
    """The keys that fill columns of these types; none in other formats than JSON."""
    return [column.source for column in columns if isinstance(column.kind, kinds)] if found.format in _JSON else []


def _copy(query: str, columns: Sequence[Column], out_dir: Path, limits: EngineLimits) -> str:
    fields = ", ".join(f"{literal(column.field.name)}: {column.field.field_id}" for column in columns)
    return (
        f"COPY ({query}) TO {literal(str(out_dir))} "
        f"(FORMAT parquet, FIELD_IDS {{{fields}}}, FILE_SIZE_BYTES {limits.target_file_bytes}, "
        # The level that Arrow takes on the tolerant path. Of flights, 3 makes files 2 % smaller in 17 % more time.
        "COMPRESSION zstd, COMPRESSION_LEVEL 1, "
        # A dictionary that will not pay is given up early, which saves a tenth of the time.
        "DICTIONARY_SIZE_LIMIT 2000, WRITE_BLOOM_FILTER false, OVERWRITE_OR_IGNORE true)"
    )


def _check_numbers(found: Input, columns: Sequence[Column], spool: Spool, files: list[Path]) -> None:
    """What DuckDB's reader of JSON makes of numbers without a word. Raises NotTyped."""
    if numbers := _of_json(found, columns, DoubleType):
        _check_truths(found, columns, numbers, spool, files)
    if spool.truths is not None and spool.truths.tiny:
        fractions = _of_json(found, columns, FloatType, DoubleType)
        if tiny_under(found.path, spool.skip, fractions):
            raise NotTyped("a column of numbers has one that is too small")
    decimals = _of_json(found, columns, DecimalType)
    if decimals and long_fraction_under(found.path, spool.skip, decimals):
        raise NotTyped("a column of decimals has a number with more digits than a double holds")


def _meant(error: BaseException, spool: Spool) -> BaseException:
    """What a failure stands for: DuckDB wraps what the spool raised, and says in words what does not fit."""
    if error is not spool.failure and isinstance(spool.failure, (EngineError, OSError)):
        return spool.failure
    if is_out_of_disk(error):
        return out_of_disk()
    if isinstance(error, duckdb.Error):
        return _Doubtful(_DOUBT) if _DOUBT in str(error) else NotTyped(str(error).partition("\n")[0])
    return error


def _query(found: Input, columns: Sequence[Column], spool: Spool, quotes: bool) -> str:
    """The rows as the table wants them; the statement fails at the first value that does not fit.

    Two projections and no filter on values: DuckDB would push one below the inner projection and cast twice.
    The first column carries the check of all.
    """
    values, results, bad, doubtful = [], [], [], []
    for position, column in enumerate(columns):
        value = f"c.c{position}" if found.format.delimited else f"c.{quoted(column.source)}"
        text, parsed = f"v{position}", f"p{position}"
        choice = _choice(found, column, quotes)
        values += [f"{on(choice.value, value)} AS {text}", f"{on(choice.parsed, on(choice.value, value))} AS {parsed}"]
        results.append(on(choice.result, text, parsed))
        if choice.odd != "false":
            bad.append(on(choice.odd, text, parsed))
        if choice.doubtful != "false":
            doubtful.append(on(choice.doubtful, text, parsed))
        if column.field.required:
            bad.append(f"{text} IS NULL")
    where = ""
    if found.format in _JSON:
        # A line `null` would come out as a row of nothing but nulls; so would {}: the tolerant path tells them apart.
        bad.append("(" + " AND ".join(f"v{position} IS NULL" for position in range(len(columns))) + ")")
        where = f" WHERE c.{quoted(_PROBE)} IS NULL"
    if bad:
        results[0] = f"CASE WHEN {_any(bad)} THEN error('{_STOP}') ELSE {results[0]} END"
    if doubtful:
        results[0] = f"CASE WHEN {_any(doubtful)} THEN error('{_DOUBT}') ELSE {results[0]} END"
    named = ", ".join(
        f"{result} AS {quoted(column.field.name)}" for result, column in zip(results, columns, strict=True)
    )
    reader = _reader(found, columns, spool, quotes)
    return f"SELECT {named} FROM (SELECT {', '.join(values)} FROM {reader} AS c{where})"


def _any(conditions: Sequence[str]) -> str:
    """In groups: DuckDB nests a chain of ORs, and refuses more than a thousand levels."""
    groups = (conditions[start : start + _GROUP_CONDITIONS] for start in range(0, len(conditions), _GROUP_CONDITIONS))
    return " OR ".join(f"({' OR '.join(group)})" for group in groups)


@dataclass(frozen=True, slots=True)
class _Choice:
    """How a column is read: templates on what the reader gives (value, parsed), and on those two (result, odd)."""

    value: str = "{v}"
    parsed: str = "{v}"
    result: str = "{p}"
    odd: str = "false"
    doubtful: str = "false"


def _choice(found: Input, column: Column, quotes: bool) -> _Choice:
    arrow = found.arrow.field(column.source).type if found.arrow is not None else None
    rule = parquet_reading(column.kind)
    assert rule is not None
    if found.format in _JSON:
        return _json_choice(column, rule, quotes)
    if arrow is not None and _same(arrow, rule.arrow):
        return _Choice(f"CAST({{v}} AS {rule.sql})", odd=rule.outside)
    if arrow is not None and pa.types.is_nested(arrow) and rule.sql == "VARCHAR":
        return _Choice("to_json({v})::VARCHAR")
    if arrow is None and _read_as(found.format, column) != "VARCHAR":
        return _Choice()
    text = "{v}" if arrow is None else as_text("{v}", arrow, column.kind)
    return _Choice(text, rule.parsed, _result(column, rule), rule.misfit(guessed=column.inferred))


def _json_choice(column: Column, rule: Reading, quotes: bool) -> _Choice:
    kind = column.kind
    if isinstance(kind, DoubleType):
        # A whole number from here on may have been another one: the tolerant path looks at how it is written.
        return _Choice(odd=f"NOT (abs({{v}}) < {2**53})")
    if isinstance(kind, BooleanType):
        return _Choice("{v}", rule.parsed, odd="{v} NOT IN ('true', 'false')")  # as it is counted
    if isinstance(kind, StringType):
        if not quotes:
            return _Choice(doubtful=_DOUBTFUL)
        text = "CASE WHEN left({v}, 1) = '\"' THEN json_extract_string({v}, '$') ELSE {v} END"
        return _Choice("nullif({v}::VARCHAR, 'null')", text, odd=_BARE)
    more = []
    if isinstance(kind, (IntegerType, LongType)):
        more = [_FRACTION]  # it may have been another number: the tolerant path looks at how it is written
    if isinstance(kind, FloatType):
        more = ["NOT isfinite({p})"]  # a word that is no JSON, or a text
    return _Choice("{v}", rule.parsed, _result(column, rule), rule.misfit(*more, guessed=column.inferred))


def _result(column: Column, rule: Reading) -> str:
    return "{p}" if isinstance(column.kind, UUIDType) else rule.value  # DuckDB's own type becomes that of Parquet


def _same(kind: pa.DataType, target: pa.DataType) -> bool:
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        kind = pa.string()
    if is_bytes(kind):
        kind = pa.binary()
    return bool(kind == target) or (
        pa.types.is_timestamp(kind) and pa.types.is_timestamp(target) and kind.tz == target.tz
    )


def _read_as(form: Format, column: Column) -> str:
    """Text, so that the value can be compared with it, but for two types.

    A boolean of CSV is one of few words whichever way it is read. A fraction in JSON is no text in the first place: to
    make one of it would cost a quarter of the speed, and strings are read strictly there (no '1_000', no '007').
    """
    if form.delimited:
        return "BOOLEAN" if isinstance(column.kind, BooleanType) else "VARCHAR"
    return "DOUBLE" if isinstance(column.kind, DoubleType) else "VARCHAR"


def _reader(found: Input, columns: Sequence[Column], spool: Spool, quotes: bool) -> str:
    if found.format is Format.PARQUET:
        return f"read_parquet({literal(str(found.path))})"
    if found.format.delimited:
        assert found.delimiter is not None
        types = ", ".join(f"c{i}: '{_read_as(found.format, c)}'" for i, c in enumerate(columns))
        nulls = ", ".join(literal(null) for null in dict.fromkeys(("", *found.source.options.null_values)))
        return (
            f"read_csv({literal(spool.address)}, auto_detect = false, delim = {literal(found.delimiter)}, "
            f"quote = '\"', escape = '\"', header = {str(found.source.options.header).lower()}, nullstr = [{nulls}], "
            f"buffer_size = {_BUFFER_BYTES}, columns = {{{types}}})"
        )
    # With `columns =` DuckDB would skip unknown keys silently; detecting types from one made-up record, put
    # before the file, gives the same types and an error at the first key that the record does not have.
    probe: dict[str, object] = {}
    for column in columns:
        probe[column.source] = 1.5 if _read_as(found.format, column) == "DOUBLE" else "text"
        if quotes and isinstance(column.kind, StringType):
            probe[column.source] = None  # DuckDB's JSON type: it knows no better
    probe[_PROBE] = True
    text = json.dumps(probe).encode()
    if found.format is Format.NDJSON:
        spool.head = text + b"\n"
        return f"read_ndjson({literal(spool.address)}, sample_size = 1, maximum_object_size = {_JSON_OBJECT_BYTES})"
    with found.path.open("rb") as file:
        file.seek(found.skip)
        start = file.read(64 * 1024)
    spool.skip = found.skip + start.index(b"[") + 1
    spool.head = b"[" + text + b","
    return f"read_json({literal(spool.address)}, format = 'array', sample_size = 1)"


def _data_file(path: Path) -> DataFile:
    return DataFile(path, path.stat().st_size, pq.read_metadata(path).num_rows)


def _check_truths(
    found: Input, columns: Sequence[Column], numbers: Sequence[str], spool: Spool, files: Sequence[Path]
) -> None:
    """Raises NotTyped when a column of `numbers` may have got a 1 or 0 that is true or false in the file."""
    booleans = [place for place, column in enumerate(columns) if isinstance(column.kind, BooleanType)]
    values = 0
    for path in files:
        metadata = pq.read_metadata(path)
        for group in range(metadata.num_row_groups):
            for place in booleans:
                chunk = metadata.row_group(group).column(place)
                nulls = chunk.statistics.null_count if chunk.statistics is not None else None
                values += chunk.num_values - (nulls or 0)
    start = spool.skip
    assert spool.truths is not None
    counted = spool.truths.total(start, found.size_bytes) == values and not (values and spool.truths.escaped)
    if not counted and truth_under(found.path, start, numbers):
        raise NotTyped("a column of numbers has true or false")
