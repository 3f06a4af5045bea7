"""Rows to Kafka: idempotent, acks=all, bounded. What `send` returns is on the brokers' disks, or will be."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from lakegate_chassis.eventlog.kafka.connections import Connections
from lakegate_chassis.eventlog.kafka.incarnations import NoSuchTopic, topic_id
from lakegate_chassis.eventlog.kafka.topics import TopicRefused, Topics
from lakegate_chassis.logs import log
from lakegate_ingest.errors import StreamTopicGone, StreamTopicRefused, Unacknowledged
from lakegate_ingest.streams.rooms import Room
from lakegate_ingest.streams.topics import REJECTS

Headers = Sequence[tuple[str, bytes]]


class Record(NamedTuple):
    """What becomes one record."""

    value: bytes
    headers: Headers
    key: bytes | None = None


FIRST_PAUSE_SECONDS = 0.2
# After so long without an acknowledgement it is looked whether the topic is still there; and for so long a request
# waits for a producer.
DOUBT_SECONDS = 1.0
# What brokers say of one topic: the producer is as good as before for all others.
TOPIC_ERRORS = (
    UnknownTopicOrPartitionError, NotLeaderForPartitionError, LeaderNotAvailableError, TopicAuthorizationFailedError,
    InvalidTopicError, MessageSizeTooLargeError, RecordListTooLargeError,
)  # fmt: skip
# What is said again however often it is sent.
FINAL = (TopicAuthorizationFailedError, InvalidTopicError)


@dataclass(frozen=True)
class Placed:
    """Where rows are: the first of them at `offset` of `partition`, the others right behind it in their order."""

    partition: int
    offset: int
    rows: int


class StreamProducer:
    """One Kafka producer, made anew when it has failed for good. Run `keep` under Background."""

    def __init__(self, connections: Connections, *, ack_seconds: float) -> None:
        self._connections = connections
        self._topics = Topics(connections)
        self.most_record_bytes = connections.settings.max_event_bytes
        self._ack_seconds = ack_seconds
        self._making = asyncio.Lock()
        self._turns = itertools.count()
        self._producer: Any = None
        self._ready = asyncio.Event()
        self._failed = asyncio.Event()
        self._under_way: set[asyncio.Task[list[Placed]]] = set()

    async def keep(self) -> None:
        """Until cancelled: what is under way then gets its moment to arrive."""
        while True:
            self._failed.clear()
            async with self._connections.producer() as producer, self._connections.watched(producer):
                self._producer = producer
                self._ready.set()
                try:
                    await self._failed.wait()
                    log.warning("stream_producer_failed")
                finally:
                    self._ready.clear()
                    self._producer = None
                    if self._under_way:
                        await asyncio.wait(self._under_way, timeout=self._ack_seconds)
            await asyncio.sleep(FIRST_PAUSE_SECONDS)

    async def check(self) -> None:
        """For /readyz. Raises ConnectionError until brokers have been reached."""
        if not self._ready.is_set():
            raise ConnectionError("no broker has been reached")

    async def ensure(self, topic: str) -> None:
        """Make the stream's topic and that of its rejects, unless they are known to be there.

        Raises Unacknowledged, StreamTopicRefused.
        """
        names = _with_rejects(topic)
        if self._topics.known(names):
            return
        try:
            async with asyncio.timeout(self._ack_seconds), self._making:
                await self._topics.ensure(names)
        except TopicRefused as error:
            raise StreamTopicRefused(
                f"{error}. Nothing was taken, and sending it again changes nothing until the brokers' operator does."
            ) from error
        except (TimeoutError, ConnectionError) as error:
            raise _away() from error

    def doubt(self, topic: str) -> None:
        """Somebody may have deleted it: the next `ensure` asks."""
        self._topics.forget(_with_rejects(topic))

    async def partitions(self, topic: str) -> list[int]:
        """Raises StreamTopicGone, Unacknowledged."""
        if not self._ready.is_set():
            raise _away()
        try:
            async with asyncio.timeout(self._ack_seconds):
                return await self._partitions(self._producer, topic)
        except (TimeoutError, KafkaError) as error:
            raise _away() from error

    async def topic_id(self, topic: str) -> str | None:
        """What the name stands for now; None where the brokers give topics no ids.

        Raises StreamTopicGone, Unacknowledged.
        """
        try:
            async with asyncio.timeout(self._ack_seconds):
                await self._ready.wait()
                producer = self._producer
                return await topic_id(producer.client, topic, await self._partitions(producer, topic))
        except NoSuchTopic as error:
            raise self._gone(topic) from error
        except (TimeoutError, ConnectionError, KafkaError) as error:
            raise Unacknowledged(f"The brokers don't say what {topic} is: {error or type(error).__name__}.") from error

    async def _partitions(self, producer: Any, topic: str) -> list[int]:
        client = producer.client
        if client.cluster.partitions_for_topic(topic) is None:
            await client.add_topic(topic)
            heard = await client.force_metadata_update()
            if heard and client.cluster.partitions_for_topic(topic) is None:
                raise self._gone(topic)
        return sorted(await producer.partitions_for(topic))

    def _gone(self, topic: str) -> StreamTopicGone:
        self.doubt(topic)
        return StreamTopicGone(
            f"The topic {topic} was deleted, with all rows that had not been committed. A request with rows, or a PUT "
            "of the stream, makes it anew."
        )

    async def send(self, topic: str, records: Sequence[Record], room: Room | None = None) -> list[Placed]:
        """Raises Unacknowledged when the brokers are away, or have not confirmed in time; StreamTopicRefused.

        A topic that is not there, or was deleted, is made. What is not confirmed goes on in the background, and its
        bytes stay counted until it has ended.
        """
        await self._until_ready()
        await self.ensure(topic)
        await self._until_ready()
        task = asyncio.create_task(self._send(self._producer, topic, records))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        if room is not None:
            room.stay_for(task)
        try:
            async with asyncio.timeout(self._ack_seconds):
                while not (await asyncio.wait([task], timeout=DOUBT_SECONDS))[0]:
                    await self._remake(topic)
                return task.result()
        except TimeoutError as error:
            self.doubt(topic)
            raise Unacknowledged(
                f"The brokers have not confirmed the rows within {self._ack_seconds:g} s. They may still arrive: "
                "sending them again may double them."
            ) from error
        except FINAL as error:
            self.doubt(topic)
            raise refused(topic, error) from error
        except KafkaError as error:
            raise Unacknowledged(
                f"The brokers did not take the rows ({type(error).__name__}). Some may have arrived: sending them "
                "again may double those."
            ) from error

    def _ended(self, task: asyncio.Task[list[Placed]]) -> None:
        self._under_way.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, KafkaError) and not isinstance(error, TOPIC_ERRORS):
            self._failed.set()

    async def _until_ready(self) -> None:
        """A producer that starts, or is made anew, comes in a moment; with brokers that are away nobody waits long."""
        if self._ready.is_set():
            return
        try:
            async with asyncio.timeout(DOUBT_SECONDS):
                await self._ready.wait()
        except TimeoutError as error:
            raise _away() from error

    async def _remake(self, topic: str) -> None:
        """What waits for a topic that was deleted goes into the one that is made anew."""
        producer = self._producer
        if producer is not None and producer.client.cluster.partitions_for_topic(topic) is None:
            self.doubt(topic)
            await self.ensure(topic)

    async def _send(self, producer: Any, topic: str, records: Sequence[Record]) -> list[Placed]:
        """All records of a request in one partition, in order; requests take turns."""
        partitions = sorted(await producer.partitions_for(topic))
        return await send_records(producer, topic, partitions[next(self._turns) % len(partitions)], records)


async def send_records(producer: Any, topic: str, partition: int, records: Sequence[Record]) -> list[Placed]:
    """Until all are acknowledged. Raises KafkaError."""
    placed: list[Placed] = []
    acknowledged: list[tuple[int, asyncio.Future[Any]]] = []
    batch = producer.create_batch()
    for record in records:
        fields = {"key": record.key, "value": record.value, "headers": record.headers}
        if batch.append(timestamp=None, **fields) is None:
            sent = await producer.send_batch(batch, topic, partition=partition)
            acknowledged.append((batch.record_count(), sent))
            batch = producer.create_batch()
            batch.append(timestamp=None, **fields)  # the first of a batch is taken whatever its size
    acknowledged.append((batch.record_count(), await producer.send_batch(batch, topic, partition=partition)))
    for count, future in acknowledged:
        placed.append(Placed(partition, (await future).offset, count))
    return placed


def _with_rejects(topic: str) -> tuple[str, ...]:
    return (topic,) if topic.endswith(REJECTS) else (topic, topic + REJECTS)


def refused(topic: str, error: Exception) -> StreamTopicRefused:
    return StreamTopicRefused(
        f"The brokers won't have rows written to topic {topic} ({type(error).__name__}), and sending them again "
        "changes nothing until their operator does. If access was taken away this moment, some may have arrived."
    )


def _away() -> Unacknowledged:
    return Unacknowledged("The brokers can't be reached. Nothing was taken; try again shortly.")
