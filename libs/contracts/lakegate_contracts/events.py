"""Events between services: frozen models, named in the past tense with a version. A changed shape is a new version."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from lakegate_contracts.receipts import Receipt

LOADS = "lakegate.loads"
LINEAGE = "lakegate.lineage"
DATASETS = "lakegate.datasets"
TOPICS = (LOADS, LINEAGE, DATASETS)


class EventData(BaseModel):
    """The data of an event; `event_type` and `topic` are its address."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_type: ClassVar[str]
    topic: ClassVar[str]


class LoadCompleted(EventData):
    event_type: ClassVar[str] = "load.completed.v1"
    topic: ClassVar[str] = LOADS

    receipt: Receipt


class LoadFailed(EventData):
    event_type: ClassVar[str] = "load.failed.v1"
    topic: ClassVar[str] = LOADS

    load_id: UUID
    table: str
    run_id: UUID
    problem: dict[str, Any]
    failed_at: datetime


class RunEventObserved(EventData):
    """An OpenLineage RunEvent that a service of ours produced; `event` is the 2-0-2 document."""

    event_type: ClassVar[str] = "openlineage.run_event.v1"
    topic: ClassVar[str] = LINEAGE

    event: dict[str, Any]


class DatasetChanged(EventData):
    """A change in the catalog: `kind` says which, `dataset` is the state after it (null when it is gone)."""

    event_type: ClassVar[str] = "dataset.changed.v1"
    topic: ClassVar[str] = DATASETS

    dataset_id: UUID
    version: int
    kind: str
    namespace: str
    name: str
    dataset: dict[str, Any] | None
    changed_at: datetime
