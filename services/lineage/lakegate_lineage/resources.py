"""What the service holds open: the pool, the event writer and the background loops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import EventLog, Retention, open_event_log
from lakegate_chassis.eventlog.turn import Turn
from lakegate_chassis.postgres import close_pool, open_pool
from lakegate_lineage.events.consumers import run_event_consumer
from lakegate_lineage.events.retention import EventRetention
from lakegate_lineage.events.writer import EventWriter
from lakegate_lineage.settings import LineageSettings


@dataclass(frozen=True)
class Resources:
    pool: asyncpg.Pool
    writer: EventWriter
    background: Background
    event_log: EventLog


@asynccontextmanager
async def open_resources(settings: LineageSettings, turn: Turn) -> AsyncIterator[Resources]:
    """Open, and close in reverse order. `turn` says when to consume."""
    pool = await open_pool(settings.postgres, "lineage")
    background = Background()
    writer = EventWriter(pool, settings.events)
    background.start("event-writer", writer.run)
    event_log = open_event_log(pool, settings.kafka, background)
    background.start("run-events", turn.taking("run-events", run_event_consumer(event_log, pool).run))
    if settings.sweeps_in_process:
        background.start("event-retention", event_retention(settings, event_log).run)
        background.start("lineage-retention", lineage_retention(settings, pool).run)
    try:
        yield Resources(pool, writer, background, event_log)
    finally:
        await background.stop()
        await close_pool(pool)


def event_retention(settings: LineageSettings, event_log: EventLog) -> Retention:
    """One service prunes for all: every service's events are in the one log."""
    return Retention(event_log, keep=timedelta(days=settings.retention.event_log_days))


def lineage_retention(settings: LineageSettings, pool: asyncpg.Pool) -> EventRetention:
    keep = settings.retention
    return EventRetention(
        pool, keep_events=timedelta(days=keep.event_days), keep_handled=timedelta(days=keep.event_log_days)
    )
