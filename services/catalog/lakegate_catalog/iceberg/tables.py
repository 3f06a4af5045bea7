"""Rules of Iceberg tables: create, load, list, rename, drop, register. Commits are in `commits.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import obstore.exceptions
from prometheus_client import Counter
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

from lakegate_catalog.datasets.state import (
    Column,
    DatasetState,
    SnapshotState,
    TableState,
    changed,
    read,
    table_name,
    table_pair,
    write,
)
from lakegate_catalog.iceberg.dialect import (
    AlreadyExists,
    BadRequest,
    CommitFailed,
    FileMissing,
    NoSuchNamespace,
    NoSuchTable,
    refusing,
)
from lakegate_catalog.iceberg.metadata import Document, Warehouse
from lakegate_catalog.iceberg.namespaces import Namespaces
from lakegate_catalog.iceberg.properties import check_properties
from lakegate_catalog.iceberg.requests import CreateTable
from lakegate_catalog.iceberg.soundness import check_bound, check_numbers, check_schema, check_time, check_writable
from lakegate_catalog.store.entities import Entities, NameTaken, Refused, first_change, next_change
from lakegate_catalog.store.port import Change, SequenceTaken
from lakegate_chassis.logs import log
from lakegate_chassis.objectstore import STORE_ERRORS
from lakegate_contracts.names import TableName

TABLE = "table"
DELETED = Counter(
    "lakegate_catalog_metadata_files_deleted_total", "Metadata files deleted once no table's log named them"
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A table as it is after what was asked: its change, and its metadata file."""

    change: Change
    document: Document


class Tables:
    """Each method takes the tenant first. Raises what `dialect` draws."""

    def __init__(self, entities: Entities, namespaces: Namespaces, warehouse: Warehouse) -> None:
        self.entities = entities
        self.store = entities.store
        self.namespaces = namespaces
        self.warehouse = warehouse
        self._deletions: set[asyncio.Task[None]] = set()

    async def current(self, tenant: str, table: TableName) -> Change:
        """Raises NoSuchTable."""
        change = await self.store.named(tenant, table_name(tenant, table))
        if change is None:
            raise NoSuchTable(f"Table {table} does not exist.")
        return change

    async def exists(self, tenant: str, table: TableName) -> bool:
        return await self.store.named(tenant, table_name(tenant, table)) is not None

    async def load(self, tenant: str, table: TableName) -> Loaded:
        """Raises NoSuchTable, FileMissing."""
        change = await self.current(tenant, table)
        with metadata_of(tenant, table, change) as location:
            return Loaded(change, await self.warehouse.read(location))

    async def names(self, tenant: str, namespace: str, *, after: str, limit: int) -> list[str]:
        """Names of the tables in `namespace` above `after`, in order."""
        if not await self.namespaces.exists(tenant, namespace):
            raise NoSuchNamespace(f"Namespace {namespace} does not exist.")
        name = table_name(tenant, TableName(namespace, after))
        first = name.key if after else ""
        found = await self.store.listed(tenant, name.space, parent=name.parent, after=first, limit=limit)
        return [(change.key or "").rpartition(".")[2] for change in found]

    def stage(self, tenant: str, namespace: str, request: CreateTable) -> TableMetadata:
        """Metadata of a table to be created, with ids assigned and a location; nothing is stored."""
        check_properties(request.properties)
        table_uuid = uuid4()
        table = TableName.of(namespace, request.name)
        location = self.warehouse.table_location(tenant, table, table_uuid)
        if request.location:
            location = self.warehouse.check_chosen(tenant, table, request.location)
        check_numbers(request)
        with refusing("No table can be made of this request"):
            metadata = new_table_metadata(
                schema=request.table_schema,
                partition_spec=request.partition_spec or UNPARTITIONED_PARTITION_SPEC,
                sort_order=request.write_order or UNSORTED_SORT_ORDER,
                location=location,
                properties=dict(request.properties),
                table_uuid=table_uuid,
            )
            check_schema(request.table_schema, metadata.format_version)
            for order in (metadata.spec(), metadata.sort_order()):
                check_bound(order, metadata.schemas)
        check_writable(metadata)
        return metadata

    async def check_free(self, tenant: str, table: TableName) -> None:
        """Raises NoSuchNamespace, AlreadyExists: before anything is written, for the common case."""
        if not await self.namespaces.exists(tenant, table.namespace):
            raise NoSuchNamespace(f"Namespace {table.namespace} does not exist. Create it first.")
        if await self.exists(tenant, table):
            raise AlreadyExists(f"Table {table} already exists.")

    async def create(self, tenant: str, table: TableName, metadata: TableMetadata, actor: str) -> Loaded:
        """Write the metadata and claim the name; the file of a lost race is deleted."""
        await self.check_free(tenant, table)
        document = await self.warehouse.write(metadata, 0)
        try:
            change = await self.adopt(tenant, table, metadata, document.location, "created", actor)
        except (AlreadyExists, NoSuchNamespace):
            await self.warehouse.discard(document)
            raise
        return Loaded(change, document)

    async def register(self, tenant: str, table: TableName, metadata_location: str, actor: str) -> Loaded:
        """Take over a table whose metadata is already in the tenant's folder."""
        self.warehouse.check_location(tenant, metadata_location)
        await self.check_free(tenant, table)
        with refusing(f"{metadata_location} can't be read as table metadata"):
            try:
                document, metadata = await self.warehouse.parse(metadata_location)
            except (FileNotFoundError, obstore.exceptions.NotFoundError) as error:
                raise BadRequest(f"There is no file {metadata_location}.") from error
            metadata.schema()
        for snapshot in metadata.snapshots:
            check_time(snapshot)
        check_properties(metadata.properties)
        self.warehouse.check_chosen(tenant, table, metadata.location)
        self.warehouse.check_files(tenant, metadata)
        if not metadata_location.startswith(f"{metadata.location.rstrip('/')}/"):
            raise BadRequest(f"{metadata_location} is not in the folder of the table that it describes.")
        change = await self.adopt(tenant, table, metadata, metadata_location, "registered", actor)
        return Loaded(change, document)

    async def adopt(
        self, tenant: str, table: TableName, metadata: TableMetadata, location: str, kind: str, actor: str
    ) -> Change:
        """Append the first change of a table whose metadata file is at `location`."""
        now = datetime.now(UTC)
        taken = await self.store.current(tenant, metadata.table_uuid)
        state = described_by(
            DatasetState(
                # so that who knows a table finds it whatever it is called; a copy that was registered has its own
                id=metadata.table_uuid if taken is None else uuid4(),
                namespace=table_pair(tenant),
                name=str(table),
                kind=TABLE,
                description=metadata.properties.get("comment"),
                owner=metadata.properties.get("owner"),
                created_at=now,
                updated_at=now,
            ),
            metadata,
            location,
            now,
            actor,
            # the UUID in it says that the catalog chose the place for this very table
            purgeable=kind == "created" and metadata.location.endswith(f"-{metadata.table_uuid}"),
        )
        name = table_name(tenant, table)
        first = replace(
            first_change(tenant, state.id, name, kind, now), state=write(state), event=changed(state, 1, kind, now)
        )

        async def namespace_is_there() -> bool:
            return await self.namespaces.exists(tenant, table.namespace)

        try:
            return await self.entities.create(name, first, namespace_is_there)
        except NameTaken as error:
            raise AlreadyExists(f"Table {table} already exists.") from error
        except Refused as error:
            raise NoSuchNamespace(f"Namespace {table.namespace} does not exist any more.") from error

    async def rename(self, tenant: str, source: TableName, destination: TableName, actor: str) -> Change:
        current = await self.current(tenant, source)
        await self.check_free(tenant, destination)
        change = next_change(current, "renamed")
        state = read(current).model_copy(
            update={"name": str(destination), "updated_at": change.changed_at, "updated_by": actor}
        )
        change = replace(
            change, state=write(state), event=changed(state, change.sequence, "renamed", change.changed_at)
        )

        async def namespace_is_there() -> bool:
            return await self.namespaces.exists(tenant, destination.namespace)

        old, new = table_name(tenant, source), table_name(tenant, destination)
        try:
            return await self.entities.rename(old, new, change, namespace_is_there)
        except NameTaken as error:
            raise AlreadyExists(f"Table {destination} already exists.") from error
        except Refused as error:
            raise NoSuchNamespace(f"Namespace {destination.namespace} does not exist any more.") from error
        except SequenceTaken as error:
            raise CommitFailed(f"Table {source} has just been changed. Try again.") from error

    async def drop(self, tenant: str, table: TableName, *, purge: bool) -> Change:
        """With `purge` its files are deleted too, after the answer, if no other table can be in its location."""
        current = await self.current(tenant, table)
        state = read(current)
        change = next_change(current, "dropped")
        event = changed(state, change.sequence, "dropped", change.changed_at, gone=True)
        try:
            dropped = await self.entities.remove(table_name(tenant, table), replace(change, event=event))
        except SequenceTaken as error:
            raise CommitFailed(f"Table {table} has just been changed. Try again.") from error
        if purge and state.table and state.table.purgeable and state.location:
            self._start(self._purge(state.location))
        return dropped

    def delete_later(self, locations: Sequence[str]) -> None:
        """Delete metadata files that no table's log names any more, after the answer."""
        if locations:
            self._start(self._delete(locations))

    def _start(self, deletion: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(deletion)
        self._deletions.add(task)
        task.add_done_callback(self._deletions.discard)

    async def _delete(self, locations: Sequence[str]) -> None:
        try:
            await self.warehouse.delete(locations)
        except STORE_ERRORS as error:
            log.error("metadata_not_deleted", locations=locations[:10], reason=str(error))
        else:
            DELETED.inc(len(locations))

    async def finish(self) -> None:
        """Wait for deletions under way."""
        await asyncio.gather(*self._deletions)

    async def _purge(self, location: str) -> None:
        try:
            deleted = await self.warehouse.purge(location)
        except STORE_ERRORS as error:
            log.error("purge_failed", location=location, reason=str(error))
        else:
            log.info("purged", location=location, files=deleted)


@contextmanager
def metadata_of(tenant: str, table: TableName, change: Change) -> Iterator[str]:
    """The place of the table's metadata file, to read it. Raises FileMissing when it is not there."""
    location = table_state(change).metadata_location
    try:
        yield location
    except FileNotFoundError as error:
        log.error("table_file_missing", tenant=tenant, table=str(table), table_id=str(change.entity_id), file=location)
        raise FileMissing(
            f"The metadata file {location} of table {table} is not in the warehouse any more: somebody deleted it "
            "there. Nothing was changed. Restore the file (from a backup, or an older version of the object); or drop "
            "the table without purge and register an earlier metadata file of its folder under its name."
        ) from error


def table_state(change: Change) -> TableState:
    """What makes a change's dataset a table. Raises NoSuchTable for something seen elsewhere."""
    state = read(change)
    if state.table is None:
        raise NoSuchTable(f"{state.name} is a {state.kind}, not an Iceberg table.")
    return state.table


def described_by(
    state: DatasetState, metadata: TableMetadata, location: str, now: datetime, actor: str, *, purgeable: bool
) -> DatasetState:
    """The state with everything that the metadata tells: columns, location, snapshot."""
    schema = metadata.schema()
    snapshot = metadata.current_snapshot()
    summary = dict(snapshot.summary.additional_properties) if snapshot and snapshot.summary else {}
    table = TableState(
        metadata_location=location,
        table_uuid=UUID(str(metadata.table_uuid)),
        schema_id=schema.schema_id,
        snapshot=SnapshotState(
            id=snapshot.snapshot_id,
            at=datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
            operation=snapshot.summary.operation.value if snapshot.summary else None,
            summary=summary,
        )
        if snapshot
        else None,
        purgeable=purgeable,
    )
    columns = tuple(
        Column(
            name=field.name,
            type=str(field.field_type),
            nullable=not field.required,
            field_id=field.field_id,
            doc=field.doc,
        )
        for field in schema.fields
    )
    return state.model_copy(
        update={
            "columns": columns,
            "location": metadata.location,
            "table": table,
            "updated_at": now,
            "updated_by": actor,
        }
    )
