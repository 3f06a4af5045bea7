"""Read a snapshot batch by batch, in bounded memory.

pyiceberg plans (snapshot, pruning, residual filters). Its own reader materializes every file, several at once, and
Arrow's scanner reads ahead by a gigabyte; so files are pulled batch by batch here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pydantic import ValidationError
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.expressions.parser import parse
from pyiceberg.expressions.visitors import (
    ResidualEvaluator,
    UnpartitionedResidualEvaluator,
    bind,
    extract_field_ids,
    rewrite_not,
    translate_column_names,
)
from pyiceberg.io.pyarrow import (
    _get_column_projection_values,
    pyarrow_to_schema,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema, prune_columns
from pyiceberg.table import DataScan, FileScanTask, ManifestGroupPlanner
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import ListType, MapType
from pyparsing import ParseException

from lakegate_ingest.commit.files import TableFiles
from lakegate_ingest.commit.manifests import readable_manifests
from lakegate_ingest.engine.footers import check_statistics
from lakegate_ingest.engine.pieces import READ_BUFFER_BYTES, read_batches
from lakegate_ingest.errors import BadRowFilter, DeletedByValue, SnapshotNotFound, TableFileUnreadable, UnknownColumn
from lakegate_ingest.tables.comparing import columns_of, prunable, to_arrow
from lakegate_ingest.tables.deletes import Deleted
from lakegate_ingest.tables.literals import exact
from lakegate_ingest.tables.projecting import projected
from lakegate_ingest.tables.readable import readable

MAX_FILTER_CHARS = 8192
_NUMBER = r"(?:[0-9]{1,400}(?:[.][0-9]{0,400})?|[.][0-9]{1,400})"
_EXPONENT = r"[eE][+-]?[0-9]{1,3}"
_MEMBER = rf"\s*[+-]?{_NUMBER}(?:{_EXPONENT})?\s*"
_WORD = re.compile(
    r"""'(?:[^'\\]|''|\\.)*'|"(?:[^"\\]|\\.)*"|[A-Za-z_][\w$.]*"""
    rf"|\((?P<numbers>{_MEMBER}(?:,{_MEMBER})+)\)|(?P<number>{_NUMBER}{_EXPONENT})\b",
    re.ASCII,
)


@dataclass(frozen=True)
class RowQuery:
    """`columns` None: all of them; `snapshot_id` None: the current one."""

    columns: tuple[str, ...] | None
    filter: str | None
    limit: int | None
    snapshot_id: int | None


class Scan:
    """A planned read of one snapshot. Blocks; used from one thread at a time."""

    def __init__(self, metadata: TableMetadata, files: TableFiles, query: RowQuery, *, batch_rows: int) -> None:
        """Check the query against the schema. Raises BadRowFilter, UnknownColumn, SnapshotNotFound."""
        if query.snapshot_id is not None and metadata.snapshot_by_id(query.snapshot_id) is None:
            raise SnapshotNotFound(f"The table has no snapshot {query.snapshot_id}, or has expired it.")
        self._metadata = metadata
        self._limit = query.limit
        self._batch_rows = batch_rows
        self._io = files
        parsed = _parsed(query.filter)
        self._table_schema = _schema_then(metadata, query.snapshot_id)
        known = [field.name for field in self._table_schema.fields]
        for column in query.columns or ():
            if column not in known:
                raise UnknownColumn(f"The table has no column '{column[:100]}'. It has: {', '.join(known[:50])}.")
        try:
            filter_ = exact(parsed, self._table_schema)
            self._bound = bind(self._table_schema, filter_, case_sensitive=True)
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise BadRowFilter(f"The filter does not fit the table: {error}") from error
        # what is planned is bound to the current schema, which may name other columns than the snapshot's
        then = metadata.model_copy(update={"current_schema_id": self._table_schema.schema_id})
        self._planner = _Planner(then, files, filter_)
        self._scan = DataScan(
            table_metadata=then, io=files, selected_fields=query.columns or ("*",), snapshot_id=query.snapshot_id
        )
        self.projection: Schema = self._scan.projection()
        self.schema: pa.Schema = schema_to_pyarrow(self.projection, include_field_ids=False)
        columns = columns_of(self._bound, self._table_schema) | self.projection.field_ids
        self._read = Schema(*(field for field in self._table_schema.fields if field.field_id in columns))
        self._types = schema_to_pyarrow(self._read, include_field_ids=False)
        self._wanted = None if self._bound == AlwaysTrue() else to_arrow(self._bound, self._table_schema)

    def batches(self) -> Iterator[pa.RecordBatch | None]:
        """Batches of at most `batch_rows` rows in the projection's schema, up to the limit.

        None stands for rows that the filter did not want: a reader that has waited for too long can stop there.
        """
        left = self._limit
        for task in self._planned(self._scan.snapshot()):
            if left == 0:
                return
            for batch in self._of_task(task, left):
                if batch is None:
                    yield None
                    continue
                for table in pa.Table.from_batches([batch]).to_batches(self._batch_rows):
                    part = table if left is None else table.slice(0, left)
                    if left is not None:
                        left -= part.num_rows
                    if part.num_rows:
                        yield part
                if left == 0:
                    return

    def _planned(self, snapshot: Snapshot | None) -> list[FileScanTask]:
        if snapshot is None:
            return []
        self._io.check(snapshot.manifest_list)  # pyiceberg keeps lists and manifests it has read, of every table
        try:
            with readable_manifests(snapshot):
                tasks = list(self._planner.plan_files(snapshot.manifests(self._io)))
                for task in tasks:
                    for file in (task.file, *task.delete_files):
                        self._io.check(file.file_path)
                return tasks
        except TableFileUnreadable as error:
            if "equality deletes" not in str(error.__cause__):
                raise
            raise DeletedByValue(
                "Some rows of this table are deleted by equality delete files, as Flink writes them. Read the table by "
                "an engine through the Iceberg endpoint, or compact it with one first."
            ) from error

    def _of_task(self, task: FileScanTask, most: int | None) -> Iterator[pa.RecordBatch | None]:
        """At least the first `most` rows that the filter wants."""
        deleted = Deleted(task, self._io) if task.delete_files else None
        for part in self._parts(task, deleted, most):
            kept = part if self._wanted is None else part.filter(self._wanted)
            yield kept.select(self.schema.names) if kept.num_rows else None

    def _parts(self, task: FileScanTask, deleted: Deleted | None, most: int | None) -> Iterator[pa.RecordBatch]:
        """Rows with all columns that are shown or that the filter looks at, in the table's types."""
        with readable(task.file), self._io.new_input(task.file.file_path).open() as stream:
            source = cast(IO[bytes], stream)
            # Timestamps of 96 bits, as in files that others have added: of nanoseconds Arrow has no year 9999.
            old: dict[str, Any] = {"coerce_int96_timestamp_unit": "us"}
            file = pq.ParquetFile(source, pre_buffer=False, buffer_size=READ_BUFFER_BYTES, **old)
            file_schema = pyarrow_to_schema(
                file.schema_arrow,
                self._metadata.name_mapping(),
                downcast_ns_timestamp_to_us=True,
                format_version=self._metadata.format_version,
            )
            missing = _get_column_projection_values(
                task.file,
                self._read,
                self._table_schema,
                self._metadata.specs().get(task.file.spec_id),
                file_schema.field_ids,
            )
            wanted = {
                field_id
                for field_id in self._read.field_ids
                if not isinstance(self._read.find_type(field_id), MapType | ListType)
            }
            file_projection = prune_columns(file_schema, wanted, select_full_types=False)
            groups = list(range(file.num_row_groups))
            asked = prunable(self._bound, file.schema_arrow, file_schema)
            prunes = _expression(asked, file_schema, missing)
            if prunes is not None:
                ids = extract_field_ids(asked)
                check_statistics(file, [field.name for field in file_schema.fields if field.field_id in ids])
                fragment = cast(Any, ds.ParquetFileFormat(**old).make_fragment(source))
                groups = [group.id for group in fragment.subset(prunes).row_groups]
            rows = self._batch_rows
            if self._wanted is None and deleted is None and most is not None:
                rows = min(rows, most)
            # of a file that has none of the columns one is read all the same: it tells how many rows there are
            columns = [field.name for field in file_projection.fields] or [_narrowest(file.schema_arrow)]
            for batch in _batches(file, source, groups, columns, rows, deleted):
                part = projected(self._read, file_projection, batch, missing)
                yield part.cast(self._types)


class _Planner(ManifestGroupPlanner):
    """Without what pyiceberg would leave over of the filter for each file: rows are asked all of it, and where a
    partition is null, it can't tell."""

    def _build_residual_evaluator(self, spec_id: int) -> Callable[[DataFile], ResidualEvaluator]:
        nothing = UnpartitionedResidualEvaluator(self.table_metadata.schema(), AlwaysTrue())
        return lambda file: nothing


def _narrowest(schema: pa.Schema) -> str:
    """A column that is cheap to read."""

    def width(field: pa.Field[Any]) -> int:
        try:
            return int(field.type.bit_width)
        except ValueError:  # nested ones, and texts
            return sys.maxsize

    return min(schema, key=width).name


def _batches(
    file: pq.ParquetFile, source: IO[bytes], groups: list[int], columns: list[str], rows: int, deleted: Deleted | None
) -> Iterator[pa.RecordBatch]:
    if deleted is None:
        yield from read_batches(file, source, groups, columns, rows)
        return
    counts = (file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
    starts = list(accumulate(counts, initial=0))
    for group in groups:
        start = starts[group]
        yield from deleted.left(read_batches(file, source, [group], columns, rows), start)


def _expression(bound: BooleanExpression, file_schema: Schema, missing: dict[int, Any]) -> ds.Expression | None:
    """A filter in the file's own column names; None when it rules out no row."""
    if bound == AlwaysTrue():
        return None
    translated = translate_column_names(bound, file_schema, case_sensitive=True, projected_field_values=missing)
    return to_arrow(bind(file_schema, translated, case_sensitive=True), file_schema)


def _schema_then(metadata: TableMetadata, snapshot_id: int | None) -> Schema:
    snapshot = metadata.snapshot_by_id(snapshot_id) if snapshot_id is not None else None
    if snapshot is None or snapshot.schema_id is None:
        return metadata.schema()
    for known in metadata.schemas:
        if known.schema_id == snapshot.schema_id:
            return known
    raise SnapshotNotFound(
        f"The snapshot {snapshot_id} was written with schema {snapshot.schema_id}, which somebody has removed from the "
        "table: what its columns were is not known any more. Leave `snapshot` out for the current one."
    )


def _parsed(text: str | None) -> BooleanExpression:
    if text is None:
        return AlwaysTrue()
    if len(text) <= MAX_FILTER_CHARS:
        text = _WORD.sub(_as_parsed, text)
    if len(text) > MAX_FILTER_CHARS:
        raise BadRowFilter(f"A filter has at most {MAX_FILTER_CHARS:,} characters, with its exponents written out.")
    try:
        return rewrite_not(parse(text))
    except ParseException as error:
        rest = text[error.loc :].strip()
        where = f"can't be read from character {error.column} on: {rest[:50]}" if rest else "breaks off at its end"
        raise BadRowFilter(f"The filter {where}. Write it like: dep_delay > 60 and carrier in ('UA', 'AA').") from error
    except ValidationError as error:
        raise BadRowFilter(
            "The filter can't be read: and, or and not take comparisons, such as express = true, and no values alone."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadRowFilter(f"The filter can't be read: {error}") from error


def _as_parsed(found: re.Match[str]) -> str:
    """pyiceberg's parser knows no exponents, with which NDJSON and CSV show large and small numbers, and no list of
    whole numbers and others."""
    if (number := found["number"]) is not None:
        return f"{Decimal(number):f}"
    if (numbers := found["numbers"]) is None:
        return found[0]
    members = [f"{Decimal(member.strip()):f}" for member in numbers.split(",")]
    if any("." in member for member in members):
        members = [member if "." in member else f"{member}.0" for member in members]
    return f"({','.join(members)})"
