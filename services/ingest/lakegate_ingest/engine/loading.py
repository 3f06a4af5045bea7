"""`write`: from sources to data files and quarantine files, by the fast path where that works."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, FloatType, IcebergType, IntegerType, LongType, StringType

from lakegate_ingest.engine.batches import sample_of
from lakegate_ingest.engine.columns import Plan, make_plan, match, positional_names
from lakegate_ingest.engine.counting import RecordCounter
from lakegate_ingest.engine.duck import Session, connect, is_out_of_disk, out_of_disk
from lakegate_ingest.engine.errors import CountMismatch, HeaderOnly, LoadCancelled, OutOfMemory
from lakegate_ingest.engine.inference import Evidence, kind_of_arrow
from lakegate_ingest.engine.inputs import Input, await_all, check_names, check_width, open_input
from lakegate_ingest.engine.json_records import keys_of
from lakegate_ingest.engine.model import (
    DataFile,
    EngineLimits,
    OnNewColumn,
    Progress,
    ProgressCallback,
    Source,
    WriteResult,
)
from lakegate_ingest.engine.quarantine import GROUP_ROWS, WRITING, top_reasons, with_headers
from lakegate_ingest.engine.sinks import ParquetSink
from lakegate_ingest.engine.tolerant import UnknownKeys, Workers, look_at, survey, write_tolerant
from lakegate_ingest.engine.typed import NotTyped, write_typed
from lakegate_ingest.engine.types import INFERRED, parquet_reading

_COUNT_BYTES = 1024 * 1024
Path_ = Literal["typed", "tolerant"]


def write(
    sources: Sequence[Source],
    schema: Schema | None,
    *,
    out_dir: Path,
    quarantine_dir: Path,
    work_dir: Path,
    on_new_column: OnNewColumn = "evolve",
    last_column_id: int | None = None,
    limits: EngineLimits | None = None,
    progress: ProgressCallback | None = None,
    cancelled: threading.Event | None = None,
) -> WriteResult:
    """Read `sources` into Parquet files for a table of `schema` (None: the first load, types are inferred).

    Every record ends in a data file or in the quarantine, or an EngineError is raised and neither folder keeps
    a file. Blocks; cancel by setting `cancelled`. `last_column_id` is the table metadata's: ids of dropped
    columns must not be used again. `work_dir` takes what must spill to disk and is removed afterwards.
    """
    load = _Load(
        list(sources),
        schema,
        on_new_column,
        last_column_id,
        out_dir,
        quarantine_dir,
        work_dir,
        limits or EngineLimits(),
        progress or (lambda _: None),
        cancelled or threading.Event(),
    )
    work_dir.mkdir(parents=True, exist_ok=True)
    try:
        return load.run()
    except BaseException as error:
        shutil.rmtree(out_dir, ignore_errors=True)
        shutil.rmtree(quarantine_dir, ignore_errors=True)
        if isinstance(error, duckdb.OutOfMemoryException):
            raise OutOfMemory(
                "The load needs more memory than one load may use. Nothing was kept. Send narrower or shorter rows, or "
                "fewer columns; or ask the operator for more memory (INGEST_ENGINE__MEMORY_BYTES)."
            ) from error
        if is_out_of_disk(error):
            raise out_of_disk() from error
        raise
    finally:
        shutil.rmtree(work_dir, ignore_errors=True)


@dataclass(slots=True)
class _Tolerated:
    """What the tolerant path made of the files that it was given."""

    records: int = 0
    written: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    files: tuple[DataFile, ...] = ()
    quarantine: tuple[DataFile, ...] = ()


class _Load:
    def __init__(
        self,
        sources: list[Source],
        schema: Schema | None,
        on_new_column: OnNewColumn,
        last_column_id: int | None,
        out_dir: Path,
        quarantine_dir: Path,
        work_dir: Path,
        limits: EngineLimits,
        progress: ProgressCallback,
        cancelled: threading.Event,
    ) -> None:
        self.sources = sources
        self.schema = schema
        self.on_new_column = on_new_column
        self.last_column_id = last_column_id
        self.out_dir = out_dir
        self.quarantine_dir = quarantine_dir
        self.work_dir = work_dir
        self.limits = limits
        self.progress = progress
        self.cancelled = cancelled
        self.phase: Path_ = "typed"
        self.notes: list[str] = []
        self.counted: dict[Path, tuple[int, bool]] = {}  # inputs that their caller did not count
        self.bytes_before = 0
        self.rows_before = 0

    def run(self) -> WriteResult:
        self.inputs = [self._named(open_input(s, self.work_dir, self.limits, self.cancelled)) for s in self.sources]
        evidence = [self._sample(found) for found in self.inputs]
        plan = self._plan(evidence)
        typed: dict[int, tuple[tuple[DataFile, ...], int]] = {}
        failed = self._try_typed(range(len(self.inputs)), plan, typed)
        if failed:
            self._await_everything()
            for found in self.inputs:
                self._records(found)  # before spending more on it
            if any(column.inferred for columns in plan.columns for column in columns):
                plan, failed = self._learn(plan, failed, typed)
        try:
            return self._finish(plan, failed, typed)
        except UnknownKeys:
            plan, failed = self._learn(plan, failed, typed)
            return self._finish(plan, failed, typed)

    # -- what is in the files ------------------------------------------------------------------------------

    def _named(self, found: Input) -> Input:
        if found.format.delimited and not found.source.options.header and self.schema is not None:
            return replace(found, names=positional_names(found, self.schema))
        return found

    def _sample(self, found: Input) -> list[Evidence]:
        if found.arrow is not None:
            return [Evidence(name, values=1) for name in found.arrow.names]
        block = sample_of(found, self.limits, self.cancelled)
        with connect(self.work_dir, memory_bytes=self.limits.memory_bytes, threads=1) as connection:
            session = Session(connection)
            names = found.names if found.names is not None else keys_of(block, session)
            check_width(names, self.limits)
            evidence, _ = look_at(block, found, session, self.limits, {name: self._expected(name) for name in names})
        return evidence

    def _expected(self, name: str) -> Evidence:
        """The type of a column that the table has need not be found out."""
        if self.schema is None or match(self.schema, name) is None:
            return Evidence(name)
        return Evidence(name, values=1, allows=[False] * len(INFERRED))

    def _plan(self, evidence: Sequence[list[Evidence]]) -> Plan:
        """Merge what the inputs say about each new column, then match all columns to the table."""
        merged: dict[str, Evidence] = {}
        kinds: dict[str, IcebergType] = {}
        names: list[list[str]] = []
        for found, items in zip(self.inputs, evidence, strict=True):
            own = [item.name for item in items]
            check_names(own, found.format)
            names.append(own)
            for item in items:
                key = item.name.casefold()
                if key in merged:
                    merged[key].merge(item)
                else:
                    merged[key] = Evidence(key, item.values, list(item.allows))
                if found.arrow is not None:
                    kind = kind_of_arrow(found.arrow.field(item.name).type)
                    kinds[key] = _wider(kinds.get(key, kind), kind)
                elif key not in kinds or not self._has_parquet():
                    kinds[key] = merged[key].kind
        if not any(names):
            if self.inputs[0].format.delimited:
                raise HeaderOnly("There is no row under the header. Send a file with at least one row.")
            raise HeaderOnly(
                "No record of the file is a JSON object with at least one key. Send objects, one a line or in an array."
            )
        return make_plan(self.inputs, names, kinds, self.schema, self.on_new_column, self.last_column_id)

    def _has_parquet(self) -> bool:
        return any(found.arrow is not None for found in self.inputs)

    def _learn(
        self, plan: Plan, failed: list[int], typed: dict[int, tuple[tuple[DataFile, ...], int]]
    ) -> tuple[Plan, list[int]]:
        """Look at every value once, widen, and try the fast path again where that may now work. Happens once."""
        self._start("tolerant")
        evidence: list[list[Evidence]] = []
        broken: list[int] = []
        with Workers(self.work_dir, self.limits) as workers:
            for found in self.inputs:
                if found.arrow is not None:
                    evidence.append(self._sample(found))
                    broken.append(0)
                    continue
                items, bad = survey(found, workers, self.limits, self._on_read(found))
                evidence.append(items)
                broken.append(bad)
        learned = self._plan(evidence)
        if learned == plan:
            return plan, failed
        self._discard(typed)
        again = [index for index in range(len(self.inputs)) if not broken[index]]
        rest = [index for index in range(len(self.inputs)) if broken[index]]
        return learned, sorted(rest + self._try_typed(again, learned, typed))

    # -- the two paths -------------------------------------------------------------------------------------

    def _try_typed(
        self,
        indices: Sequence[int],
        plan: Plan,
        typed: dict[int, tuple[tuple[DataFile, ...], int]],
    ) -> list[int]:
        """Fill `typed` for the inputs that the fast path can read; returns the others."""
        self._start("typed")
        failed = []
        for index in indices:
            found = self.inputs[index]
            folder = self.out_dir / f"typed-{index:03d}"
            try:
                result = write_typed(
                    found,
                    plan.columns[index],
                    out_dir=folder,
                    work_dir=self.work_dir,
                    limits=self.limits,
                    on_read=self._on_read(found),
                )
                await_all(found.arrival, self.cancelled)
                if result.rows != self._records(found):
                    shutil.rmtree(folder, ignore_errors=True)
                    raise NotTyped(f"{result.rows} rows were read of {self._records(found)}")
                if self._malformed(found):
                    shutil.rmtree(folder, ignore_errors=True)
                    raise NotTyped("text before or behind a quoted field, or a comma before a closing bracket")
            except NotTyped as error:
                self.notes.append(f"{found.source.name}: {error}")
                failed.append(index)
            else:
                typed[index] = (result.files, result.rows)
                self.rows_before += result.rows
            self.bytes_before += found.size_bytes
        return failed

    def _finish(
        self, plan: Plan, failed: Sequence[int], typed: dict[int, tuple[tuple[DataFile, ...], int]]
    ) -> WriteResult:
        by_text = self._write_tolerant(plan, failed) if failed else _Tolerated()
        rows = sum(count for _, count in typed.values())
        records, written = rows + by_text.records, rows + by_text.written
        if not records:
            raise HeaderOnly("There is no row under the header. Send a file with at least one row.")
        return WriteResult(
            rows_in=records,
            rows_written=written,
            rows_quarantined=records - written,
            schema=plan.schema,
            new_columns=plan.new_columns,
            data_files=(*(file for index in sorted(typed) for file in typed[index][0]), *by_text.files),
            quarantine_files=by_text.quarantine,
            reasons=top_reasons(by_text.reasons),
            path="tolerant" if failed else "typed",
            notes=tuple(self.notes),
        )

    def _write_tolerant(self, plan: Plan, failed: Sequence[int]) -> _Tolerated:
        """Raises CountMismatch, and UnknownKeys as `tolerant.write_tolerant` does; no file is left then."""
        self._start("tolerant")
        inputs = [self.inputs[index] for index in failed]
        schema = arrow_schema(plan, inputs)
        good = ParquetSink(self.out_dir, "tolerant", schema, self.limits.target_file_bytes)
        rejected = with_headers(inputs)
        bad = ParquetSink(self.quarantine_dir, "rejects", rejected, self.limits.target_file_bytes, WRITING, GROUP_ROWS)
        result = _Tolerated()
        with _discarding(good, bad), Workers(self.work_dir, self.limits) as workers:
            for index in failed:
                found = self.inputs[index]
                tally = write_tolerant(
                    found,
                    plan.columns[index],
                    workers=workers,
                    good=good,
                    bad=bad,
                    schema=schema,
                    first_row_id=sum(self._records(other) for other in self.inputs[:index]),
                    limits=self.limits,
                    on_read=self._on_read(found),
                )
                if tally.records != self._records(found):
                    raise CountMismatch(
                        f"'{found.source.name}' has {self._records(found)} records, but {tally.records} were read. "
                        "Nothing was kept. This is a fault of the service: report it with the file."
                    )
                self.bytes_before += found.size_bytes
                self.rows_before += tally.records
                result.records += tally.records
                result.written += tally.written
                result.reasons.update(tally.reasons)
            result.files, result.quarantine = good.finish(), bad.finish()
        return result

    # -- bookkeeping ---------------------------------------------------------------------------------------

    def _records(self, found: Input) -> int:
        """The independent count; made here when the caller has none. Raises as RecordCounter does."""
        return self._count(found)[0]

    def _malformed(self, found: Input) -> bool:
        """Whether the fast path may read what is none of the format; counted as the records are."""
        return self._count(found)[1]

    def _count(self, found: Input) -> tuple[int, bool]:
        if found.arrow is not None:
            return pq.read_metadata(found.path).num_rows, False
        counted = found.arrival or found.source
        if counted.records is not None:
            return counted.records, counted.malformed
        if found.path not in self.counted:
            counter = RecordCounter(found.source.options, max_line_bytes=self.limits.max_line_bytes)
            with found.source.path.open("rb", buffering=0) as file:
                while chunk := file.read(_COUNT_BYTES):
                    counter.feed(chunk)
            self.counted[found.path] = counter.finish(), counter.malformed
        return self.counted[found.path]

    def _await_everything(self) -> None:
        for found in self.inputs:
            await_all(found.arrival, self.cancelled)

    def _start(self, phase: Path_) -> None:
        self.phase, self.bytes_before = phase, 0

    def _on_read(self, found: Input) -> Callable[[int], None]:
        total = (
            sum(other.size_bytes for other in self.inputs) if found.arrival is None else found.arrival.expected_bytes
        )

        def report(position: int) -> None:
            if self.cancelled.is_set():
                raise LoadCancelled("The load was cancelled; nothing was kept.")
            self.progress(Progress(self.phase, self.bytes_before + position, total, self.rows_before))

        return report

    def _discard(self, typed: dict[int, tuple[tuple[DataFile, ...], int]]) -> None:
        for files, _ in typed.values():
            for file in files:
                file.path.unlink(missing_ok=True)
        typed.clear()
        self.rows_before = 0


def _wider(one: IcebergType, other: IcebergType) -> IcebergType:
    """What a column of two Parquet files becomes that has another type in each: as Iceberg widens, else text."""
    if one == other:
        return one
    for kinds in ({IntegerType(), LongType()}, {FloatType(), DoubleType()}):
        if {one, other} <= kinds:
            return max(kinds, key=lambda kind: kind in (LongType(), DoubleType()))
    return StringType()


@contextmanager
def _discarding(*sinks: ParquetSink) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for sink in sinks:
            sink.discard()
        raise


def arrow_schema(plan: Plan, inputs: Sequence[Input]) -> pa.Schema:
    """Of the tolerant path's data files: the columns that text can fill, with their Iceberg field ids."""
    fields = []
    for column in plan.schema.fields:
        rule = parquet_reading(column.field_type)
        if rule is not None:
            metadata = {"PARQUET:field_id": str(column.field_id)}
            fields.append(pa.field(column.name, rule.arrow, nullable=not column.required, metadata=metadata))
    return pa.schema(fields)
