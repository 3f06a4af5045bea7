"""Rows and the offsets behind them in one commit of the table: each row once, whoever else works on the stream.

The offset that a partition has been read to is a property of the table, set in the very commit that adds the rows. A
commit is built on a table whose offsets are where its rows begin, which is looked at again before each attempt, and
asserts that the table's main branch is where it was then; and each moves that branch, one whose records were all set
aside by a snapshot without files. So of two workers with the same rows one wins, and the other
finds that it was not needed; whether it is slow, paused for an hour, or believed dead makes no difference. A request
whose answer was lost is settled by looking for the snapshot.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import SetPropertiesUpdate, TableRequirement, TableUpdate

from lakegate_chassis.logs import log
from lakegate_chassis.postgres import connection as acquire
from lakegate_chassis.threads import in_thread
from lakegate_contracts.names import TableName
from lakegate_ingest.commit import snapshots
from lakegate_ingest.commit.catalog import Catalog, Conflict, LoadedTable, NoSuchTable, OutcomeUnknown
from lakegate_ingest.commit.committer import SchemaMoved, schema_after
from lakegate_ingest.commit.files import TableFiles
from lakegate_ingest.commit.warehouse import Warehouse, join
from lakegate_ingest.engine import DataFile
from lakegate_ingest.errors import CatalogRefused, CommitConflict, SchemaConflict, TableDamaged
from lakegate_ingest.metrics import STREAM_RETRIES
from lakegate_ingest.settings import CommitSettings
from lakegate_ingest.streams import queries
from lakegate_ingest.streams.topics import Progress, offset_property, progress, topic_id_property

LONGEST_PAUSE_SECONDS = 2.0
STREAM_TOPIC = "lakegate.stream-topic"
STREAM_OFFSETS = "lakegate.stream-offsets"
_NOTHING: tuple[list[Any], Any] = ([], None)


class Superseded(Exception):
    """The table is not where these rows begin: another worker has committed them, or the table is another one."""


@dataclass(frozen=True)
class Span:
    """A stretch of a stream for one table, as the table was when it was read: from `starts` up to `ends`."""

    tenant: str
    table: TableName
    topic: str
    delegation: str
    table_uuid: UUID
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    # which topic the name stood for, and what the table may say of another one of that name
    topic_id: str | None
    replaces: Mapping[int, Progress]


@dataclass(frozen=True)
class Done:
    """The table after the commit, or later."""

    loaded: LoadedTable
    snapshot_id: int


class StreamCommitter:
    def __init__(self, catalog: Catalog, pool: asyncpg.Pool, settings: CommitSettings, warehouse: Warehouse) -> None:
        self._catalog = catalog
        self._pool = pool
        self._settings = settings
        self._warehouse = warehouse

    async def load(self, tenant: str, table: TableName, delegation: str) -> LoadedTable:
        """Raises NoSuchTable, CatalogRefused, CatalogUnavailable."""
        return await self._catalog.load(tenant, table, delegation)

    async def commit(self, span: Span, schema: Schema, files: tuple[DataFile, ...]) -> Done:
        """Add the files and move the offsets, once.

        `schema` is what they were written for. Raises Superseded (nothing of this is in the table by us, nor will be),
        SchemaMoved (read again), NoSuchTable, CatalogRefused, CatalogUnavailable and CommitConflict (try again from the
        table's offsets).
        """
        snapshot_id = secrets.randbits(62) | 1
        commit_id = uuid4()
        work = _Work(span, commit_id, snapshot_id, schema, files, self._warehouse)
        settled = True
        try:
            for attempt in range(self._settings.attempts):
                loaded = await self._catalog.load(span.tenant, span.table, span.delegation)
                if snapshots.holds_snapshot(loaded.metadata, snapshot_id):
                    work.manifest_lists.discard(_list_of(loaded.metadata, snapshot_id))
                    await self._end(work, work.manifest_lists)
                    return Done(loaded, snapshot_id)
                check_place(span, loaded.metadata)
                if attempt == 0:
                    await self._begin(work, loaded.metadata)
                requirements, updates = await in_thread(work.build, loaded.metadata, attempt)
                settled = False
                try:
                    done = await self._catalog.commit(span.tenant, span.table, requirements, updates, span.delegation)
                except Conflict as conflict:
                    STREAM_RETRIES.labels("lost_race").inc()
                    log.info("stream_commit_lost_race", topic=span.topic, attempt=attempt, message=str(conflict))
                except OutcomeUnknown as unknown:
                    STREAM_RETRIES.labels("unknown_outcome").inc()
                    log.warning("stream_commit_outcome_unknown", topic=span.topic, attempt=attempt, reason=str(unknown))
                else:
                    work.manifest_lists.discard(_list_of(done.metadata, snapshot_id))
                    await self._end(work, work.manifest_lists)
                    return Done(done, snapshot_id)
                await self._pause(attempt)
            raise CommitConflict(f"Other writers committed to {span.table} first, {self._settings.attempts} times.")
        except (Superseded, SchemaMoved, SchemaConflict, NoSuchTable, CatalogRefused, TableDamaged):
            # Only where nothing was sent is it certain that the files are nobody's; else the sweep looks again. Offsets
            # that have moved on may be our own, with a snapshot that an engine has expired since.
            if settled:
                await self._end(work, work.urls())
            raise

    async def _begin(self, work: _Work, metadata: TableMetadata) -> None:
        """Note the files before they are there, so that those of a dead worker are found."""
        work.place(metadata.location)
        row = queries.CommitRow(
            commit_id=work.commit_id,
            topic=work.span.topic,
            snapshot_id=work.snapshot_id,
            # where the table is: the sweep takes any other place for a commit that came after this
            starts={
                str(partition): replaced.offset if (replaced := work.span.replaces.get(partition)) else offset
                for partition, offset in work.span.starts.items()
            },
            location=metadata.location,
            urls=[url for _, url in work.placed],
        )
        async with acquire(self._pool) as connection:
            await queries.begin_commit(connection, row)
        await asyncio.to_thread(work.move_in)

    async def _end(self, work: _Work, rubbish: set[str]) -> None:
        await asyncio.to_thread(self._warehouse.delete, sorted(rubbish))
        async with acquire(self._pool) as connection:
            await queries.end_commit(connection, work.commit_id)

    async def _pause(self, attempt: int) -> None:
        longest = min(self._settings.backoff_seconds * 2 ** min(attempt, 10), LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(longest * random.uniform(0.5, 1.5))  # noqa: S311 - jitter needs no secrecy


def check_place(span: Span, metadata: TableMetadata) -> None:
    """Raises Superseded unless the table is the one that was read for, and stands where the rows begin."""
    if metadata.table_uuid != span.table_uuid:
        raise Superseded("the table was made anew")
    for partition, start in span.starts.items():
        found = progress(metadata.properties, span.topic, partition)
        if found is None or found == span.replaces.get(partition):
            continue
        if found.offset != start:
            raise Superseded(f"partition {partition} is at {found.offset}, and the rows begin at {start}")
        if span.topic_id is not None and found.topic_id not in (None, span.topic_id):
            raise Superseded(f"partition {partition} is of topic {found.topic_id}, the rows are of {span.topic_id}")


class _Work:
    """The parts of one commit that survive a lost race: data files and their manifest."""

    def __init__(
        self,
        span: Span,
        commit_id: UUID,
        snapshot_id: int,
        schema: Schema,
        files: tuple[DataFile, ...],
        warehouse: Warehouse,
    ) -> None:
        self.span = span
        self.commit_id = commit_id
        self.snapshot_id = snapshot_id
        self.placed: list[tuple[Path, str]] = []
        self.manifest_lists: set[str] = set()
        self._schema = schema
        self._files = files
        self._warehouse = warehouse
        self._io: TableFiles  # of the place
        self._manifest_url = ""
        self._written: tuple[list[Any], Any] | None = None

    def place(self, location: str) -> None:
        self._io = TableFiles(self._warehouse, self.span.tenant, location)
        folder = join(location, "data", "streams")
        self.placed = [
            (file.path, join(folder, f"{self.commit_id}-{index}.parquet")) for index, file in enumerate(self._files)
        ]

    def move_in(self) -> None:
        for source, url in self.placed:
            self._io.check(url)
            self._warehouse.move_in(source, url)

    def urls(self) -> set[str]:
        """Everything that this may have put into the warehouse."""
        metadata = {self._manifest_url} if self._manifest_url else set()
        return {url for _, url in self.placed} | metadata | self.manifest_lists

    def build(self, metadata: TableMetadata, attempt: int) -> tuple[list[TableRequirement], list[TableUpdate]]:
        """What to send. Blocks. Raises SchemaMoved, SchemaConflict."""
        span = self.span
        offsets = {offset_property(span.topic, partition): str(end) for partition, end in span.ends.items()}
        if span.topic_id is not None:
            offsets |= {topic_id_property(span.topic, partition): span.topic_id for partition in span.ends}
        if not metadata.spec().is_unpartitioned():
            raise SchemaConflict(
                f"{span.table} is partitioned, and streams write unpartitioned tables only. Use an engine."
            )
        requirements, updates = snapshots.schema_updates(metadata, schema_after(metadata, self._schema), new=False)
        after = snapshots.with_schema(metadata, updates, new=False)
        if self._written is None and self._files:
            try:
                data = snapshots.data_files(self._io, after, [url for _, url in self.placed])
            except (ValueError, OverflowError) as error:
                raise SchemaConflict(f"The written files do not fit {span.table}: {error}") from error
            self._manifest_url = snapshots.manifest_url(metadata, str(self.commit_id), 0)
            manifest = snapshots.write_data_manifest(
                self._io, after, data, snapshot_id=self.snapshot_id, url=self._manifest_url
            )
            self._written = (data, manifest)
        data, manifest = self._written or _NOTHING
        ends = " ".join(f"{partition}:{end}" for partition, end in sorted(span.ends.items()))
        append = snapshots.append(
            self._io, after, manifest, data, snapshot_id=self.snapshot_id, new=False,
            name=f"{attempt}-{self.commit_id}", properties={STREAM_TOPIC: span.topic, STREAM_OFFSETS: ends},
        )  # fmt: skip
        self.manifest_lists.add(append.manifest_list)
        return (
            requirements + append.requirements,
            [*updates, *append.updates, SetPropertiesUpdate(updates=offsets)],
        )


def _list_of(metadata: TableMetadata, snapshot_id: int) -> str:
    snapshot = metadata.snapshot_by_id(snapshot_id)
    return snapshot.manifest_list if snapshot is not None else ""
