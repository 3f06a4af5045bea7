"""The newest rows of a stream as server-sent events, as they arrive and before they are in the table."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
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
        known = _positions(after)
        return await self._places.begun(stream.tenant, self._tail(stream, health, known, earliest))

    async def _tail(
        self, stream: StreamRow, health: Health, known: dict[int, int], earliest: bool
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
                    starts = await (consumer.beginning_offsets(places) if earliest else consumer.end_offsets(places))
                    positions = {place.partition: known.get(place.partition, starts[place]) for place in places}
                    for place in places:
                        consumer.seek(place, positions[place.partition])
                    yield b": begins\n\n"
                    spoken = loop.time()
                    while loop.time() < until and not health.draining.is_set():
                        fetched = await consumer.getmany(timeout_ms=500, max_records=AT_ONCE)
                        events = []
                        for place, records in fetched.items():
                            for record in records:
                                positions[place.partition] = record.offset + 1
                                event = await self._event(stream, record, readers)
                                events.append(b"id: %s\ndata: %s\n\n" % (_event_id(positions), event))
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


def _event_id(positions: dict[int, int]) -> bytes:
    """Where to go on: every partition with its next offset, as `0:17,1:4`."""
    return ",".join(f"{partition}:{offset}" for partition, offset in positions.items()).encode()


def _positions(event_id: str | None) -> dict[int, int]:
    if not event_id:
        return {}
    pairs = [part.partition(":") for part in event_id.split(",")] if len(event_id) <= MOST_EVENT_ID_CHARS else []
    if not pairs or not all(_is_number(partition) and _is_number(offset) for partition, _, offset in pairs):
        raise BadCursor("The Last-Event-ID is not one that this stream gave. Connect without it.")
    return {int(partition): int(offset) for partition, _, offset in pairs}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
