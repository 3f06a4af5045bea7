"""Events between services: frozen models, named in the past tense with a version. A changed shape is a new version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from lakegate_contracts.receipts import Receipt

LOADS = "lakegate.loads"
LINEAGE = "lakegate.lineage"
DATASETS = "lakegate.datasets"
IDENTITY = "lakegate.identity"
# What follows is tenant and table. The records there are rows as their producers sent them, and no events of ours.
STREAM_PREFIX = "lakegate.stream."
STREAM_REJECTS = "-dlq"


@dataclass(frozen=True)
class Topic:
    """How a topic is made where topics have to be made. Its partitions are for ever: a key's place depends on them.

    `retention_days` None: the last event of each key stays for ever, and every event for a week (compaction).
    """

    name: str
    key: str
    partitions: int
    retention_days: int | None


TOPICS = {
    topic.name: topic
    for topic in (
        Topic(LOADS, key="the table", partitions=6, retention_days=7),
        Topic(LINEAGE, key="the table", partitions=6, retention_days=7),
        Topic(DATASETS, key="the dataset's id", partitions=6, retention_days=None),
        Topic(IDENTITY, key="the API key's id, or the subject", partitions=1, retention_days=7),
    )
}


class EventData(BaseModel):
    """The data of an event; `event_type` and `topic` are its address. `producer` and `consumers` are for the page."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_type: ClassVar[str]
    topic: ClassVar[str]
    producer: ClassVar[str]
    consumers: ClassVar[tuple[str, ...]] = ()


class LoadCompleted(EventData):
    """A load is whole: its rows are in the table, its receipt is final."""

    event_type: ClassVar[str] = "load.completed.v1"
    topic: ClassVar[str] = LOADS
    producer: ClassVar[str] = "ingest"

    receipt: Receipt


class LoadFailed(EventData):
    """A load has ended without writing a row; `problem` says why."""

    event_type: ClassVar[str] = "load.failed.v1"
    topic: ClassVar[str] = LOADS
    producer: ClassVar[str] = "ingest"

    load_id: UUID
    table: str
    run_id: UUID
    problem: dict[str, Any]
    failed_at: datetime


class RunEventObserved(EventData):
    """An OpenLineage RunEvent that a service of ours produced; `event` is the 2-0-2 document."""

    event_type: ClassVar[str] = "openlineage.run_event.v1"
    topic: ClassVar[str] = LINEAGE
    producer: ClassVar[str] = "ingest"
    consumers: ClassVar[tuple[str, ...]] = ("group `lineage`",)

    event: dict[str, Any]


class DatasetChanged(EventData):
    """A change in the catalog: `kind` says which, `dataset` is the state after it (null when it is gone)."""

    event_type: ClassVar[str] = "dataset.changed.v1"
    topic: ClassVar[str] = DATASETS
    producer: ClassVar[str] = "catalog"
    consumers: ClassVar[tuple[str, ...]] = ("every search replica, by position",)

    dataset_id: UUID
    version: int
    kind: str
    namespace: str
    name: str
    dataset: dict[str, Any] | None
    changed_at: datetime


class CredentialRevoked(EventData):
    """A credential of the event's tenant is void from now on: an API key, or all that a user or client holds."""

    event_type: ClassVar[str] = "credential.revoked.v1"
    topic: ClassVar[str] = IDENTITY
    producer: ClassVar[str] = "gateway"
    consumers: ClassVar[tuple[str, ...]] = ("every gateway replica, by position",)

    key_id: UUID | None = None
    subject: str | None = None
    revoked_at: datetime


EVENTS: tuple[type[EventData], ...] = (LoadCompleted, LoadFailed, RunEventObserved, DatasetChanged, CredentialRevoked)
