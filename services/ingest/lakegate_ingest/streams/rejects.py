"""Records that are no rows, kept in the stream's dead-letter topic with the reason and their place."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from aiokafka import TopicPartition

from lakegate_chassis.eventlog.kafka.connections import Connections, translated
from lakegate_ingest.errors import BadCursor, Unacknowledged
from lakegate_ingest.metrics import STREAM_ROWS
from lakegate_ingest.streams.backlog import Batch
from lakegate_ingest.streams.producer import Record, StreamProducer
from lakegate_ingest.streams.reading import Reject
from lakegate_ingest.streams.schemas import RejectedRow
from lakegate_ingest.streams.topics import REJECTS

MOST_SHOWN_CHARS = 1000
READ_SECONDS = 5.0
# A record may be as large as brokers take: a page of many such ends early.
MOST_PAGE_BYTES = 16 << 20


async def set_aside(producer: StreamProducer, topic: str, batch: Batch, rejects: Sequence[Reject]) -> None:
    """Send them before their offsets are committed; after a crash some may be there twice, with the same place.

    Of one that has become too large for the brokers (they weigh it compressed, and this adds headers), the beginning is
    kept. Raises Unacknowledged, StreamTopicRefused.
    """
    most = producer.most_record_bytes
    records = [
        Record(
            key=f"{batch.partitions[reject.index]}:{batch.offsets[reject.index]}".encode(),
            value=(batch.values[reject.index] or b"")[:most],
            headers=_headers(topic, batch, reject, most),
        )
        for reject in rejects
    ]
    await producer.send(topic + REJECTS, records)
    STREAM_ROWS.labels("rejected").inc(len({reject.index for reject in rejects}))


def _headers(topic: str, batch: Batch, reject: Reject, most_bytes: int) -> list[tuple[str, bytes]]:
    size = len(batch.values[reject.index] or b"")
    fields = {
        "lakegate_topic": topic,
        "lakegate_partition": str(batch.partitions[reject.index]),
        "lakegate_offset": str(batch.offsets[reject.index]),
        "lakegate_reason": reject.reason[:MOST_SHOWN_CHARS],
        "lakegate_column": reject.column[:MOST_SHOWN_CHARS] if reject.column is not None else None,
        "lakegate_value": reject.value[:MOST_SHOWN_CHARS] if reject.value is not None else None,
        "lakegate_bytes": str(size) if size > most_bytes else None,
    }
    return [(name, text.encode("utf-8", "replace")) for name, text in fields.items() if text is not None]


async def read_rejects(
    connections: Connections, topic: str, cursor: str | None, limit: int
) -> tuple[list[RejectedRow], str | None]:
    """Up to `limit` of them, oldest first, and the cursor of those that follow. Raises Unacknowledged, BadCursor."""
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 20):
        raise BadCursor("The cursor is not one that this endpoint gave. Start without a cursor.")
    place = TopicPartition(topic + REJECTS, 0)
    found: list[RejectedRow] = []
    size = 0
    try:
        async with connections.reader() as consumer:
            consumer.assign([place])
            with translated():
                first = (await consumer.beginning_offsets([place]))[place]
                end = (await consumer.end_offsets([place]))[place]
                position = max(int(cursor or 0), first)
                consumer.seek(place, position)
                deadline = time.monotonic() + READ_SECONDS
                while position < end and len(found) < limit and size < MOST_PAGE_BYTES and time.monotonic() < deadline:
                    fetched = await consumer.getmany(timeout_ms=500, max_records=limit - len(found))
                    for record in fetched.get(place, []):
                        found.append(_rejected(record))
                        size += len(record.value or b"")
                        position = record.offset + 1
    except ConnectionError as error:
        raise Unacknowledged("The brokers can't be reached. Try again shortly.") from error
    return found, str(position) if position < end else None


def _rejected(record: Any) -> RejectedRow:
    fields = {name: value.decode("utf-8", "replace") for name, value in record.headers}
    raw = record.value or b""
    try:
        row, encoding = raw.decode(), "text"
    except UnicodeDecodeError:
        row, encoding = base64.b64encode(raw).decode(), "base64"
    return RejectedRow(
        partition=int(fields.get("lakegate_partition", -1)),
        offset=int(fields.get("lakegate_offset", -1)),
        column=fields.get("lakegate_column"),
        value=fields.get("lakegate_value"),
        reason=fields.get("lakegate_reason", ""),
        row=row,
        encoding="text" if encoding == "text" else "base64",
        cut_from_bytes=int(fields["lakegate_bytes"]) if "lakegate_bytes" in fields else None,
        rejected_at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
    )
