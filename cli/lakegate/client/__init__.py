"""The typed client of Lakegate's REST API, sync and async."""

from __future__ import annotations

from lakegate.client.async_client import AsyncClient
from lakegate.client.client import Client
from lakegate.client.errors import (
    BadSetting,
    BrokenAnswer,
    Conflict,
    LakegateError,
    LoadFailed,
    NotAllowed,
    NotFound,
    ProblemError,
    Refused,
    ServiceFailed,
    StillRunning,
    Unreachable,
)
from lakegate.client.models import (
    Dataset,
    DatasetVersion,
    Key,
    LineageGraph,
    Load,
    LoadEvent,
    NewKey,
    Overview,
    Page,
    PartProblem,
    Problem,
    Reject,
    RejectPage,
    SchemaDiff,
    SearchResults,
    Token,
)
from lakegate.client.retries import Retries

__all__ = [
    "AsyncClient",
    "BadSetting",
    "BrokenAnswer",
    "Client",
    "Conflict",
    "Dataset",
    "DatasetVersion",
    "Key",
    "LakegateError",
    "LineageGraph",
    "Load",
    "LoadEvent",
    "LoadFailed",
    "NewKey",
    "NotAllowed",
    "NotFound",
    "Overview",
    "Page",
    "PartProblem",
    "Problem",
    "ProblemError",
    "Refused",
    "Reject",
    "RejectPage",
    "Retries",
    "SchemaDiff",
    "SearchResults",
    "ServiceFailed",
    "StillRunning",
    "Token",
    "Unreachable",
]
