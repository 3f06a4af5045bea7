"""Wire models of runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from lakegate_lineage.schemas import Name, RunStateName


class Run(BaseModel):
    """A run as its events tell it, whatever order they came in."""

    id: UUID
    external_id: str | None = Field(description="the runId as it was sent, where that was no UUID")
    job: Name
    state: RunStateName = Field(description="an end wins over what is no end; of two ends the later")
    started_at: datetime | None = Field(description="time of the earliest START")
    ended_at: datetime | None
    duration_seconds: float | None
    first_event_at: datetime
    last_event_at: datetime
    parent_id: UUID | None
    error: str | None


class RunDataset(BaseModel):
    """A dataset that the run read or wrote, with the facets of this use (row counts, say), latest of each."""

    namespace: str
    name: str
    facets: dict[str, Any]


class RunEvent(BaseModel):
    type: str | None
    at: datetime


class RunDetail(Run):
    """What its events say in detail; they go after LINEAGE_RETENTION__EVENT_DAYS, and leave what a Run has."""

    facets: dict[str, Any]
    inputs: list[RunDataset]
    outputs: list[RunDataset]
    events: list[RunEvent] = Field(description="in the order of their own time; the last 500 at most")


class RunPage(BaseModel):
    items: list[Run]
    next: str | None = Field(description="path of the page that follows")
