"""Wire models that several nouns share."""

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


class Edge(BaseModel):
    """It points the way the data flows."""

    model_config = ConfigDict(populate_by_name=True)

    source: UUID = Field(alias="from")
    to: UUID
