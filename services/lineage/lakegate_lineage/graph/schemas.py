"""Wire models of the lineage graph."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from lakegate_lineage.schemas import Edge, LastRun, Name


class Node(BaseModel):
    id: UUID
    type: Literal["dataset", "job"]
    namespace: str
    name: str
    aliases: list[Name] = Field(default_factory=list, description="other names of the same dataset (symlinks facet)")
    distance: int = Field(description="edges between it and the node that was asked for; negative is upstream")
    last_run: LastRun | None = None
    restricted: bool = Field(
        default=False, description="outside of the namespaces that the token may read: its names are left out"
    )


class Graph(BaseModel):
    nodes: list[Node] = Field(description="nearest first; the first is the one that was asked for")
    edges: list[Edge] = Field(description="from an input to its job, from a job to its output")
    truncated: bool = Field(description="whether the node budget left something out within the depth")
