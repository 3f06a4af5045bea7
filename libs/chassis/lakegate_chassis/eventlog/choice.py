"""Which adapter of the event log a service runs on: its settings say."""

from __future__ import annotations

import asyncpg

from lakegate_chassis.background import Background
from lakegate_chassis.eventlog.port import EventLog
from lakegate_chassis.eventlog.postgres import PostgresEventLog
from lakegate_chassis.settings import KafkaSettings


def open_event_log(pool: asyncpg.Pool, settings: KafkaSettings, background: Background) -> EventLog:
    """With Kafka a relay runs under `background`, too; every service has one, and one of them is active."""
    if settings.bootstrap is None:
        return PostgresEventLog(pool)
    # a suite without Kafka need not pay for the import of its client
    from lakegate_chassis.eventlog.kafka import KafkaEventLog

    event_log = KafkaEventLog(pool, settings)
    background.start("kafka-relay", event_log.relay.run)
    return event_log
