"""Events as Kafka records: CloudEvents 1.0 in binary mode (Kafka protocol binding, section 3.2)."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

import orjson
from aiokafka.partitioner import murmur2
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from lakegate_chassis.eventlog.port import NO_TENANT, STRANGER, DeadLetter, Event

Headers = list[tuple[str, bytes | None]]
_REASON_CHARACTERS = 2_000
# below 2**63, which is what a column and a commit can hold
_POSITION_DIGITS = 18
# of a record that is no event of ours, a row shows so many bytes of each part; <topic>.dlq has it whole
_SHOWN = 4 * 1024
_SHOWN_HEADERS = 32


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
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


def to_event(record: Any, position: int, limit: int) -> Event:
    """An event of a consumed record of `limit` bytes at most; `position` stands in for a record that has none.

    Anybody who may write to the topic may write anything: whatever the bytes are, this raises NotOurs and nothing else.
    """
    try:
        if len(record.value or b"") > limit:
            raise ValueError(f"a value of {len(record.value):,} bytes; the most that an event may have is {limit:,}")
        # the last of two headers of one name, as clients in other languages read them
        headers: dict[str, bytes] = {name: value for name, value in record.headers if value is not None}
        return Event(
            id=UUID(headers["ce_id"].decode()),
            topic=record.topic,
            type=headers["ce_type"].decode(),
            key=headers["ce_subject"].decode(),
            source=headers["ce_source"].decode(),
            tenant=headers["ce_tenant"].decode(),
            time=_time(headers["ce_time"].decode()),
            data=_document(record.value),
            traceparent=headers["traceparent"].decode() if "traceparent" in headers else None,
            position=_position(headers["ce_position"].decode()) if "ce_position" in headers else position,
        )
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        reason = f"not a CloudEvent of ours: {type(error).__name__}: {error}"[:_REASON_CHARACTERS]
        raise NotOurs(reason, stranger(record, position)) from error


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"ce_time {text} has no offset (RFC 3339)")
    return time.astimezone(UTC)


def _document(value: bytes | None) -> dict[str, Any]:
    document = orjson.loads(value or b"")
    if not isinstance(document, dict):
        raise ValueError("the value is no JSON object")
    return document


def _position(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _POSITION_DIGITS):
        raise ValueError(f"ce_position {text[:40]} is no position")
    return int(text)


def position_of(record: Any) -> int | None:
    """The position in the outbox that the relay wrote into a record."""
    for name, value in record.headers:
        if name == "ce_position" and value and value.isdigit() and len(value) <= _POSITION_DIGITS:
            return int(value)
    return None


def dead_letter_record(record: Any, letter: DeadLetter, *, whole: bool) -> Record:
    """The record as it was, with why, after how many attempts and whence; without `whole`, only what tells which."""
    kept: Headers = list(record.headers) if whole else []
    if not whole:
        kept.append(("dlq_left_out", f"{size_of(record)} bytes of key, headers and value".encode()))
        kept.append(("dlq_sha256", _digest(record).encode()))
    return Record(
        record.key if whole else f"{record.partition}:{record.offset}".encode(),
        record.value if whole else b"",
        [
            *kept,
            ("dlq_group", letter.group.encode()),
            ("dlq_reason", letter.reason.encode(errors="replace")),
            ("dlq_attempts", str(letter.attempts).encode()),
            ("dlq_failed_at", letter.failed_at.isoformat().encode()),
            ("dlq_topic", record.topic.encode()),
            ("dlq_partition", str(record.partition).encode()),
            ("dlq_offset", str(record.offset).encode()),
        ],
        # kept for so long since it failed, whatever time the record says it is from
        int(letter.failed_at.timestamp() * 1000),
    )


@lru_cache(maxsize=10_000)
def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's own default partitioner puts the key (positive murmur2), which costs Python 20 µs."""
    place: int = (murmur2(key) & 0x7FFFFFFF) % partitions
    return place


def stranger(record: Any, position: int) -> Event:
    """What a row can say of any record at all: which it is, a digest, and how its headers and value begin."""
    value = record.value or b""
    headers = {name[:_SHOWN]: _text(content) for name, content in record.headers[:_SHOWN_HEADERS]}
    milliseconds = min(max(record.timestamp, 0), int(datetime.now(UTC).timestamp() * 1000))
    return Event(
        id=uuid5(NAMESPACE_URL, f"kafka:{record.topic}/{record.partition}/{record.offset}"),
        topic=record.topic,
        type=STRANGER,
        key=_text(record.key),
        source="unknown",
        tenant=NO_TENANT,
        time=datetime.fromtimestamp(milliseconds / 1000, UTC),
        data={
            "partition": record.partition,
            "offset": record.offset,
            "headers": headers,
            "value": _text(value),
            "value_bytes": len(value),
            "sha256": _digest(record),
        },
        position=position,
    )


def _text(content: bytes | None) -> str:
    return (content or b"")[:_SHOWN].decode(errors="replace")


def _digest(record: Any) -> str:
    """Of the value, as `sha256sum` has it of a consumer's output."""
    return sha256(record.value or b"").hexdigest()


def size_of(record: Any) -> int:
    """What a producer holds against the largest record: all of it, with its framing."""
    size: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(record.key, record.value, list(record.headers))
    return size
