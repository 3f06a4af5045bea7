"""Wire models of datasets as lineage sees them; the catalog holds what people say about them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from lakegate_lineage.schemas import Name, RunStateName


class DatasetVersion(BaseModel):
    """One write."""

    run_id: UUID
    state: RunStateName | None
    at: datetime
    version: str | None = Field(description="of the version facet, an Iceberg snapshot for instance")


class LineageDataset(BaseModel):
    id: UUID
    namespace: str
    name: str
    aliases: list[Name]
    facets: dict[str, Any] = Field(description="the latest of each, over all names of the dataset")
    versions: list[DatasetVersion] = Field(description="the latest 100 writes, newest first")
