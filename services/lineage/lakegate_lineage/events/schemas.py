"""Wire models of what the OpenLineage endpoints answer. What they take is read by openlineage.py."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from lakegate_chassis.problems import ProblemBody


class Recorded(BaseModel):
    """An event was committed, now or before."""

    run_id: UUID | None = Field(description="the run it is about, which for a runId that is no UUID is made from it")


class BatchItem(BaseModel):
    """What became of the event at `index` of the batch."""

    index: int
    status: Literal["recorded", "refused"]
    run_id: UUID | None = None
    problem: ProblemBody | None = None


class BatchResult(BaseModel):
    received: int
    recorded: int
    refused: int
    items: list[BatchItem] = Field(description="in the order of the batch")
