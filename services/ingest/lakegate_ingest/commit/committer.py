"""One load's commit: exactly once, whatever is lost on the way.

The snapshot id is fixed before the first attempt. A lost race (409) is retried on fresh metadata; an unknown outcome is
settled by looking for the snapshot id, and only then retried. Requests still in flight from before can't do harm: each
asserts the state it was built on, which a later commit has changed.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil
from pyiceberg.table.update import TableRequirement, TableUpdate

from lakegate_chassis.logs import log
from lakegate_chassis.threads import in_thread
from lakegate_contracts.names import TableName
from lakegate_ingest.commit import snapshots
from lakegate_ingest.commit.catalog import Catalog, Conflict, LoadedTable, NoSuchTable, OutcomeUnknown
from lakegate_ingest.commit.files import TableFiles
from lakegate_ingest.commit.warehouse import NO_SPACE, Warehouse, join, no_space
from lakegate_ingest.errors import CatalogRefused, CatalogUnavailable, CommitConflict, SchemaConflict, TableDamaged
from lakegate_ingest.metrics import COMMIT_RETRIES
from lakegate_ingest.settings import CommitSettings

LONGEST_PAUSE_SECONDS = 2.0
# A table that is renamed more often while it is looked for is looked for later.
RENAMES = 5


class SchemaMoved(Exception):
    """Another writer created the table or changed its schema: the file has to be read again against it."""


class OutcomeUnprovable(Exception):
    """The table is gone from the catalog, but metadata of it is left: it may have the snapshot, and come back."""


class _Gone(Exception):
    """The table is in the catalog by no name. `replaced`: another has the name that it had."""

    def __init__(self, replaced: bool) -> None:
        super().__init__(replaced)
        self.replaced = replaced


@dataclass(frozen=True)
class CommitPlan:
    """What is to become one snapshot of the table with this UUID, which may be renamed meanwhile.

    `staged` is the metadata of a table that this commit creates. No UUID: of a load from before it was kept.
    """

    load_id: UUID
    run_id: UUID
    tenant: str
    table: TableName
    table_uuid: UUID | None
    location: str | None
    delegation: str
    snapshot_id: int
    attempt: int
    schema: Schema
    data: list[tuple[Path, str]]
    staged: dict[str, Any] | None

    @property
    def creates(self) -> bool:
        return self.staged is not None


@dataclass(frozen=True)
class Committed:
    """`metadata` is the table's after the commit, or later; version and token where the catalog gave them."""

    metadata: TableMetadata
    catalog_version: int | None
    consistency_token: str | None


class Committer:
    """Turns plans into snapshots; blocking work runs in threads."""

    def __init__(self, catalog: Catalog, settings: CommitSettings, warehouse: Warehouse) -> None:
        self._catalog = catalog
        self._settings = settings
        self._warehouse = warehouse

    async def commit(self, plan: CommitPlan, *, resumed: bool) -> Committed:
        """Move the files in and commit them.

        Raises SchemaMoved (read again), CatalogUnavailable (the outcome is open: try the same plan later), and
        CatalogRefused, CommitConflict, SchemaConflict or TableDamaged (final: the snapshot is not and will not be
        there).
        """
        loaded = await self._first_look(plan, resumed=resumed)
        if snapshots.holds_snapshot(loaded.metadata, plan.snapshot_id):
            return _committed(loaded)
        files = TableFiles(self._warehouse, plan.tenant, loaded.metadata.location)
        for _, url in plan.data:
            files.check(url)
        await asyncio.to_thread(self._move_all, plan.data)
        build = _Build(plan, files)
        for attempt in range(self._settings.attempts):
            requirements, updates = await self._built(build, plan, loaded.metadata, attempt, resumed=resumed)
            try:
                done = await self._catalog.commit(plan.tenant, loaded.table, requirements, updates, plan.delegation)
            except (Conflict, OutcomeUnknown, NoSuchTable) as error:
                found = await self._look_again(plan, attempt, error)
            else:
                if attempt or resumed:  # else there is no other, and to list a store's folder takes its time
                    await asyncio.to_thread(self._delete_other_lists, plan, build.manifest_list)
                return _committed(done)
            if found is None:
                continue
            loaded = found
            if snapshots.holds_snapshot(loaded.metadata, plan.snapshot_id):
                await asyncio.to_thread(self._delete_other_lists, plan, _list_of(loaded.metadata, plan.snapshot_id))
                return _committed(loaded)
            if plan.creates:
                raise SchemaMoved("another load created the table first")
        raise CommitConflict(
            f"Other writers committed to {plan.table} first, {self._settings.attempts} times. Send the load again.",
            headers={"retry-after": "5"},
        )

    async def _built(
        self, build: _Build, plan: CommitPlan, metadata: TableMetadata, attempt: int, *, resumed: bool
    ) -> tuple[list[TableRequirement], list[TableUpdate]]:
        """What to ask of the catalog. Raises SchemaMoved, SchemaConflict and TableDamaged."""
        try:
            return await build.next(metadata, attempt=attempt)
        except (SchemaConflict, TableDamaged) as error:
            if isinstance(error, TableDamaged):
                log.error(
                    error.slug.replace("-", "_"),
                    load_id=str(plan.load_id), tenant=plan.tenant, table=str(plan.table), reason=error.detail,
                )  # fmt: skip
            if attempt == 0 and not resumed:  # nothing was sent: no snapshot can have them
                await asyncio.to_thread(self._warehouse.delete, [url for _, url in plan.data])
            raise

    async def _look_again(
        self, plan: CommitPlan, attempt: int, error: Conflict | OutcomeUnknown | NoSuchTable
    ) -> LoadedTable | None:
        """The table after an attempt that was not acknowledged; it may have the snapshot nevertheless.

        None where the same attempt is made again: the table that the plan creates is not there.
        """
        if isinstance(error, OutcomeUnknown):
            COMMIT_RETRIES.labels("unknown_outcome").inc()
            log.warning("commit_outcome_unknown", load_id=str(plan.load_id), attempt=attempt, reason=str(error))
            return await self._settle(plan)
        if isinstance(error, Conflict):
            COMMIT_RETRIES.labels("lost_race").inc()
            log.info("commit_lost_race", load_id=str(plan.load_id), attempt=attempt, message=str(error))
            await self._pause(attempt)
        elif plan.creates:
            raise CatalogRefused(
                f"The namespace of {plan.table} was dropped during the load. Send it again.", status=409
            ) from error
        return await self._load_patiently(plan)  # after NoSuchTable: renamed, or dropped

    async def reaches_catalog(self) -> bool:
        return await self._catalog.answers()

    async def is_committed(self, plan: CommitPlan) -> bool:
        """Whether the snapshot is in the table, whatever the table is called by now.

        Raises CatalogUnavailable, CatalogRefused and OutcomeUnprovable.
        """
        try:
            loaded = await self._load(plan)
        except _Gone as gone:
            if await asyncio.to_thread(self._has_metadata, plan):
                raise OutcomeUnprovable(f"{plan.table} is gone from the catalog, its metadata is not") from gone
            return False
        return snapshots.holds_snapshot(loaded.metadata, plan.snapshot_id)

    async def _first_look(self, plan: CommitPlan, *, resumed: bool) -> LoadedTable:
        if plan.staged is None:
            return await self._load_patiently(plan)
        staged = LoadedTable(plan.table, TableMetadataUtil.parse_obj(plan.staged), None, None, None)
        if not resumed:
            return staged
        found = await self._settle(plan)
        if found is None:
            if await asyncio.to_thread(self._has_metadata, plan):
                raise _dropped(plan)  # after this load had created it
            return staged
        if not snapshots.holds_snapshot(found.metadata, plan.snapshot_id):
            raise SchemaMoved("another load created the table first")
        return found

    async def _settle(self, plan: CommitPlan) -> LoadedTable | None:
        """The table as it is now; None when it is one that the plan creates, and is not there."""
        try:
            return await self._load_patiently(plan)
        except CatalogRefused:
            if not plan.creates:
                raise
            return None

    async def _load_patiently(self, plan: CommitPlan) -> LoadedTable:
        """Load the table, waiting out a catalog that restarts.

        Raises CatalogUnavailable after settle_seconds, CatalogRefused, and SchemaMoved when another load has created
        the table that the plan would create.
        """
        deadline = asyncio.get_running_loop().time() + self._settings.settle_seconds
        for attempt in range(1_000_000):
            try:
                return await self._load(plan)
            except _Gone as gone:
                if gone.replaced and plan.creates:
                    raise SchemaMoved("another load created the table first") from gone
                raise _dropped(plan) from gone
            except CatalogUnavailable:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await self._pause(attempt)
        raise AssertionError("unreachable")

    async def _load(self, plan: CommitPlan) -> LoadedTable:
        """The table by its name, or by its UUID once the name is another's. Raises _Gone and what Catalog.load does."""
        table = plan.table
        for _ in range(RENAMES):
            replaced = False
            try:
                loaded = await self._catalog.load(plan.tenant, table, plan.delegation)
            except NoSuchTable:
                pass
            else:
                if plan.table_uuid in (None, loaded.metadata.table_uuid):
                    return loaded
                replaced = True
            named = plan.table_uuid and await self._catalog.name_of(plan.tenant, plan.table_uuid, plan.delegation)
            if not named:
                raise _Gone(replaced)
            table = named
        raise CatalogUnavailable(f"{plan.table} is renamed again and again.")

    def _has_metadata(self, plan: CommitPlan) -> bool:
        """Whether there is a metadata file where the table is, or was. Blocks."""
        if plan.location is None:
            return True  # nobody knows
        listed = self._warehouse.list_prefix(join(plan.location, "metadata"), "")
        return any(url.endswith(".metadata.json") for url in listed)

    def _move_all(self, files: list[tuple[Path, str]]) -> None:
        for source, url in files:
            self._warehouse.move_in(source, url)

    def _delete_other_lists(self, plan: CommitPlan, kept: str) -> None:
        """The manifest lists of attempts that lost; only this load writes under its snapshot id."""
        folder = kept.rpartition("/")[0]
        lists = self._warehouse.list_prefix(folder, snapshots.manifest_list_prefix(plan.snapshot_id))
        self._warehouse.delete(url for url in lists if url != kept)

    async def _pause(self, attempt: int) -> None:
        longest = min(self._settings.backoff_seconds * 2 ** min(attempt, 10), LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(longest * random.uniform(0.5, 1.5))  # noqa: S311 — jitter needs no secrecy


class _Build:
    """The parts of a commit that survive a lost race: data files and their manifest."""

    def __init__(self, plan: CommitPlan, io: TableFiles) -> None:
        self._plan = plan
        self._io = io
        self._written: tuple[Any, Any, Any] | None = None
        self.manifest_list = ""

    async def next(self, metadata: TableMetadata, *, attempt: int) -> tuple[list[TableRequirement], list[TableUpdate]]:
        try:
            return await in_thread(self._next, metadata, attempt)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise no_space() from error
            raise

    def _next(self, metadata: TableMetadata, attempt: int) -> tuple[list[TableRequirement], list[TableUpdate]]:
        plan, new = self._plan, self._plan.creates
        if not metadata.spec().is_unpartitioned():
            raise SchemaConflict(
                f"{plan.table} is partitioned, and loads write unpartitioned tables only. Use an engine."
            )
        target = metadata.schema() if new else schema_after(metadata, plan.schema)
        requirements, updates = snapshots.schema_updates(metadata, target, new=new)
        after = snapshots.with_schema(metadata, updates, new=new)
        if self._written is None:
            io = self._io
            try:
                files = snapshots.data_files(io, after, [url for _, url in plan.data])
            except (ValueError, OverflowError) as error:
                raise SchemaConflict(f"The written files do not fit {plan.table}: {error}") from error
            url = snapshots.manifest_url(metadata, str(plan.load_id), plan.attempt)
            manifest = snapshots.write_data_manifest(io, after, files, snapshot_id=plan.snapshot_id, url=url)
            self._written = (io, files, manifest)
        io, files, manifest = self._written
        append = snapshots.append(
            io, after, manifest, files, snapshot_id=plan.snapshot_id, name=f"{attempt}-{plan.load_id}", new=new,
            properties={snapshots.LOAD_ID: str(plan.load_id), "lakegate.run-id": str(plan.run_id)},
        )  # fmt: skip
        self.manifest_list = append.manifest_list
        return requirements + append.requirements, updates + append.updates


def _dropped(plan: CommitPlan) -> CatalogRefused:
    return CatalogRefused(
        f"The table {plan.table} was dropped during the load. Send the load again: it then creates the table.",
        status=409,
    )


def schema_after(metadata: TableMetadata, written: Schema) -> Schema:
    """The schema that these files need: the table's own, or ours when that only adds. Raises SchemaMoved."""
    current = metadata.schema()
    if snapshots.fits(written, current):
        return current
    added = {field.field_id for field in written.fields} - {field.field_id for field in current.fields}
    if snapshots.fits(current, written) and all(field_id > metadata.last_column_id for field_id in added):
        return written
    raise SchemaMoved("the table's schema was changed during the load")


def _committed(loaded: LoadedTable) -> Committed:
    return Committed(loaded.metadata, loaded.catalog_version, loaded.consistency_token)


def _list_of(metadata: TableMetadata, snapshot_id: int) -> str:
    snapshot = metadata.snapshot_by_id(snapshot_id)
    return snapshot.manifest_list if snapshot is not None else ""
