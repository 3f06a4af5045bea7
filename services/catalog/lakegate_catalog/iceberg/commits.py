"""Commits: requirements checked against the current metadata, updates applied, and a compare-and-set on the log."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from prometheus_client import Counter
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata, TableMetadataV1
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertCreate,
    RemovePropertiesUpdate,
    SetPropertiesUpdate,
    TableUpdate,
    update_table_metadata,
)

from lakegate_catalog.datasets.state import DatasetState, changed, read, write
from lakegate_catalog.iceberg.dialect import BadRequest, CommitFailed, CommitStateUnknown, IcebergError, refusing
from lakegate_catalog.iceberg.metadata import Document, next_version
from lakegate_catalog.iceberg.properties import check_properties
from lakegate_catalog.iceberg.requests import CommitTable
from lakegate_catalog.iceberg.soundness import check_numbers, check_updates, check_writable
from lakegate_catalog.iceberg.tables import Loaded, Tables, described_by, metadata_of, table_state
from lakegate_catalog.settings import MetadataSettings
from lakegate_catalog.store.entities import next_change
from lakegate_catalog.store.port import Change, SequenceTaken
from lakegate_chassis.problems import Unavailable
from lakegate_chassis.threads import in_thread
from lakegate_contracts.names import TableName

# A lost race whose requirements still hold is repeated here, which is cheaper than by the client.
ATTEMPTS = 10
DELETE_PROPERTY = "write.metadata.delete-after-commit.enabled"


COMMITS = Counter("lakegate_catalog_commits_total", "Iceberg commits by how they ended", ["outcome"])


class Commits:
    """Iceberg REST 'updateTable'."""

    def __init__(self, tables: Tables, settings: MetadataSettings) -> None:
        self._tables = tables
        self._delete_after_commit = settings.delete_after_commit
        self._warehouse = tables.warehouse

    async def commit(self, tenant: str, table: TableName, request: CommitTable, actor: str) -> Loaded:
        """Apply the updates if the requirements hold.

        Raises NoSuchTable, FileMissing, BadRequest for updates that don't fit the table, CommitFailed when nothing was
        changed, CommitStateUnknown when the database went away in the middle.
        """
        try:
            loaded = await self._commit(tenant, table, request, actor)
        except IcebergError as error:
            COMMITS.labels(error.type).inc()
            raise
        COMMITS.labels("committed").inc()
        return loaded

    async def _commit(self, tenant: str, table: TableName, request: CommitTable, actor: str) -> Loaded:
        for update in request.updates:
            if isinstance(update, SetPropertiesUpdate):
                check_properties(update.updates)
        if any(isinstance(requirement, AssertCreate) for requirement in request.requirements):
            return await self._create(tenant, table, request, actor)
        for _ in range(ATTEMPTS):
            current = await self._tables.current(tenant, table)
            with metadata_of(tenant, table, current) as location:
                base_document, base = await self._warehouse.parse(location)
            _check(request, base)
            if not request.updates:
                return Loaded(current, base_document)
            updated = await in_thread(_apply, base, request, base_document.location)
            if updated.location != base.location:
                raise BadRequest(
                    f"Table {table} stays at {base.location}: nobody would give out keys for the files that it has in "
                    "its former place. Create another table, and copy the rows."
                )
            await self._warehouse.check_there(self._warehouse.check_files(tenant, updated, base))
            document = await self._warehouse.write(updated, next_version(base_document.location))
            try:
                change = await self._append(current, updated, document, actor)
            except SequenceTaken:
                COMMITS.labels("lost race").inc()
                await self._warehouse.discard(document)
                continue
            if self._may_delete(change, updated):
                self._tables.delete_later(left_behind(base, updated))
            return Loaded(change, document)
        raise CommitFailed(f"Table {table} is being changed by others again and again. Refresh and commit again.")

    async def _append(self, current: Change, metadata: TableMetadata, document: Document, actor: str) -> Change:
        change = next_change(current, "committed")
        before: DatasetState = read(current)
        state = described_by(
            before,
            metadata,
            document.location,
            change.changed_at,
            actor,
            purgeable=bool(before.table and before.table.purgeable),
        )
        event = changed(state, change.sequence, change.kind, change.changed_at)
        try:
            return await self._tables.store.append(replace(change, state=write(state), event=event))
        except Unavailable as error:
            # the file stays: if the change was stored after all, it is the table's metadata
            raise CommitStateUnknown(
                f"The database went away while {state.name} was committed. Look whether it has your snapshot."
            ) from error

    def _may_delete(self, change: Change, metadata: TableMetadata) -> bool:
        """Whether the catalog made all the files of this table, and its owner wants none of the old ones."""
        said = metadata.properties.get(DELETE_PROPERTY)
        wanted = self._delete_after_commit if said is None else said.strip().lower() == "true"
        return wanted and table_state(change).purgeable

    async def _create(self, tenant: str, table: TableName, request: CommitTable, actor: str) -> Loaded:
        """The end of a staged create: the updates build the table from nothing."""
        if await self._tables.exists(tenant, table):
            raise CommitFailed(f"Requirement failed: table {table} already exists.")
        # constructed, not validated: validation would put the empty schema, spec and order among the real ones
        empty = TableMetadataV1.model_construct(location="", last_column_id=-1, schema_=Schema())
        metadata = await in_thread(_apply, empty, request, None)
        if metadata.location:
            location = self._warehouse.check_chosen(tenant, table, metadata.location)
        else:
            location = self._warehouse.table_location(tenant, table, metadata.table_uuid or uuid4())
        metadata = metadata.model_copy(update={"location": location})
        await self._warehouse.check_there(self._warehouse.check_files(tenant, metadata))
        return await self._tables.create(tenant, table, metadata, actor)


def left_behind(base: TableMetadata, updated: TableMetadata) -> list[str]:
    """The metadata files that the log of `base` had and that of `updated` has no more, in the table's own folder."""
    kept = {entry.metadata_file for entry in updated.metadata_log}
    folder = f"{updated.location}/metadata/"
    files = (entry.metadata_file for entry in base.metadata_log)
    return [file for file in files if file not in kept and file.startswith(folder)]


def _check(request: CommitTable, base: TableMetadata) -> None:
    for requirement in request.requirements:
        try:
            requirement.validate(base)
        except CommitFailedException as error:
            raise CommitFailed(str(error)) from error
    for update in request.updates:
        if isinstance(update, AddSnapshotUpdate):
            _check_order(update, base)


def _check_order(update: AddSnapshotUpdate, base: TableMetadata) -> None:
    """A snapshot that is numbered behind the table lost a race (on another branch): it has to be made anew."""
    snapshot = update.snapshot
    if isinstance(base, TableMetadataV1):
        return
    if (snapshot.sequence_number or 0) <= base.last_sequence_number:
        raise CommitFailed(
            f"Requirement failed: snapshot {snapshot.snapshot_id} has sequence number {snapshot.sequence_number}, "
            f"the table is at {base.last_sequence_number} already."
        )


def _apply(base: TableMetadata, request: CommitTable, location: str | None) -> TableMetadata:
    """The metadata with the updates applied; without a location, that of a new table. Raises BadRequest."""
    check_writable(base)
    check_numbers(request)
    updates = _present_removals(base, request.updates)
    with refusing("The updates can't be applied"):
        updated = update_table_metadata(base, updates, enforce_validation=location is None, metadata_location=location)
        check_updates(updates, updated, None if location is None else base)
    return updated


def _present_removals(base: TableMetadata, updates: tuple[TableUpdate, ...]) -> tuple[TableUpdate, ...]:
    """The updates with only those removals of properties that are there: to remove what is not is no error, and what
    Spark sends for UNSET TBLPROPERTIES IF EXISTS.
    """
    keys = set(base.properties)
    known: list[TableUpdate] = []
    for update in updates:
        if isinstance(update, SetPropertiesUpdate):
            keys |= update.updates.keys()
        elif isinstance(update, RemovePropertiesUpdate):
            present = keys.intersection(update.removals)
            keys -= present
            update = RemovePropertiesUpdate(removals=sorted(present))
        known.append(update)
    return tuple(known)
