"""The event log on Kafka: the outbox stays in PostgreSQL, a relay publishes it, groups consume from Kafka."""

from __future__ import annotations

from lakegate_chassis.eventlog.kafka.log import KafkaEventLog
from lakegate_chassis.eventlog.kafka.relay import Relay

__all__ = ["KafkaEventLog", "Relay"]
