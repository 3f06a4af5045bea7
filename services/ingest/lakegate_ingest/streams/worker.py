"""The worker: reads its share of all streams, and has one committer for each stream that it has a share of.

Shares are Kafka's: a consumer group, one member a process. They only spread the work. That no row is lost or doubled
hangs on the offsets in the tables (see `commits`); so a member that was thrown out may go on until it notices.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from typing import Any

import asyncpg
from aiokafka import ConsumerRebalanceListener, TopicPartition

from lakegate_chassis.eventlog.kafka.connections import Connections, end, translated
from lakegate_chassis.logs import log
from lakegate_chassis.postgres import connection as acquire
from lakegate_contracts.names import TableName
from lakegate_ingest.settings import StreamSettings
from lakegate_ingest.streams import queries
from lakegate_ingest.streams.backlog import Backlog
from lakegate_ingest.streams.gauges import Gauges
from lakegate_ingest.streams.pump import Pump

_POLL_MS = 250
_AT_ONCE = 20_000
# What is being committed when partitions are taken away gets so long to end.
_REVOKE_SECONDS = 4.0
_IDLE_SECONDS = 0.2
# A loop that fails is started again after 30 s at most; one that does not get round for so long hangs.
_SILENT_SECONDS = 60.0
# Each look that finds another stream has the whole group share anew, in which nobody reads. So new ones are gathered
# for so many times as long as the last sharing took, whoever it was for: a fifth of the time at most goes into it.
# After so many looks nobody waits any longer.
_REST_TIMES = 4
_MOST_LOOKS = 8


class StreamWorker(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Run it under Background. Only this loop moves the consumer; committers say what they need."""

    def __init__(
        self,
        *,
        pool: asyncpg.Pool,
        connections: Connections,
        pump: Pump,
        gauges: Gauges,
        settings: StreamSettings,
    ) -> None:
        self._pool = pool
        self._connections = connections
        self._pump = pump
        self._gauges = gauges
        self._settings = settings
        self._streams: dict[str, tuple[str, TableName]] = {}
        self._consumer: Any = None
        self._backlogs: dict[str, Backlog] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._waiting: set[str] = set()
        self._turned: float | None = None
        self._joined = False
        self._sharing_since: float | None = None
        self._rested_at = float("-inf")

    async def check(self) -> None:
        """For /readyz. Raises ConnectionError where the loop does not get round although it is to run."""
        if self._turned is not None and time.monotonic() - self._turned > _SILENT_SECONDS:
            raise ConnectionError("streams have not been read for a minute")

    async def run(self) -> None:
        """Until cancelled; what is being committed then gets its moment to end."""
        consumer = self._consumer = self._connections.member(self._settings.group)
        self._streams = {}  # a new consumer has subscribed to nothing
        self._joined, self._sharing_since, self._rested_at = False, None, float("-inf")
        if self._turned is None:
            self._turned = time.monotonic()
        try:
            with translated():
                async with self._connections.watched(consumer):
                    await consumer.start()
                    await self._read(consumer)
        except asyncio.CancelledError:
            self._turned = None
            raise
        finally:
            await self._drop(self._backlogs.keys())
            await end(consumer)

    async def _read(self, consumer: Any) -> None:
        looked = float("-inf")
        while True:
            self._turned = time.monotonic()
            if time.monotonic() - looked > self._settings.discover_seconds:
                await self._discover()
                looked = time.monotonic()
            if not self._streams:
                await asyncio.sleep(_IDLE_SECONDS)
                continue
            self._raise_failures()
            self._steer()
            fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_AT_ONCE)
            for place, records in fetched.items():
                backlog = self._backlogs.get(place.topic)
                if backlog is not None and place in consumer.assignment():
                    # behind a transaction is its mark: no record, but an offset
                    backlog.add(place.partition, records, await consumer.position(place))

    async def _discover(self) -> None:
        async with acquire(self._pool) as connection:
            found = await queries.topics(connection)
        if found.keys() != self._streams.keys():
            if self._sharing_since is not None or time.monotonic() < self._rested_at:
                return
            log.info("streams_found", streams=len(found))
            self._consumer.subscribe(topics=sorted(found), listener=self)
        self._streams = found

    def _steer(self) -> None:
        """Go where committers have found their place, and wait for those who have enough."""
        held = sum(backlog.size_bytes for backlog in self._backlogs.values())
        assigned = self._consumer.assignment()
        for topic, backlog in self._backlogs.items():
            places = [place for place in assigned if place.topic == topic]
            if backlog.seek is not None and places:
                for place in places:
                    if place.partition in backlog.seek:
                        self._consumer.seek(place, backlog.seek[place.partition])
                backlog.seek = None
            full = not backlog.placed or len(backlog.current) >= self._settings.commit_rows
            full = full or backlog.current.size_bytes >= self._settings.commit_bytes
            full = full or (held >= self._settings.held_bytes and len(backlog.current) > 0)
            if full:
                # enough to commit, whatever its age: memory is what others wait for
                backlog.urgent = backlog.placed
                backlog.changed.set()
            if not places:
                continue  # in the middle of a rebalance
            if full and topic not in self._waiting:
                self._waiting.add(topic)
                self._consumer.pause(*places)
            elif not full and topic in self._waiting:
                self._waiting.discard(topic)
                self._consumer.resume(*places)
        self._gauges.measure(self._backlogs.values(), self._consumer)

    def _raise_failures(self) -> None:
        """A committer waits out what may pass; whatever else it dies of is this loop's failure, for the supervisor."""
        for task in self._tasks.values():
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    # the group's side

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """All of them, as the group has no cooperative strategy. Most come back in a moment: nothing is let go yet."""
        self._sharing_since = time.monotonic()
        for backlog in self._backlogs.values():
            backlog.resume()
        self._waiting.clear()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._rest()
        shares: dict[str, set[int]] = {}
        for place in assigned:
            shares.setdefault(place.topic, set()).add(place.partition)
        log.info("streams_assigned", streams=len(shares), partitions=sum(map(len, shares.values())))
        kept = {topic for topic, backlog in self._backlogs.items() if set(backlog.partitions) == shares.get(topic)}
        # all at once, before others get their moment to end: what is not held back is read from the group's offsets
        for topic, partitions in shares.items():
            self._consumer.pause(*(TopicPartition(topic, partition) for partition in partitions))
            if topic in kept:
                self._waiting.add(topic)
                self._backlogs[topic].resume()
        await self._drop(self._backlogs.keys() - kept)
        for topic, partitions in shares.items():
            if topic in kept or topic not in self._streams:
                continue
            self._waiting.add(topic)
            tenant, table = self._streams[topic]
            backlog = self._backlogs[topic] = Backlog(topic, frozenset(partitions))
            work = self._pump.run(tenant, table, backlog, self._consumer)
            self._tasks[topic] = asyncio.create_task(work, name=f"stream {topic}")

    def _rest(self) -> None:
        """Before the next look that has the group share anew; a first join has kept nobody from reading for long."""
        now = time.monotonic()
        took = now - self._sharing_since if self._joined and self._sharing_since is not None else 0.0
        self._joined, self._sharing_since = True, None
        self._rested_at = now + min(_REST_TIMES * took, _MOST_LOOKS * self._settings.discover_seconds)

    async def _drop(self, topics: Collection[str]) -> None:
        """End their committers; one that is in the middle of a commit may finish it."""
        gone = list(topics)
        tasks = [self._tasks.pop(topic) for topic in gone]
        backlogs = [self._backlogs.pop(topic) for topic in gone]
        self._waiting.difference_update(gone)
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_REVOKE_SECONDS)
            for task in late:
                log.warning("stream_commit_left_behind", task=task.get_name())
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.exception()  # told of by itself
        self._gauges.forget(backlogs)
