"""Streams on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Offsets(BaseModel):
    """Where rows are in the stream's topic: `last - first + 1` of them, in the order in which they were sent."""

    model_config = ConfigDict(frozen=True)

    partition: int = Field(examples=[3])
    first: int = Field(examples=[1200])
    last: int = Field(examples=[1299])


class Accepted(BaseModel):
    """The rows are on the brokers, each once, and none of them will be lost; the table has them soon."""

    model_config = ConfigDict(frozen=True)

    table: str = Field(examples=["travel.flights"])
    topic: str = Field(examples=["lakegate.stream.default.travel.flights"])
    rows: int = Field(examples=[100])
    offsets: tuple[Offsets, ...]
    request_id: str
    trace_id: str


class StreamOptions(BaseModel):
    """`on_new_column`: what the worker does with a key that the table lacks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    on_new_column: Literal["evolve", "reject"] | None = Field(
        default=None, description="left out: as it is; evolve for a new stream"
    )
    accept_topic_id: str | None = Field(
        default=None,
        max_length=64,
        description="the id of the topic that was made anew: begin with its first record, whatever the table holds",
    )


class PartitionState(BaseModel):
    """`committed`: everything before it is in the table, or was set aside; null where nothing was committed yet."""

    partition: int
    committed: int | None
    end: int
    lag: int


class Stream(BaseModel):
    """A stream as it stands. `failure` is a problem (RFC 9457) that keeps the worker from committing it."""

    table: str = Field(examples=["travel.flights"])
    topic: str = Field(examples=["lakegate.stream.default.travel.flights"])
    rejects_topic: str = Field(examples=["lakegate.stream.default.travel.flights-dlq"])
    on_new_column: Literal["evolve", "reject"]
    subject: str = Field(description="in whose name the rows are committed: who sent to it last")
    failure: dict[str, Any] | None
    committed_at: datetime | None
    created_at: datetime


class StreamStatus(Stream):
    """With what Kafka and the table say of its partitions."""

    topic_id: str | None = Field(description="which topic the name stands for now, where the brokers give ids")
    partitions: tuple[PartitionState, ...]
    lag: int = Field(description="records that are not in the table yet")
    rejects: int = Field(description="records that were set aside, and are still kept")


class StreamPage(BaseModel):
    """Streams by topic; `next` is the path of the following page."""

    items: list[Stream]
    next: str | None


class AvroSchema(BaseModel):
    """An Avro schema (a record) of values that a direct producer sends."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: dict[str, Any] = Field(
        alias="schema",
        examples=[{"type": "record", "name": "Flight", "fields": [{"name": "id", "type": "long"}]}],
    )


class RegisteredSchema(BaseModel):
    """Each value begins with a zero byte and `schema_id` as four bytes, the highest first; then the Avro data."""

    schema_id: int = Field(examples=[7])
    topic: str


class RejectedRow(BaseModel):
    """A record that the worker set aside: where it was, why, and as it was sent (base64 where it is no text)."""

    partition: int
    offset: int
    column: str | None
    value: str | None
    reason: str
    row: str
    encoding: Literal["text", "base64"]
    cut_from_bytes: int | None = Field(
        default=None, description="the record's size, where `row` is only its beginning: all of it was too large"
    )
    rejected_at: datetime


class RejectedPage(BaseModel):
    """Oldest first; a record may be listed twice after a crash, with the same partition and offset."""

    items: list[RejectedRow]
    next: str | None
