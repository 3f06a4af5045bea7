"""One load from the spool to a snapshot: read, store the intent, commit, end. Every step can be entered again."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import asyncpg
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata

from lakegate_chassis import tracing
from lakegate_chassis.postgres import tenant_transaction
from lakegate_contracts.names import TableName
from lakegate_contracts.receipts import LoadState
from lakegate_ingest import engine
from lakegate_ingest.commit import snapshots
from lakegate_ingest.commit.catalog import Catalog, Conflict, NoSuchTable
from lakegate_ingest.commit.committer import LONGEST_PAUSE_SECONDS, CommitPlan, Committed, Committer, SchemaMoved
from lakegate_ingest.commit.warehouse import Warehouse, join
from lakegate_ingest.errors import (
    CatalogUnavailable,
    CommitConflict,
    LoadCancelled,
    LoadInterrupted,
    StoreUnavailable,
)
from lakegate_ingest.loads import queries
from lakegate_ingest.loads.copies import Copies, is_copied
from lakegate_ingest.loads.live import LiveLoad
from lakegate_ingest.loads.outcome import Outcomes
from lakegate_ingest.loads.queries import LoadRow
from lakegate_ingest.loads.reading import EarlyRead, Reader, Reading, source_of
from lakegate_ingest.loads.schemas import Intent, IntentFile, LoadOptions, StoredFile
from lakegate_ingest.loads.sources import Sources
from lakegate_ingest.metrics import PHASE_SECONDS
from lakegate_ingest.settings import IngestSettings
from lakegate_ingest.spool.folders import Spool
from lakegate_ingest.uploads.service import Uploads

# Each round that is lost was won by another load, which changed the schema: as many as may well run at once.
MAX_ROUNDS = 32
ATTEMPT_STEP = 100  # attempt 2, round 1 is 201: names of files never repeat
EARLY_ATTEMPT = 99  # the folder of what is read before the first attempt


T = TypeVar("T")


class CommitPending(Exception):
    """The catalog can't say how the commit ended: the load stays committing, and is taken up again."""


class OutputLost(Exception):
    """What was written for an intent is not all there: it was never committed, and can be written again."""


class LostLease(Exception):
    """Another process has taken this load over; whatever it does is right."""


class Pipeline:
    """Runs loads; `reader` bounds how many are read at once."""

    def __init__(
        self,
        *,
        pool: asyncpg.Pool,
        spool: Spool,
        catalog: Catalog,
        committer: Committer,
        outcomes: Outcomes,
        settings: IngestSettings,
        reader: Reader,
        owner: str,
        warehouse: Warehouse,
        copies: Copies,
        sources: Sources,
        uploads: Uploads,
    ) -> None:
        self._pool = pool
        self._warehouse = warehouse
        self._copies = copies
        self._sources = sources
        self._uploads = uploads
        self._spool = spool
        self._catalog = catalog
        self._committer = committer
        self._outcomes = outcomes
        self._settings = settings
        self._reader = reader
        self._owner = owner

    async def run(self, live: LiveLoad) -> None:
        """Bring a queued (or recovered) load to its end.

        Raises Problem when the load has failed, LostLease, and CommitPending when its commit has to wait.
        """
        if live.state == "receiving":
            await self._receive(live)
        async with tenant_transaction(self._pool, live.tenant) as connection:
            load = await queries.set_reading(connection, live.load_id, self._owner)
        if load is None:
            raise LostLease
        self._copies.adopt(load)
        live.state = load.state.value
        if load.cancelled_at is not None and load.intent is None:
            live.call_off()
            raise LoadCancelled("It was called off before it was read.")
        attributes = {"lakegate.load_id": str(load.load_id), "lakegate.attempt": load.attempts}
        with tracing.resumed(load.request_id, load.traceparent, "run load", attributes):
            await self._run(load, live)

    async def _run(self, load: LoadRow, live: LiveLoad) -> None:
        snapshot_id = None
        if load.intent is not None:
            try:
                await self._finish(load, load.intent, live, resumed=True)
                return
            except SchemaMoved:
                await self._forget_intent(load, load.intent)
            except OutputLost:
                # Written on a disk that is gone, but what was received is not. It is read again under the same snapshot
                # id: the process that it was taken from may be slow and not dead, and commit after all.
                snapshot_id = load.intent.snapshot_id
            live.state = "reading"
        if load.attempts > self._settings.job.max_attempts:
            raise LoadInterrupted(
                f"Reading this load was begun {load.attempts - 1} times and never ended. Send it again, or in parts."
            )
        await self._read_and_commit(load, live, snapshot_id)

    async def _receive(self, live: LiveLoad) -> None:
        """The body of a load that takes an upload. Raises Problem, LostLease."""
        async with tenant_transaction(self._pool, live.tenant) as connection:
            load = await queries.get_load(connection, live.load_id)
            ours = await queries.is_owner(connection, live.load_id, self._owner)
        if load is None or not ours:
            raise LostLease
        if load.state is LoadState.RECEIVING:
            await self._sources.receive(load, live)
        live.state = "queued"

    async def _restore(self, load: LoadRow, live: LiveLoad) -> None:
        """See that what was received is on this disk. Raises LoadInterrupted, StoreUnavailable, SpoolFull."""
        folder = self._spool.path(load.load_id)
        if await asyncio.to_thread(is_complete, folder, load.files):
            return
        try:
            if load.options.source is not None:
                await self._sources.receive(load, live)
            else:
                await self._copies.restore(load)
        except StoreUnavailable:
            # nothing was read: that the store is away does not count against the load
            async with tenant_transaction(self._pool, load.tenant) as connection:
                await queries.give_back_attempt(connection, load.load_id)
            raise

    async def _read_and_commit(self, load: LoadRow, live: LiveLoad, snapshot_id: int | None) -> None:
        await self._restore(load, live)
        if not load.options.dry_run:
            await self._outcomes.start(load)
        schema: Schema | None = None
        for turn in range(MAX_ROUNDS):
            attempt = load.attempts * ATTEMPT_STEP + turn
            base, result = await self._read(load, live, schema, attempt)
            staged = None
            if base is None and result.rows_written and not load.options.dry_run:
                try:
                    staged = await self._patiently(live, partial(self._stage, load, result.schema))
                except Conflict:
                    continue  # created since we looked: read again against its schema
                if staged.schema().fields != result.schema.fields:
                    schema = staged.schema()  # the catalog numbers the columns its own way
                    continue
            intent = self._intent(load, result, base or staged, staged, attempt, snapshot_id)
            await self._store(load, intent, live)
            try:
                await self._finish(load, intent, live, resumed=False)
            except SchemaMoved:
                await self._forget_intent(load, intent)
                live.state = "reading"
                continue
            return
        raise CommitConflict(
            f"The schema of {load.table} changed under each of {MAX_ROUNDS} readings. Send the load again.",
            headers={"retry-after": "5"},
        )

    async def _stage(self, load: LoadRow, schema: Schema) -> TableMetadata:
        delegation = load.delegation or ""
        await self._catalog.ensure_namespace(load.tenant, load.table, delegation)
        return (await self._catalog.stage(load.tenant, load.table, schema, delegation)).metadata

    async def _read(
        self, load: LoadRow, live: LiveLoad, schema: Schema | None, attempt: int
    ) -> tuple[TableMetadata | None, engine.WriteResult]:
        """The table as it was when it was read against (None: not there yet), and what was read."""
        early, live.early = live.early, None
        if early is not None:
            outcome = await early.outcome()
            if outcome is not None:
                return outcome
        folder = self._spool.path(load.load_id)
        async with self._reader.slot():
            if attempt % ATTEMPT_STEP == 0:  # what is read once more did not queue again
                PHASE_SECONDS.labels("queue").observe(time.perf_counter() - live.received_at)
            base = await self._patiently(live, lambda: self._table(load.tenant, load.table, load.delegation or ""))
            reading = Reading(
                live=live,
                folder=folder,
                sources=[source_of(folder, file, load.options) for file in load.files],
                options=load.options,
                schema=base.schema() if base is not None else schema,
                base=base,
                received_bytes=load.received_bytes,
                attempt=attempt,
            )
            with tracing.span("read"):
                return base, await self._reader.read(reading)

    def read_early(
        self,
        live: LiveLoad,
        table: TableName,
        delegation: str,
        options: LoadOptions,
        file: StoredFile,
        expected_bytes: int | None,
    ) -> EarlyRead | None:
        """Begin to read a file that still arrives, of `expected_bytes` where they are known.

        None when no slot is free, or the format can't be read so. Its end is `EarlyRead.finish`.
        """
        if not self._reader.has_free_slot or file.format == engine.Format.PARQUET:
            return None
        if expected_bytes is None and file.format in (engine.Format.JSON, engine.Format.NDJSON):
            return None
        early = EarlyRead(expected_bytes)

        async def read() -> tuple[TableMetadata | None, engine.WriteResult]:
            async with self._reader.slot(early):
                base = await self._table(live.tenant, table, delegation)
                folder = self._spool.path(live.load_id)
                reading = Reading(
                    live=live,
                    folder=folder,
                    sources=[replace(source_of(folder, file, options), arrival=early.arrival)],
                    options=options,
                    schema=base.schema() if base is not None else None,
                    base=base,
                    received_bytes=0,
                    attempt=EARLY_ATTEMPT,
                )
                with tracing.span("read early"):
                    return base, await self._reader.read(reading)

        early.task = asyncio.create_task(read())
        return early

    async def _patiently(self, live: LiveLoad, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the catalog, waiting out one that restarts. Raises CatalogUnavailable after commit.settle_seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.commit.settle_seconds
        pause = self._settings.commit.backoff_seconds
        while True:
            try:
                return await ask()
            except CatalogUnavailable:
                if live.cancelled.is_set() or loop.time() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _table(self, tenant: str, table: TableName, delegation: str) -> TableMetadata | None:
        try:
            return (await self._catalog.load(tenant, table, delegation)).metadata
        except NoSuchTable:
            return None

    def _intent(
        self,
        load: LoadRow,
        result: engine.WriteResult,
        table: TableMetadata | None,
        staged: TableMetadata | None,
        attempt: int,
        snapshot_id: int | None,
    ) -> Intent:
        commits = bool(result.rows_written) and not load.options.dry_run
        folder = self._spool.path(load.load_id)
        location = table.location if table is not None and commits else None
        quarantine = join(self._warehouse.location, quote(load.tenant, safe=""), "_quarantine", str(load.load_id))

        def named(base: str, files: tuple[engine.DataFile, ...]) -> tuple[IntentFile, ...]:
            return tuple(
                IntentFile(
                    spool_name=str(file.path.relative_to(folder)), rows=file.rows,
                    url=join(base, f"{attempt}-{index}.parquet"),
                )
                for index, file in enumerate(files)
            )  # fmt: skip

        return Intent(
            snapshot_id=(snapshot_id or secrets.randbits(62) | 1) if commits else None,
            attempt=attempt,
            data=named(join(location, "data", str(load.load_id)), result.data_files) if location else (),
            quarantine=named(quarantine, result.quarantine_files),
            iceberg_schema=result.schema.model_dump(mode="json", by_alias=True),
            staged=staged.model_dump(mode="json", by_alias=True) if staged is not None else None,
            location=location,
            table_uuid=table.table_uuid if table is not None else None,
            rows_in=result.rows_in,
            rows_written=result.rows_written,
            rows_quarantined=result.rows_quarantined,
            reasons=dict(result.reasons),
        )

    async def _store(self, load: LoadRow, intent: Intent, live: LiveLoad) -> None:
        async with tenant_transaction(self._pool, load.tenant) as connection:
            if not await queries.set_intent(connection, load.load_id, self._owner, intent):
                found = await queries.get_load(connection, load.load_id)
                if found is not None and found.cancelled_at is not None:
                    live.call_off()
                    raise LoadCancelled("It was called off before it was committed.")
                raise LostLease
        live.state = "committing"

    async def _finish(self, load: LoadRow, intent: Intent, live: LiveLoad, *, resumed: bool) -> None:
        """Quarantine files first (nothing refers to them yet), then the commit, then the row with its events."""
        folder = self._spool.path(load.load_id)
        committed: Committed | None = None
        try:
            with PHASE_SECONDS.labels("commit").time(), tracing.span("commit"):
                await asyncio.to_thread(
                    self._move_all, [(folder / file.spool_name, file.url) for file in intent.quarantine]
                )
                if intent.snapshot_id is not None:
                    committed = await self._committer.commit(plan_of(load, intent, folder), resumed=resumed)
            await self._outcomes.complete(load, intent, committed)
            if committed is not None:
                PHASE_SECONDS.labels("readable").observe(time.perf_counter() - live.received_at)
            if load.options.source is not None and not load.options.dry_run:
                await self._uploads.done(load.tenant, load.options.source)
        except (CatalogUnavailable, StoreUnavailable) as error:
            raise CommitPending(error.detail) from error
        except FileNotFoundError as error:
            if is_copied(load.files) or load.options.source is not None:
                raise OutputLost from error
            raise LoadInterrupted(
                "What this load had written is gone with its process. Nothing was committed; send it again."
            ) from error

    def _move_all(self, files: list[tuple[Path, str]]) -> None:
        for source, url in files:
            self._warehouse.move_in(source, url)

    async def _forget_intent(self, load: LoadRow, intent: Intent) -> None:
        """The snapshot is not there and can't come: its files go, and the file is read again."""
        async with tenant_transaction(self._pool, load.tenant) as connection:
            if not await queries.set_rereading(connection, load.load_id, self._owner):
                raise LostLease
        await asyncio.to_thread(delete_files, self._warehouse, load, intent)


def is_complete(folder: Path, files: Sequence[StoredFile]) -> bool:
    """Whether all that was received lies in the folder."""
    try:
        return bool(files) and all((folder / file.spool_name).stat().st_size == file.size_bytes for file in files)
    except FileNotFoundError:
        return False


def plan_of(load: LoadRow, intent: Intent, folder: Path) -> CommitPlan:
    assert intent.snapshot_id is not None
    assert intent.iceberg_schema is not None
    return CommitPlan(
        load_id=load.load_id,
        run_id=load.run_id,
        tenant=load.tenant,
        table=load.table,
        table_uuid=intent.table_uuid,
        location=intent.location,
        delegation=load.delegation or "",
        snapshot_id=intent.snapshot_id,
        attempt=intent.attempt,
        schema=Schema.model_validate(intent.iceberg_schema),
        data=[(folder / file.spool_name, file.url) for file in intent.data],
        staged=intent.staged,
    )


def delete_files(warehouse: Warehouse, load: LoadRow, intent: Intent) -> int:
    """Delete everything that an intent which came to nothing has put into the warehouse. Blocks."""
    urls = [file.url for file in (*intent.data, *intent.quarantine)]
    if intent.location is not None:
        metadata = join(intent.location, "metadata")
        urls += warehouse.list_prefix(metadata, f"{load.load_id}-")
        urls += warehouse.list_prefix(metadata, snapshots.manifest_list_prefix(intent.snapshot_id or 0))
    return warehouse.delete(urls)
