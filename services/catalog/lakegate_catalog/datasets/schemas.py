"""Wire models of datasets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from lakegate_catalog.datasets.state import Column

# Names go into unique keys, which PostgreSQL limits to 2,700 bytes.
MAX_NAME_BYTES = 1200
Printable = r"^[^\x00-\x1f\x7f]+$"
Named = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_BYTES, pattern=Printable)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=Printable, strip_whitespace=True)]
Owner = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=Printable, strip_whitespace=True)]
Description = Annotated[str, StringConstraints(max_length=20_000)]


class DatasetSchema(BaseModel):
    fields: list[Column] = Field(default_factory=list, max_length=10_000)


class Dataset(BaseModel):
    """A node of the catalog: one of our tables (kind `table`), or something seen elsewhere."""

    model_config = ConfigDict(populate_by_name=True)

    id: UUID
    namespace: str = Field(examples=["lakegate://default"], description="OpenLineage namespace")
    name: str = Field(examples=["travel.flights"], description="OpenLineage name")
    kind: str = Field(examples=["table"])
    description: str | None
    owner: str | None
    tags: list[str]
    schema_: DatasetSchema = Field(alias="schema")
    location: str | None
    version: int = Field(description="counts every change; also the ETag")
    snapshot_id: int | None
    rows: int | None = Field(description="as the snapshot's summary says")
    size_bytes: int | None = Field(description="data files, as the snapshot's summary says")
    created_at: datetime
    updated_at: datetime


class DatasetPage(BaseModel):
    items: list[Dataset]
    next: str | None = Field(description="cursor of the next page; null on the last")


class DatasetCreate(BaseModel):
    """Something that lives elsewhere. Our own tables are made through Iceberg or a load."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid")

    namespace: Named
    name: Named
    kind: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,49}$")] = "external"
    description: Description | None = None
    owner: Owner | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=100)
    schema_: DatasetSchema = Field(alias="schema", default_factory=DatasetSchema)
    location: Named | None = None

    @field_validator("namespace", "name")
    @classmethod
    def _fits_a_key(cls, text: str) -> str:
        if len(text.encode()) > MAX_NAME_BYTES:
            raise ValueError(f"at most {MAX_NAME_BYTES} bytes")
        return text

    @field_validator("kind")
    @classmethod
    def _not_a_table(cls, kind: str) -> str:
        if kind == "table":
            raise ValueError("tables are created through Iceberg or a load; name another kind")
        return kind


class DatasetPatch(BaseModel):
    """What is given is set, null clears it, what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    description: Description | None = None
    owner: Owner | None = None
    tags: list[Tag] | None = Field(default=None, max_length=100)


class Snapshot(BaseModel):
    id: int
    at: datetime
    operation: str | None = None
    summary: dict[str, str]


class DatasetVersion(BaseModel):
    """One change: the dataset as it was from then on."""

    model_config = ConfigDict(populate_by_name=True)

    version: int
    kind: str = Field(examples=["created", "committed", "renamed", "described"])
    changed_at: datetime
    changed_by: str | None
    name: str
    schema_: DatasetSchema = Field(alias="schema")
    snapshot_id: int | None
    snapshot: Snapshot | None


class VersionPage(BaseModel):
    items: list[DatasetVersion]
    next: str | None = Field(description="cursor of older versions; null at the first")


class ColumnChange(BaseModel):
    """A column in both versions, found by its field id where there is one: so a renamed one is one change."""

    before: Column
    after: Column
    what: list[str] = Field(examples=[["type"]], description="name, type, nullable, doc")


class SchemaDiff(BaseModel):
    from_version: int
    to_version: int
    added: list[Column]
    removed: list[Column]
    changed: list[ColumnChange]
