"""Wire models of the lineage graph."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

RunStateName = Literal["new", "running", "completed", "aborted", "failed"]


class Direction(StrEnum):
    UP = "up"
    DOWN = "down"
    BOTH = "both"


class Name(BaseModel):
    """An OpenLineage pair."""

    namespace: str
    name: str


class LastRun(BaseModel):
    """The latest run of a job, or the latest that wrote a dataset. `at`: when it came into this state."""

    id: UUID
    state: RunStateName
    at: datetime


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


class Edge(BaseModel):
    """It points the way the data flows: from an input to its job, from a job to its output."""

    model_config = ConfigDict(populate_by_name=True)

    source: UUID = Field(alias="from")
    to: UUID


class Graph(BaseModel):
    nodes: list[Node] = Field(description="nearest first; the first is the one that was asked for")
    edges: list[Edge]
    truncated: bool = Field(description="whether the node budget left something out within the depth")
