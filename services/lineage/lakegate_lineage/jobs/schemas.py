"""Wire models of jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from lakegate_lineage.schemas import LastRun, Name


class Job(BaseModel):
    id: UUID
    namespace: str
    name: str
    first_event_at: datetime
    last_event_at: datetime
    last_run: LastRun | None = Field(description="of the latest event that names a run; null for a static job")


class JobDetail(Job):
    facets: dict[str, Any] = Field(description="the latest of each")
    inputs: list[Name]
    outputs: list[Name]


class JobPage(BaseModel):
    items: list[Job]
    next: str | None = Field(description="path of the page that follows")
