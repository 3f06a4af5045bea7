"""Events as Kafka records: CloudEvents 1.0 in binary mode (Kafka protocol binding, section 3.2)."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

import orjson
from aiokafka.partitioner import murmur2

from lakegate_chassis.eventlog.port import DeadLetter, Event

Headers = list[tuple[str, bytes]]


class Record(NamedTuple):
    key: bytes
    value: bytes
    headers: Headers
    timestamp_ms: int


class NotOurs(Exception):
    """The record is no CloudEvent of ours; `event` holds what can be said of it, for a dead letter."""

    def __init__(self, reason: str, event: Event) -> None:
        super().__init__(reason)
        self.event = event


def to_record(event: Event) -> Record:
    """The key holds the tenant too, or compaction would take one tenant's key for another's."""
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", str(event.id).encode()),
        ("ce_type", event.type.encode()),
        ("ce_source", event.source.encode()),
        ("ce_time", event.time.isoformat().encode()),
        ("ce_subject", event.key.encode()),
        ("ce_tenant", event.tenant.encode()),
        ("content-type", b"application/json"),
    ]
    if event.position is not None:
        headers.append(("ce_position", str(event.position).encode()))
    if event.traceparent:
        headers.append(("traceparent", event.traceparent.encode()))
    # A broker refuses times that are far ahead, and a producer's clock may be.
    time = min(event.time, datetime.now(UTC))
    return Record(
        f"{event.tenant}/{event.key}".encode(), orjson.dumps(event.data), headers, int(time.timestamp() * 1000)
    )


def to_event(record: Any, position: int) -> Event:
    """An event of a consumed record; `position` stands in for a record that has none. Raises NotOurs."""
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    try:
        return Event(
            id=UUID(headers["ce_id"]),
            topic=record.topic,
            type=headers["ce_type"],
            key=headers["ce_subject"],
            source=headers["ce_source"],
            tenant=headers["ce_tenant"],
            time=datetime.fromisoformat(headers["ce_time"]),
            data=orjson.loads(record.value),
            traceparent=headers.get("traceparent"),
            position=int(headers.get("ce_position", position)),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise NotOurs(
            f"not a CloudEvent of ours: {type(error).__name__}: {error}", _stranger(record, position)
        ) from error


def position_of(record: Any) -> int | None:
    """The position in the outbox that the relay wrote into a record."""
    for name, value in record.headers:
        if name == "ce_position" and value.isdigit():
            return int(value)
    return None


def dead_letter_record(letter: DeadLetter, partition: int, offset: int) -> Record:
    """The event as it was, with why, after how many attempts and whence."""
    record = to_record(letter.event)
    return record._replace(
        headers=[
            *record.headers,
            ("dlq_group", letter.group.encode()),
            ("dlq_reason", letter.reason.encode(errors="replace")),
            ("dlq_attempts", str(letter.attempts).encode()),
            ("dlq_failed_at", letter.failed_at.isoformat().encode()),
            ("dlq_topic", letter.event.topic.encode()),
            ("dlq_partition", str(partition).encode()),
            ("dlq_offset", str(offset).encode()),
        ]
    )


@lru_cache(maxsize=10_000)
def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's own default partitioner puts the key (positive murmur2), which costs Python 20 µs."""
    place: int = (murmur2(key) & 0x7FFFFFFF) % partitions
    return place


def _stranger(record: Any, position: int) -> Event:
    return Event(
        id=uuid5(NAMESPACE_URL, f"kafka:{record.topic}/{record.partition}/{record.offset}"),
        topic=record.topic,
        type="unknown",
        key=(record.key or b"").decode(errors="replace"),
        source="unknown",
        tenant="",
        time=datetime.fromtimestamp(record.timestamp / 1000, UTC),
        data={
            "headers": {name: value.decode(errors="replace") for name, value in record.headers},
            "value": (record.value or b"").decode(errors="replace"),
        },
        position=position,
    )
