"""The receipt: one id that links the request, the file, the snapshot, the catalog and the lineage run."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class LoadState(StrEnum):
    """`receiving` until the body is spooled, then `queued`, `reading`, `committing`, and one of the last two."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    READING = "reading"
    COMMITTING = "committing"
    COMPLETED = "completed"
    FAILED = "failed"


class SourceFile(BaseModel):
    """One file of a load as it was received; `sha256` is of the bytes that the client sent."""

    model_config = ConfigDict(frozen=True)

    name: str
    format: str
    size_bytes: int
    sha256: str


class QuarantineSummary(BaseModel):
    """How many rows were set aside, and the most common reasons."""

    model_config = ConfigDict(frozen=True)

    rows: int
    reasons: dict[str, int] = Field(default_factory=dict, description="rows per '<column>: <reason>', at most 100")
    href: str = Field(description="where the rows can be read, with file, line, column, value and reason")


class Receipt(BaseModel):
    """What a completed load answers. rows_in == rows_written + quarantine.rows, always."""

    model_config = ConfigDict(frozen=True)

    load_id: UUID
    tenant: str
    table: str = Field(examples=["travel.flights"])
    mode: str = "append"
    dry_run: bool = False
    files: tuple[SourceFile, ...]
    rows_in: int
    rows_written: int
    quarantine: QuarantineSummary
    snapshot_id: int | None = Field(description="Iceberg snapshot; null when nothing was committed")
    catalog_version: int | None = Field(description="version of the dataset in the catalog after the commit")
    consistency_token: str | None = Field(description="give it to /v1/search to see this write")
    run_id: UUID = Field(description="OpenLineage run")
    trace_id: str
    request_id: str
    started_at: datetime
    completed_at: datetime
