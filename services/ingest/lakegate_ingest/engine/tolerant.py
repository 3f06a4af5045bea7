"""The tolerant path: every value as text, cast one by one; rows that do not fit go to the quarantine.

Blocks of a few MB pass through a reader, a few workers (each with a DuckDB connection of its own) and one
writer, in file order. What is in flight is bounded, so memory does not depend on the file.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.types import DecimalType, DoubleType, FloatType, IntegerType, LongType, StringType

from lakegate_ingest.engine.batch import Batch, Records
from lakegate_ingest.engine.batches import batch_of, blocks_of
from lakegate_ingest.engine.columns import Column
from lakegate_ingest.engine.duck import Session, connect
from lakegate_ingest.engine.inference import Evidence, study
from lakegate_ingest.engine.inputs import Input, check_width
from lakegate_ingest.engine.json_records import Exact, keys_of
from lakegate_ingest.engine.model import EngineLimits
from lakegate_ingest.engine.quarantine import Errors
from lakegate_ingest.engine.sinks import ParquetSink
from lakegate_ingest.engine.types import on, parquet_reading

T = TypeVar("T")
_GROUP_COLUMNS = 100  # judged in one statement; DuckDB holds vectors for every column of it at once


class UnknownKeys(Exception):
    """A JSON object has keys that the plan does not know: all records must be surveyed first."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One block: the good rows, and the errors of the others (row_id from the block's start)."""

    records: int
    good: pa.Table
    errors: pa.Table | None
    reasons: Counter[str]


@dataclass(slots=True)
class Tally:
    records: int = 0
    written: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


class Workers:
    """Applies a function to blocks on a few threads and gives the results in order."""

    def __init__(self, work_dir: Path, limits: EngineLimits) -> None:
        self._work_dir = work_dir
        self._limits = limits
        self._local = threading.local()
        self._stack = ExitStack()
        self._lock = threading.Lock()

    def __enter__(self) -> Workers:
        self._pool = self._stack.enter_context(ThreadPoolExecutor(self._limits.threads, "engine"))
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._stack.close()

    def _session(self) -> Session:
        if not hasattr(self._local, "session"):
            share = self._limits.memory_bytes // self._limits.threads
            with self._lock:
                connection = self._stack.enter_context(connect(self._work_dir, memory_bytes=share, threads=1))
            self._local.session = Session(connection)
        session: Session = self._local.session
        return session

    def map(self, work: Callable[[Records, Session], T], blocks: Iterator[Records]) -> Iterator[T]:
        running: deque[Future[T]] = deque()
        for block in blocks:
            running.append(self._pool.submit(lambda block: work(block, self._session()), block))
            if len(running) > self._limits.threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def survey(
    found: Input, workers: Workers, limits: EngineLimits, on_read: Callable[[int], None]
) -> tuple[list[Evidence], int]:
    """Evidence from every value of `found`, and how many of its records are no rows."""

    def look(block: Records, session: Session) -> tuple[list[Evidence], int]:
        return look_at(block, found, session, limits, merged)

    merged: dict[str, Evidence] = {}
    folded: set[str] = set()
    broken = 0
    for evidence, bad in workers.map(look, blocks_of(found, limits, on_read)):
        broken += bad
        for item in evidence:
            if item.name in merged:
                merged[item.name].merge(item)
            elif item.name.casefold() not in folded:  # otherwise its records are set aside
                merged[item.name] = item
                folded.add(item.name.casefold())
        check_width(list(merged), limits)
    return list(merged.values()), broken


def look_at(
    block: Records,
    found: Input,
    session: Session,
    limits: EngineLimits,
    known: Mapping[str, Evidence] | None = None,
) -> tuple[list[Evidence], int]:
    """Evidence from one block, and how many of its records are no rows."""
    names = found.names if found.names is not None else list(known or ()) or keys_of(block, session)
    batch = batch_of(block, found, names, session, kinds=True)
    if batch.unknown:
        names = [*names, *batch.unknown]
        check_width(names, limits)
        batch = batch_of(block, found, names, session, kinds=True)
    return study(batch, names, session, known), len(batch.broken)


def write_tolerant(
    found: Input,
    columns: Sequence[Column],
    *,
    workers: Workers,
    good: ParquetSink,
    bad: ParquetSink,
    schema: pa.Schema,
    first_row_id: int,
    limits: EngineLimits,
    on_read: Callable[[int], None],
) -> Tally:
    """Write the good rows and the errors of one input; every record is in one of them. Raises UnknownKeys."""
    judge = Judge(found, columns, schema)
    tally = Tally()
    for judged in workers.map(judge, blocks_of(found, limits, on_read)):
        good.write(judged.good)
        if judged.errors is not None:
            row_ids = pc.add(judged.errors["row_id"], first_row_id + tally.records)
            bad.write(judged.errors.set_column(0, judged.errors.schema.field(0), row_ids))
        tally.records += judged.records
        tally.written += judged.good.num_rows
        tally.reasons.update(judged.reasons)
    return tally


class Judge:
    """Casts one block and separates its rows. Shared by the workers; holds no state of a block."""

    def __init__(self, found: Input, columns: Sequence[Column], schema: pa.Schema) -> None:
        self._found = found
        self._columns = columns
        self._schema = schema
        self._names = [column.source for column in columns]
        self._kinds = {column.source: column.kind for column in columns}
        self._exact = Exact(
            frozenset(c.source for c in columns if isinstance(c.kind, (IntegerType, LongType, DecimalType))),
            frozenset(c.source for c in columns if isinstance(c.kind, StringType)),
            frozenset(c.source for c in columns if isinstance(c.kind, (FloatType, DoubleType))),
        )
        self._statements: list[str] = []
        self._judged: list[int] = []
        self._as_they_are = [place for place, column in enumerate(columns) if _is_text(column)]
        others = [place for place, column in enumerate(columns) if not _is_text(column)]
        for start in range(0, len(others), _GROUP_COLUMNS):
            self._statements.append(self._statement(others[start : start + _GROUP_COLUMNS]))

    def _statement(self, group: Sequence[int]) -> str:
        """Casts each value once, and judges the outcome beside the text."""
        parsed: list[str] = []
        values: list[str] = []
        flags: list[str] = []
        for position in group:
            column = self._columns[position]
            rule = parquet_reading(column.kind)
            assert rule is not None
            text, made = f"c{position}", f"p{position}"
            parsed += [text, f"{on(rule.parsed, text, cast='TRY_CAST')} AS {made}"]
            values.append(f"{on(rule.value, text, made)} AS {text}")
            bad = on(rule.bad, text, made)
            if column.field.required:
                bad = f"({text} IS NULL OR {bad})"
            if bad != "false":
                self._judged.append(position)
                flags.append(f"{bad} AS b{position}")
        return f"SELECT {', '.join(values + flags)} FROM (SELECT {', '.join(parsed)} FROM batch)"

    def __call__(self, block: Records, session: Session) -> Judged:
        batch = batch_of(block, self._found, self._names, session, exact=self._exact, into=self._kinds)
        if batch.unknown:
            raise UnknownKeys(", ".join(batch.unknown))
        parts = [session.ask(statement, "batch", batch.table) for statement in self._statements]
        columns = {name: part[name] for part in parts for name in part.column_names}
        flags = {position: columns.pop(f"b{position}").combine_chunks() for position in self._judged}
        columns |= {f"c{position}": batch.table[f"c{position}"] for position in self._as_they_are}
        rows = pa.table(columns)
        is_bad: Any = pa.repeat(pa.scalar(False), batch.table.num_rows)
        for flag in flags.values():
            is_bad = pc.or_(is_bad, flag)
        any_bad = bool(pc.any(is_bad).as_py())
        if any_bad:
            rows = rows.schema.empty_table() if pc.all(is_bad).as_py() else rows.filter(pc.invert(is_bad))
        good = self._conform(rows)
        if not any_bad and not batch.broken:
            return Judged(batch.records, good, None, Counter())
        errors = self._errors(batch, flags)
        return Judged(batch.records, good, errors.table(), errors.reasons)

    def _conform(self, rows: pa.Table) -> pa.Table:
        """The table's columns in its order; those that the file lacks are null."""
        places = {column.field.name: position for position, column in enumerate(self._columns)}
        arrays = []
        for wanted in self._schema:
            if wanted.name in places:
                column = rows[f"c{places[wanted.name]}"]
                arrays.append(column if column.type == wanted.type else _as(column, wanted.type))
            else:
                arrays.append(pa.nulls(rows.num_rows, wanted.type))
        return pa.table(arrays, schema=self._schema)

    def _errors(self, batch: Batch, flags: Mapping[int, Any]) -> Errors:
        errors = Errors(self._found.source.name, batch.source.split())
        errors.add_broken(batch.broken)
        for position, flag in flags.items():
            where = pc.indices_nonzero(flag)
            if len(where):
                column = self._columns[position]
                rule = parquet_reading(column.kind)
                assert rule is not None
                values = batch.table[f"c{position}"].combine_chunks().take(where)
                indices = where.cast(pa.int64()) if batch.positions is None else batch.positions.take(where)
                errors.add_values(indices, column.source, values, rule)
        return errors


def _is_text(column: Column) -> bool:
    """Text that may be empty needs no judgement."""
    return isinstance(column.kind, StringType) and not column.field.required


def _as(column: Any, kind: pa.DataType) -> Any:
    if kind == pa.uuid():
        chunks: list[Any] = [pa.ExtensionArray.from_storage(kind, chunk.cast(pa.binary(16))) for chunk in column.chunks]
        return pa.chunked_array(chunks) if chunks else pa.chunked_array([pa.nulls(0, kind)])
    return column.cast(kind)
