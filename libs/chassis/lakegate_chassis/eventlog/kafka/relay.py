"""Publishes the outbox to Kafka, in order, by whichever process holds the lease.

The relay is a group of the log in PostgreSQL: its lease and its progress are the ones every group has there.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from aiokafka.errors import MessageSizeTooLargeError
from opentelemetry.trace import Span

from lakegate_chassis import tracing
from lakegate_chassis.eventlog import metrics
from lakegate_chassis.eventlog.kafka.connections import Connections, translated
from lakegate_chassis.eventlog.kafka.records import Record, partition_of, size_of, to_record
from lakegate_chassis.eventlog.kafka.topics import Topics
from lakegate_chassis.eventlog.port import Event, Membership
from lakegate_chassis.eventlog.postgres import PostgresEventLog
from lakegate_chassis.logs import log

GROUP = "kafka-relay"
PAGE = 2_000
_POLL_SECONDS = 5.0
# What comes within this time travels together: a turn for every event would cost each write more than its own row.
_GATHER_SECONDS = 0.05
_DRAIN_SECONDS = 3.0
_REPLAYS_AT_ONCE = 20

Place = tuple[str, int]
_ATTRIBUTES = {"messaging.system": "kafka", "messaging.operation.type": "send"}
_TOPIC = "messaging.destination.name"


class Relay:
    """Run it under Background in every process that has the outbox: one is active.

    A page is read, sent and acknowledged before its progress is stored, so a crash repeats a page at most. Of each
    partition one batch is under way at a time: a batch that fails is followed by none, so the order of keys holds.
    While the broker is away or hangs, the idempotent producer repeats the batch and nothing else happens.
    """

    def __init__(self, outbox: PostgresEventLog, connections: Connections) -> None:
        self._outbox = outbox
        self._connections = connections
        self._topics = Topics(connections)

    async def run(self) -> None:
        """Until cancelled; what is under way then gets a moment to arrive."""
        async with (
            self._outbox.join(GROUP, []) as member,
            self._connections.producer() as producer,
            self._connections.watched(producer),
        ):
            log.info("relay_active")
            while True:
                await self._replay_requested(member, producer)
                batch = await member.next(PAGE, _POLL_SECONDS)
                metrics.RELAY_LAG.set(max(batch.head - batch.through, 0) + len(batch.events))
                if not batch.events:
                    continue
                page = asyncio.create_task(self._send(producer, batch.events))
                try:
                    await asyncio.shield(page)
                except asyncio.CancelledError:
                    if await _arrives(page):
                        await member.commit(batch.through)
                    raise
                await member.commit(batch.through)
                metrics.RELAYED.inc(len(batch.events))
                metrics.RELAY_LAG.set(max(batch.head - batch.through, 0))
                if len(batch.events) < PAGE and batch.through == batch.head:
                    await asyncio.sleep(_GATHER_SECONDS)

    async def _send(self, producer: Any, events: list[Event]) -> None:
        topics = {event.topic for event in events}
        try:
            await self._topics.ensure(topics)
            await self._send_acknowledged(producer, events)
        except ConnectionError:
            self._topics.forget(topics)
            raise

    async def _send_acknowledged(self, producer: Any, events: list[Event]) -> None:
        places: dict[Place, list[Record]] = defaultdict(list)
        partitions: dict[str, int] = {}
        spans: list[Span] = []
        with translated(), _ended(spans):
            for event in events:
                if event.topic not in partitions:
                    partitions[event.topic] = len(await producer.partitions_for(event.topic))
                record = to_record(event)
                if (reason := self._too_large(record)) is not None:
                    await self._refuse(event, reason)
                    continue
                sending = tracing.send_span(
                    event.traceparent, f"send {event.type}", _ATTRIBUTES | {_TOPIC: event.topic}
                )
                if sending is not None:
                    spans.append(sending)
                    record = to_record(replace(event, traceparent=tracing.traceparent_of(sending)))
                places[event.topic, partition_of(record.key, partitions[event.topic])].append(record)
            sent = await asyncio.gather(
                *(_send_in_order(producer, place, records) for place, records in places.items()),
                return_exceptions=True,
            )
            failures = [failure for failure in sent if isinstance(failure, BaseException)]
            if failures:
                raise failures[0]

    async def _replay_requested(self, member: Membership, producer: Any) -> None:
        """Events that were too large are sent once `max_event_bytes` has been raised; others stay dead letters."""
        while letters := await member.requested_replays(_REPLAYS_AT_ONCE):
            for letter in letters:
                reason = self._too_large(to_record(letter.event))
                if reason is None:
                    try:
                        await self._send(producer, [letter.event])
                    except ConnectionError as error:
                        if isinstance(error.__cause__, MessageSizeTooLargeError):
                            # this producer is out of step with the partition now, so its run still ends
                            await member.settle_replay(letter, "larger than its topic's max.message.bytes")
                        raise
                await member.settle_replay(letter, reason)
                log.info("dead_letter_replayed", group=GROUP, event_id=str(letter.event.id), handled=reason is None)

    def _too_large(self, record: Record) -> str | None:
        limit = self._connections.settings.max_event_bytes
        return f"larger than {limit} bytes, the most that a record may have" if size_of(record) > limit else None

    async def _refuse(self, event: Event, reason: str) -> None:
        """It would stop the relay for ever, so it becomes a dead letter of the relay's."""
        log.error("event_not_relayed", event_id=str(event.id), type=event.type, reason=reason)
        await self._outbox.bury(GROUP, event, reason)


@contextmanager
def _ended(spans: list[Span]) -> Iterator[None]:
    """A send lasts until the broker has acknowledged the page it is of."""
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:
        failure = error
        raise
    finally:
        for span in spans:
            tracing.end_send(span, failure)


async def _send_in_order(producer: Any, place: Place, records: list[Record]) -> None:
    topic, partition = place
    batch = producer.create_batch()
    for record in records:
        arguments = {"key": record.key, "value": record.value, "headers": record.headers}
        if batch.append(timestamp=record.timestamp_ms, **arguments) is None:
            await (await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(timestamp=record.timestamp_ms, **arguments)
    await (await producer.send_batch(batch, topic, partition=partition))


async def _arrives(page: asyncio.Task[None]) -> bool:
    await asyncio.wait([page], timeout=_DRAIN_SECONDS)
    if not page.done():
        page.cancel()
        return False
    return not page.cancelled() and page.exception() is None
