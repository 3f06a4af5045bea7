"""The newest rows of a stream as server-sent events, as they arrive and before they are in the table."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import msgspec
import orjson
from aiokafka import TopicPartition

from lakegate_chassis.eventlog.kafka.connections import Connections, translated
from lakegate_chassis.health import Health
from lakegate_chassis.postgres import tenant_transaction
from lakegate_ingest.errors import BadCursor, BadStreamSchema, Unacknowledged
from lakegate_ingest.metrics import STREAM_TAILS
from lakegate_ingest.places import Places
from lakegate_ingest.settings import StreamSettings
from lakegate_ingest.streams import queries
from lakegate_ingest.streams.avro import AvroReader, BadAvro, is_framed, split_frame
from lakegate_ingest.streams.producer import StreamProducer
from lakegate_ingest.streams.queries import StreamRow

AT_ONCE = 500
MOST_EVENT_ID_CHARS = 4096
_OTHER_TOPIC = "the topic was made anew since"
_EXPIRED = "Kafka no longer has the rows before"
_BEYOND = "the brokers have lost what was there"


@dataclass(frozen=True)
class LastEvent:
    """What an event's id says: each partition's next offset, and of which topic, where the brokers say."""

    positions: Mapping[int, int] = field(default_factory=dict)
    topic_id: str | None = None

    @classmethod
    def parse(cls, event_id: str | None) -> LastEvent:
        """Raises BadCursor."""
        if not event_id:
            return cls()
        text, _, topic_id = event_id.partition("@")
        pairs = [part.partition(":") for part in text.split(",")] if len(event_id) <= MOST_EVENT_ID_CHARS else []
        if not pairs or not all(_is_number(partition) and _is_number(offset) for partition, _, offset in pairs):
            raise BadCursor("The Last-Event-ID is not one that this stream gave. Connect without it.")
        return cls({int(partition): int(offset) for partition, _, offset in pairs}, topic_id or None)

    def __bytes__(self) -> bytes:
        """As `0:17,1:4@<topic id>`."""
        text = ",".join(f"{partition}:{offset}" for partition, offset in self.positions.items())
        return (f"{text}@{self.topic_id}" if self.topic_id else text).encode()

    def gap(self, partition: int, first: int, end: int, topic_id: str | None) -> str | None:
        """Why this partition can't go on where it was; None: it can."""
        if self.topic_id is not None and topic_id is not None and self.topic_id != topic_id:
            return _OTHER_TOPIC
        offset = self.positions.get(partition, first)
        return _EXPIRED if offset < first else _BEYOND if offset > end else None


class Tails:
    """Bounded in number; each has a consumer of its own, outside of groups."""

    def __init__(
        self, pool: asyncpg.Pool, connections: Connections, producer: StreamProducer, settings: StreamSettings
    ) -> None:
        self._pool = pool
        self._producer = producer
        self._connections = connections
        self._settings = settings
        self._places = Places(settings.max_tails, settings.max_tails_per_tenant, STREAM_TAILS, kind="tails")

    async def open(
        self, stream: StreamRow, health: Health, *, after: str | None, earliest: bool
    ) -> AsyncIterator[bytes]:
        """`after` is the id of the last event that the client has. Raises TooManyStreams, BadCursor, Unacknowledged."""
        known = LastEvent.parse(after)
        return await self._places.begun(stream.tenant, self._tail(stream, health, known, earliest))

    async def _tail(
        self, stream: StreamRow, health: Health, known: LastEvent, earliest: bool
    ) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.tail_seconds
        readers: dict[int, AvroReader | None] = {}
        try:
            async with self._connections.reader() as consumer:
                with translated():
                    partitions = await self._producer.partitions(stream.topic)
                    places = [TopicPartition(stream.topic, partition) for partition in partitions]
                    consumer.assign(places)
                    topic_id = await self._producer.topic_id(stream.topic)
                    first, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
                    positions: dict[int, int] = {}
                    gaps = []
                    for place in places:
                        begin = first[place] if earliest or known.positions else ends[place]
                        reason = known.gap(place.partition, first[place], ends[place], topic_id)
                        if reason is None:
                            begin = known.positions.get(place.partition, begin)
                        else:
                            gaps.append({"partition": place.partition, "offset": begin, "reason": reason})
                        positions[place.partition] = begin
                        consumer.seek(place, begin)
                    yield b": begins\n\n" + b"".join(_gaps(gaps))
                    spoken = loop.time()
                    while loop.time() < until and not health.draining.is_set():
                        fetched = await consumer.getmany(timeout_ms=500, max_records=AT_ONCE)
                        events = []
                        for place, records in fetched.items():
                            for record in records:
                                positions[place.partition] = record.offset + 1
                                event = await self._event(stream, record, readers)
                                events.append(b"id: %s\ndata: %s\n\n" % (bytes(LastEvent(positions, topic_id)), event))
                        if events:
                            spoken = loop.time()
                            yield b"".join(events)
                        elif loop.time() - spoken > self._settings.heartbeat_seconds:
                            spoken = loop.time()
                            yield b": still here\n\n"
            yield b"retry: 1000\n\n"  # the client connects again, to whoever is there then
        except ConnectionError as error:
            raise Unacknowledged("The brokers can't be reached. Try again shortly.") from error

    async def _event(self, stream: StreamRow, record: Any, readers: dict[int, AvroReader | None]) -> bytes:
        place = {"partition": record.partition, "offset": record.offset, "time_ms": record.timestamp}
        value = record.value or b""
        row: bytes | None = value
        if is_framed(value):
            schema_id, data = split_frame(value)
            if schema_id not in readers:
                readers[schema_id] = await self._reader(stream, schema_id)
            row = _decoded(readers[schema_id], data)
        try:
            (row or b"").decode()  # what is formatted is not checked
            return orjson.dumps(place | {"row": orjson.Fragment(msgspec.json.format(row or b"", indent=-1))})
        except (ValueError, RecursionError):
            return orjson.dumps(place | {"unreadable": base64.b64encode(value).decode()})

    async def _reader(self, stream: StreamRow, schema_id: int) -> AvroReader | None:
        if schema_id >= 2**31:
            return None
        async with tenant_transaction(self._pool, stream.tenant) as connection:
            schema = await queries.get_schema(connection, stream.topic, schema_id)
        try:
            return AvroReader(schema) if schema is not None else None
        except BadStreamSchema:
            return None


def _decoded(reader: AvroReader | None, data: bytes) -> bytes | None:
    try:
        return reader.json(data) if reader is not None else None
    except BadAvro:
        return None


def _gaps(gaps: list[dict[str, Any]]) -> Iterator[bytes]:
    """Where the tail goes on at another place than the client's; an event of its own kind, which is no row."""
    for gap in gaps:
        yield b"event: gap\ndata: %s\n\n" % orjson.dumps(gap)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
