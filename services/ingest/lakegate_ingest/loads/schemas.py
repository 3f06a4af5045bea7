"""Loads on the wire and in the database's JSON columns."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from lakegate_contracts.receipts import LoadState, Receipt


class LoadOptions(BaseModel):
    """How a load was asked for; part of what an Idempotency-Key stands for."""

    model_config = ConfigDict(frozen=True)

    mode: Literal["append"] = "append"
    format: str | None = None
    on_new_column: Literal["evolve", "reject"] = "evolve"
    dry_run: bool = False
    null_values: tuple[str, ...] = ("",)
    delimiter: str | None = None
    header: bool = True
    # the upload whose file is the body; left out where there is none, so that fingerprints stay what they were
    source: UUID | None = Field(default=None, exclude_if=lambda source: source is None)


class StoredFile(BaseModel):
    """A received file; `spool_name` is its name within the load's spool folder, `object_key` its copy in the store."""

    model_config = ConfigDict(frozen=True)

    name: str
    spool_name: str
    format: str
    content_type: str
    sha256: str
    sent_bytes: int
    size_bytes: int
    records: int | None
    object_key: str | None = None
    malformed: bool = False  # RecordCounter found what readers may disagree on


class IntentFile(BaseModel):
    """A file the load has written: where it lies in the spool folder, and where it goes."""

    model_config = ConfigDict(frozen=True)

    spool_name: str
    url: str
    rows: int


class Intent(BaseModel):
    """Stored before anything leaves the spool: with it a killed load is settled, exactly once, or cleaned up.

    `staged` is the metadata of the table that this load creates; null when the table was there. `table_uuid` finds the
    table when it is renamed meanwhile.
    """

    model_config = ConfigDict(frozen=True)

    snapshot_id: int | None
    attempt: int
    data: tuple[IntentFile, ...]
    quarantine: tuple[IntentFile, ...]
    iceberg_schema: dict[str, Any] | None
    staged: dict[str, Any] | None
    location: str | None
    table_uuid: UUID | None = None
    rows_in: int
    rows_written: int
    rows_quarantined: int
    reasons: dict[str, int]


class Progress(BaseModel):
    """How far a load has got; rows and bytes restart at 0 when it is read a second time, row by row."""

    bytes_received: int = 0
    bytes_read: int = 0
    bytes_total: int | None = None
    rows: int = 0


class Load(BaseModel):
    """A load as it stands. `receipt` is there when it completed, `problem` (RFC 9457) when it failed."""

    load_id: UUID
    table: str = Field(examples=["travel.flights"])
    state: LoadState
    dry_run: bool
    progress: Progress
    receipt: Receipt | None = None
    problem: dict[str, Any] | None = None
    subject: str
    run_id: UUID
    request_id: str
    trace_id: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class LoadPage(BaseModel):
    """Loads, newest first; `next` is the path of the following page."""

    items: list[Load]
    next: str | None


class Reject(BaseModel):
    """One reason why a row was set aside. `line` is the physical line where the record begins, from 1."""

    row_id: int
    file: str
    line: int | None
    column: str | None
    value: str | None
    reason: str
    row: str | None


class RejectPage(BaseModel):
    """Rejected rows in the order of the files; `next` is the path of the following page."""

    items: list[Reject]
    next: str | None
    headers: dict[str, str] = Field(
        default_factory=dict, description="by file: the header that its `row`s stand under, where it has one"
    )
