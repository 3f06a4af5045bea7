"""A dataset as the store keeps it, and what other parts are told of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from lakegate_catalog.store.port import SEPARATOR, Change, Name, Space
from lakegate_chassis.numerals import natural
from lakegate_contracts.events import DatasetChanged
from lakegate_contracts.names import TableName


class Column(BaseModel):
    """A column; `type` is Iceberg's name of it for tables, whatever the source said for others."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    nullable: bool = True
    field_id: int | None = None
    doc: str | None = None


class SnapshotState(BaseModel):
    """An Iceberg snapshot: `summary` is its own, counts as strings of digits."""

    model_config = ConfigDict(frozen=True)

    id: int
    at: datetime
    operation: str | None = None
    summary: dict[str, str] = Field(default_factory=dict)


class TableState(BaseModel):
    """What makes a dataset an Iceberg table. `purgeable`: the catalog chose the location, no other table is in it."""

    model_config = ConfigDict(frozen=True)

    metadata_location: str
    table_uuid: UUID
    schema_id: int
    snapshot: SnapshotState | None = None
    purgeable: bool = False


class DatasetState(BaseModel):
    """The state in a change. `namespace` and `name` are the OpenLineage pair."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    namespace: str
    name: str
    kind: str
    description: str | None = None
    owner: str | None = None
    tags: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    location: str | None = None
    created_at: datetime
    updated_at: datetime
    updated_by: str | None = None
    table: TableState | None = None

    @property
    def area(self) -> str:
        """What namespace patterns of scopes are matched with: the table's namespace, or the dataset's own."""
        return self.name.rpartition(".")[0] if self.table else self.namespace


def table_pair(tenant: str) -> str:
    """The OpenLineage namespace of a tenant's tables."""
    return f"lakegate://{tenant}"


def table_name(tenant: str, table: TableName) -> Name:
    """The store's name of a table; tables of a namespace share the parent."""
    pair = table_pair(tenant)
    return Name(Space.DATASET, f"{pair}{SEPARATOR}{table}", f"{pair}{SEPARATOR}{table.namespace}")


def dataset_name(namespace: str, name: str) -> Name:
    """The store's name of something that is no table of ours."""
    return Name(Space.DATASET, f"{namespace}{SEPARATOR}{name}", namespace)


def read(change: Change) -> DatasetState:
    """The state of a change that has one."""
    return DatasetState.model_validate(change.state)


def write(state: DatasetState) -> dict[str, Any]:
    return state.model_dump(mode="json", exclude_none=True)


def wire(state: DatasetState, version: int) -> dict[str, Any]:
    """The dataset as REST answers, events and the search index show it (JSON types only)."""
    snapshot = state.table.snapshot if state.table else None
    summary = snapshot.summary if snapshot else {}
    return {
        "id": str(state.id),
        "namespace": state.namespace,
        "name": state.name,
        "kind": state.kind,
        "description": state.description,
        "owner": state.owner,
        "tags": list(state.tags),
        "schema": {"fields": [column.model_dump() for column in state.columns]},
        "location": state.location,
        "version": version,
        "snapshot_id": snapshot.id if snapshot else None,
        "rows": _count(summary, "total-records"),
        "size_bytes": _count(summary, "total-files-size"),
        "created_at": rfc3339(state.created_at),
        "updated_at": rfc3339(state.updated_at),
    }


def changed(state: DatasetState, version: int, kind: str, at: datetime, *, gone: bool = False) -> DatasetChanged:
    """The event of a change."""
    return DatasetChanged(
        dataset_id=state.id,
        version=version,
        kind=kind,
        namespace=state.namespace,
        name=state.name,
        dataset=None if gone else wire(state, version),
        changed_at=at,
    )


def rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _count(summary: dict[str, str], name: str) -> int | None:
    return natural(summary.get(name))
