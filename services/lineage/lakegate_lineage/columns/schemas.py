"""Wire models of column lineage."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, Field

from lakegate_lineage.schemas import Edge


class Column(BaseModel):
    """A column of a dataset; `id` is made for this answer's edges and for drawing."""

    id: UUID
    namespace: str
    name: str
    column: str
    distance: int = Field(description="edges between it and the columns that were asked for; negative is upstream")
    restricted: bool = Field(
        default=False, description="outside of the namespaces that the token may read: its names are left out"
    )


class ColumnGraph(BaseModel):
    nodes: list[Column] = Field(description="nearest first")
    edges: list[Edge]
    truncated: bool = Field(description="whether the node budget left something out within the depth")
