"""The event log: what services tell each other, in the transaction of the write, read in commit order."""

from __future__ import annotations

from lakegate_chassis.eventlog.choice import open_event_log
from lakegate_chassis.eventlog.consumer import Consumer, PermanentFailure, RetryPolicy
from lakegate_chassis.eventlog.port import (
    NO_TENANT,
    BeyondHead,
    DeadLetter,
    Event,
    EventLog,
    GroupInUse,
    GroupState,
    make_event,
)
from lakegate_chassis.eventlog.postgres import PostgresEventLog
from lakegate_chassis.eventlog.retention import Retention

__all__ = [
    "NO_TENANT",
    "BeyondHead",
    "Consumer",
    "DeadLetter",
    "Event",
    "EventLog",
    "GroupInUse",
    "GroupState",
    "PermanentFailure",
    "PostgresEventLog",
    "Retention",
    "RetryPolicy",
    "make_event",
    "open_event_log",
]
