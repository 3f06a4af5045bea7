"""Rows of a request in one Kafka transaction: all or none, and nothing of them after somebody else has asked.

A producer has a transactional id of its own. Who makes another with that id (`fence`) ends what the first has begun:
what it had not committed never counts, and what it still sends is refused by the brokers. After that it can be looked
up whether the rows are there (`find`). Consumers read what was committed only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from lakegate_chassis.eventlog.kafka.connections import Connections, end, translated
from lakegate_ingest.errors import StreamBusy, Unacknowledged
from lakegate_ingest.streams.producer import FINAL, Placed, Record, refused, send_records

REQUEST_HEADER = "lakegate_request"
# Clocks of ours are no further apart: calls between such services are refused.
CLOCKS_APART = timedelta(minutes=5)
FIND_SECONDS = 20.0


class Fenced(Exception):
    """Somebody has ended what this producer did before. Nothing was committed; another producer may send it."""


class Slot(NamedTuple):
    """A producer that nobody else uses now."""

    transactional_id: str
    producer: Any


class Transactions:
    """At most so many at once; producers are kept for the next request."""

    def __init__(self, connections: Connections, *, most: int, ack_seconds: float) -> None:
        self._connections = connections
        self._ack_seconds = ack_seconds
        self._places = asyncio.Semaphore(most)
        self._idle: list[Slot] = []
        self._turns = count()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """A producer, which is thrown away if this is left by an exception. Raises StreamBusy, Unacknowledged."""
        try:
            async with asyncio.timeout(self._ack_seconds):
                await self._places.acquire()
        except TimeoutError as error:
            raise StreamBusy(
                "Too many requests with an Idempotency-Key are under way. Nothing was taken; try again shortly.",
                retry_after=1,
            ) from error
        try:
            slot = self._idle.pop() if self._idle else await self._make(f"lakegate-stream-{uuid4().hex}")
            try:
                yield slot
            except BaseException:
                await end(slot.producer)
                raise
            self._idle.append(slot)
        finally:
            self._places.release()

    async def partition(self, slot: Slot, topic: str) -> int:
        """The next one in turn. Raises Unacknowledged, StreamTopicRefused."""
        try:
            async with asyncio.timeout(self._ack_seconds):
                partitions = sorted(await slot.producer.partitions_for(topic))
        except FINAL as error:
            raise refused(topic, error) from error
        except (TimeoutError, KafkaError) as error:
            raise _away(error) from error
        return int(partitions[next(self._turns) % len(partitions)])

    async def send(
        self, slot: Slot, topic: str, partition: int, records: Sequence[Record], request_id: UUID
    ) -> list[Placed]:
        """Raises Fenced, Unacknowledged, StreamTopicRefused; whether the rows are there is then to be found out."""
        mark = (REQUEST_HEADER, request_id.bytes)
        marked = [record._replace(headers=[*record.headers, mark]) for record in records]
        try:
            async with asyncio.timeout(self._ack_seconds):
                try:
                    await slot.producer.begin_transaction()
                    placed = await send_records(slot.producer, topic, partition, marked)
                except ProducerFenced as error:
                    raise Fenced from error
                await slot.producer.commit_transaction()
                return placed
        except FINAL as error:
            raise refused(topic, error) from error
        except (TimeoutError, KafkaError) as error:
            raise Unacknowledged(
                f"The brokers have not confirmed the rows ({type(error).__name__}). Send them again with the same "
                "Idempotency-Key: they are in the stream once then."
            ) from error

    async def fence(self, transactional_id: str) -> None:
        """End what a producer of that id has begun; it can do nothing more. Raises Unacknowledged."""
        slot = await self._make(transactional_id)
        try:
            async with asyncio.timeout(self._ack_seconds):
                # a transaction begins with an id of the producer, which the brokers give once the former one has ended
                await slot.producer.begin_transaction()
                await slot.producer.abort_transaction()
        except (TimeoutError, KafkaError) as error:
            raise _away(error) from error
        finally:
            await end(slot.producer)

    async def find(self, topic: str, partition: int, request_id: UUID, since: datetime) -> list[Placed]:
        """Where the rows of a request are, which was sent then or later; empty when they are not there.

        Raises Unacknowledged.
        """
        place = TopicPartition(topic, partition)
        placed: list[Placed] = []
        try:
            async with self._connections.reader() as consumer, asyncio.timeout(FIND_SECONDS):
                consumer.assign([place])
                with translated():
                    begin = int((since - CLOCKS_APART).timestamp() * 1000)
                    first = (await consumer.offsets_for_times({place: begin}))[place]
                    if first is None:
                        return []
                    consumer.seek(place, first.offset)
                    highest: int | None = None
                    while highest is None or await consumer.position(place) < highest:
                        fetched = await consumer.getmany(place, timeout_ms=200)
                        # also what is not decided yet, of others, and holds back what is behind it
                        highest = consumer.highwater(place) if highest is None else highest
                        for record in fetched.get(place, []):
                            if (REQUEST_HEADER, request_id.bytes) in record.headers:
                                _extend(placed, partition, record.offset)
        except (TimeoutError, ConnectionError) as error:
            raise _away(error) from error
        return placed

    async def close(self) -> None:
        for slot in self._idle:
            await end(slot.producer)
        self._idle.clear()

    async def _make(self, transactional_id: str) -> Slot:
        try:
            async with asyncio.timeout(self._ack_seconds):
                return Slot(transactional_id, await self._connections.transactional(transactional_id))
        except (TimeoutError, ConnectionError) as error:
            raise _away(error) from error


def _extend(placed: list[Placed], partition: int, offset: int) -> None:
    if placed and placed[-1].offset + placed[-1].rows == offset:
        placed[-1] = Placed(partition, placed[-1].offset, placed[-1].rows + 1)
    else:
        placed.append(Placed(partition, offset, 1))


def _away(error: Exception) -> Unacknowledged:
    return Unacknowledged(
        f"The brokers can't be reached ({type(error).__name__}). Send the rows again with the same Idempotency-Key."
    )
