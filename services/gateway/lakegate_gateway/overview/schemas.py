"""A table on one page, on the wire."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from lakegate_chassis.problems import ProblemBody


class PartProblem(ProblemBody):
    """Why a part is missing."""

    part: str = Field(examples=["lineage"])


class Overview(BaseModel):
    """A part is null when its service did not answer in time, which `errors` then says, or has nothing."""

    table: str = Field(examples=["travel.flights"])
    dataset: dict[str, Any] | None = Field(description="the catalog's entry, as /v1/datasets/{id} has it")
    loads: list[dict[str, Any]] | None = Field(description="the latest loads, newest first")
    lineage: dict[str, Any] | None = Field(description="two steps up and down, as /v1/lineage/graph has it")
    errors: list[PartProblem]
