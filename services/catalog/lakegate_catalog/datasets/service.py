"""Rules of datasets: find, register, describe, history, diff."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from lakegate_catalog.datasets.schemas import ColumnChange, DatasetCreate, DatasetPatch, SchemaDiff
from lakegate_catalog.datasets.state import (
    Column,
    DatasetState,
    changed,
    dataset_name,
    read,
    table_name,
    table_pair,
    write,
)
from lakegate_catalog.errors import DatasetExists, DatasetModified, DatasetNotFound, VersionNotFound
from lakegate_catalog.store.entities import Entities, NameTaken, first_change, next_change
from lakegate_catalog.store.port import SEPARATOR, Change, Name, SequenceTaken, Space
from lakegate_chassis.problems import FieldError, InvalidRequest
from lakegate_contracts.identity import Principal, Scope
from lakegate_contracts.names import InvalidName, TableName

PATCH_ATTEMPTS = 5


class Datasets:
    """Each method takes the tenant first. Raises what `errors` draws."""

    def __init__(self, entities: Entities) -> None:
        self._entities = entities
        self._store = entities.store

    async def get(self, tenant: str, dataset_id: UUID) -> Change:
        """The current change of a dataset that is there."""
        change = await self._store.current(tenant, dataset_id)
        if change is None or change.state is None or change.space != Space.DATASET:
            raise DatasetNotFound(
                f"No dataset has the id {dataset_id}. Look it up by name: /v1/datasets?namespace=…&name=…"
            )
        return change

    async def find(self, tenant: str, namespace: str, name: str) -> Change | None:
        key = name_of(tenant, namespace, name)
        return await self._store.named(tenant, key) if key else None

    async def page(self, principal: Principal, namespace: str | None, after: str, limit: int) -> list[Change]:
        """Datasets that the caller may read, by namespace and name: those with keys above `after`."""
        prefix = f"{namespace}{SEPARATOR}" if namespace else ""
        areas = areas_of(principal)
        visible: list[Change] = []
        while True:
            found = await self._store.listed(
                principal.tenant, Space.DATASET, prefix=prefix, areas=areas, after=after, limit=limit
            )
            visible += [change for change in found if principal.allows(Scope.DATASETS_READ, read(change).area)]
            # once, but for patterns with sets of characters, of which the store finds too much
            if len(visible) >= limit or len(found) < limit:
                return visible[:limit]
            after = found[-1].key or ""

    async def register(self, tenant: str, wanted: DatasetCreate, actor: str) -> Change:
        """Make a node for something that lives elsewhere. Raises DatasetExists."""
        if wanted.namespace.startswith("lakegate://"):
            raise InvalidRequest(
                "lakegate:// is the namespace of our own tables: create them through Iceberg or POST /v1/loads.",
                errors=[FieldError(detail="reserved for our own tables", pointer="/namespace")],
            )
        now = datetime.now(UTC)
        state = DatasetState(
            id=uuid4(),
            namespace=wanted.namespace,
            name=wanted.name,
            kind=wanted.kind,
            description=wanted.description,
            owner=wanted.owner,
            tags=_tags(wanted.tags),
            columns=tuple(wanted.schema_.fields),
            location=wanted.location,
            created_at=now,
            updated_at=now,
            updated_by=actor,
        )
        name = dataset_name(wanted.namespace, wanted.name)
        first = first_change(tenant, state.id, name, "created", now)
        try:
            return await self._entities.create(
                name, replace(first, state=write(state), event=changed(state, 1, "created", now))
            )
        except NameTaken as error:
            raise DatasetExists(
                f"'{wanted.name}' in '{wanted.namespace}' is in the catalog already. Change it with PATCH."
            ) from error

    async def describe(
        self, tenant: str, dataset_id: UUID, patch: DatasetPatch, *, expected: int | None, actor: str
    ) -> Change:
        """Set owner, description and tags. With `expected` only if that is the version now: DatasetModified."""
        given = patch.model_dump(exclude_unset=True)
        if "tags" in given:
            given["tags"] = _tags(given["tags"] or [])
        for _ in range(PATCH_ATTEMPTS):
            current = await self.get(tenant, dataset_id)
            if expected is not None and current.sequence != expected:
                break
            before = read(current)
            if all(getattr(before, name) == value for name, value in given.items()):
                return current
            change = next_change(current, "described")
            state = before.model_copy(update={**given, "updated_at": change.changed_at, "updated_by": actor})
            event = changed(state, change.sequence, change.kind, change.changed_at)
            try:
                return await self._store.append(replace(change, state=write(state), event=event))
            except SequenceTaken:
                continue
        raise DatasetModified(
            f"The dataset is not at version {expected} any more: get it again, and repeat the change."
            if expected is not None
            else "The dataset is being changed by others again and again. Try again."
        )

    async def versions(self, tenant: str, dataset_id: UUID, *, before: int | None, limit: int) -> list[Change]:
        """Changes, newest first."""
        await self.get(tenant, dataset_id)
        found = await self._store.history(tenant, dataset_id, before=before, limit=limit)
        return [change for change in found if change.state is not None]

    async def diff(self, tenant: str, dataset_id: UUID, older: int, newer: int) -> SchemaDiff:
        """What happened to the columns between two versions."""
        await self.get(tenant, dataset_id)
        before, after = [await self._version(tenant, dataset_id, version) for version in (older, newer)]
        return compare(older, before.columns, newer, after.columns)

    async def _version(self, tenant: str, dataset_id: UUID, version: int) -> DatasetState:
        change = await self._store.change(tenant, dataset_id, version)
        if change is None or change.state is None:
            raise VersionNotFound(
                f"The dataset has no version {version}. They are listed at /v1/datasets/{dataset_id}/versions."
            )
        return read(change)


def areas_of(principal: Principal) -> tuple[str, ...] | None:
    """The namespace patterns that the caller may read; None when nothing is kept from him."""
    patterns = []
    for held in principal.scopes:
        name, _, pattern = held.partition("@")
        if name in (Scope.DATASETS_READ, Scope.ADMIN):
            if not pattern:
                return None
            patterns.append(pattern)
    return tuple(patterns)


def name_of(tenant: str, namespace: str, name: str) -> Name | None:
    """The store's name of an OpenLineage pair; None for a table name that no table can have."""
    if namespace != table_pair(tenant):
        return dataset_name(namespace, name)
    try:
        return table_name(tenant, TableName.parse(name))
    except InvalidName:
        return None


def compare(older: int, before: tuple[Column, ...], newer: int, after: tuple[Column, ...]) -> SchemaDiff:
    """Columns are the same when their field ids are; without ids, when their names are."""
    old, new = ({_identity(column): column for column in columns} for columns in (before, after))
    changes = []
    for identity in old.keys() & new.keys():
        a, b = old[identity], new[identity]
        what = [name for name in ("name", "type", "nullable", "doc") if getattr(a, name) != getattr(b, name)]
        if what:
            changes.append(ColumnChange(before=a, after=b, what=what))
    return SchemaDiff(
        from_version=older,
        to_version=newer,
        added=[column for identity, column in new.items() if identity not in old],
        removed=[column for identity, column in old.items() if identity not in new],
        changed=sorted(changes, key=lambda change: change.after.name),
    )


def _identity(column: Column) -> int | str:
    return column.name if column.field_id is None else column.field_id


def _tags(tags: list[str]) -> tuple[str, ...]:
    """Without repetitions, in the order given."""
    return tuple(dict.fromkeys(tags))
