"""Events as rows of PostgreSQL. jsonb travels as text, so that any codec of the pool's is left alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from lakegate_chassis.eventlog.port import DeadLetter, Event

COLUMNS = "event_id, position, topic, type, key, source, tenant, time, traceparent, data::text AS data"

PUBLISH = """
    WITH written AS (
        INSERT INTO eventlog.events (event_id, topic, type, key, source, tenant, time, traceparent, data)
        SELECT event_id, topic, type, key, source, tenant, time, traceparent, data::jsonb
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                    $7::timestamptz[], $8::text[], $9::text[]) WITH ORDINALITY
             AS e(event_id, topic, type, key, source, tenant, time, traceparent, data, n)
        ORDER BY n
        ON CONFLICT (event_id) DO NOTHING
    )
    SELECT pg_notify('lakegate_events', '')
"""


def publish_arguments(events: tuple[Event, ...]) -> list[list[Any]]:
    return [
        [event.id for event in events],
        [event.topic for event in events],
        [event.type for event in events],
        [event.key for event in events],
        [event.source for event in events],
        [event.tenant for event in events],
        [event.time for event in events],
        [event.traceparent for event in events],
        [json_text(event.data) for event in events],
    ]


def json_text(data: dict[str, Any]) -> str:
    """JSON that jsonb takes."""
    text = orjson.dumps(data).decode()
    if "\\u0000" in text:
        # jsonb can't hold NUL, and one in a user's file must not make the write fail that reports it.
        text = orjson.dumps(_without_nul(data)).decode()
    return text


def _without_nul(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\0", "\ufffd")
        case dict():
            return {_without_nul(key): _without_nul(item) for key, item in value.items()}
        case list():
            return [_without_nul(item) for item in value]
    return value


def to_event(row: Mapping[str, Any]) -> Event:
    return Event(
        id=row["event_id"],
        topic=row["topic"],
        type=row["type"],
        key=row["key"],
        source=row["source"],
        tenant=row["tenant"],
        time=row["time"],
        data=orjson.loads(row["data"]),
        traceparent=row["traceparent"],
        position=row["position"],
    )


def to_dead_letter(row: Mapping[str, Any]) -> DeadLetter:
    return DeadLetter(
        id=row["id"],
        group=row["group_name"],
        event=to_event(row),
        reason=row["reason"],
        attempts=row["attempts"],
        failed_at=row["failed_at"],
        replay_requested_at=row["replay_requested_at"],
    )
