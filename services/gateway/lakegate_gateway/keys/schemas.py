"""API keys on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)


class KeyCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="what the key is for",
        examples=["nightly flights"],
    )
    scopes: list[str] = Field(
        min_length=1,
        max_length=64,
        description="each may end in a namespace pattern",
        examples=[["loads:write@travel.*", "datasets:read"]],
    )
    subject: str | None = Field(
        default=None,
        pattern=r"^[^\s\x00-\x1f]{1,200}$",
        description="as whom it acts in logs and lineage; the caller when left out",
    )
    expires_at: AwareDatetime | None = Field(default=None, description="never, when both are left out")
    expires_in_seconds: int | None = Field(default=None, ge=1, le=100 * 366 * 86_400, description="or as a duration")

    @field_validator("expires_at")
    @classmethod
    def _is_a_time_that_can_be_kept(cls, moment: datetime | None) -> datetime | None:
        if moment is None:
            return None
        if not EARLIEST < moment < LATEST:
            raise ValueError(f"lies before {EARLIEST.year} or after {LATEST.year}")
        return moment.astimezone(UTC)


class Key(BaseModel):
    id: UUID
    name: str
    subject: str
    prefix: str = Field(description="how the key begins", examples=["lgk_9fQx2LmA"])
    scopes: tuple[str, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="written with a delay of seconds")


class KeyCreated(Key):
    key: str = Field(description="the key itself, shown this once", examples=["lgk_9fQx2LmA…"])


class KeyPage(BaseModel):
    items: list[Key]
    next: str | None = Field(description="link to the next page")
