"""A member of a group on Kafka: some partitions are its own, until the group shares them out anew."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.structs import TopicPartition

from lakegate_chassis.eventlog.kafka.connections import END_SECONDS, Connections, end, translated
from lakegate_chassis.eventlog.kafka.groups import Groups
from lakegate_chassis.eventlog.kafka.positions import offsets_after
from lakegate_chassis.eventlog.kafka.progress import Progress, from_committed
from lakegate_chassis.eventlog.kafka.records import NotOurs, Record, dead_letter_record, position_of, stranger, to_event
from lakegate_chassis.eventlog.kafka.topics import DEAD_LETTERS, Topics
from lakegate_chassis.eventlog.letters import REFUSED
from lakegate_chassis.eventlog.port import Batch, DeadLetter, Event, Rewound
from lakegate_chassis.logs import log

# How long the others wait for the event that we have in hand when partitions are shared out anew.
GIVE_UP_SECONDS = 5.0
# How often the group's row is read: a rewind or a replay is noticed that late.
_CONTROL_SECONDS = 1.0
# A batch is bounded in bytes too.
_BATCH_BYTES = 8 << 20


@dataclass
class _Hand:
    """The batch that was handed out: the records of its events by position, of one partition."""

    partition: TopicPartition
    records: dict[int, Any]
    done: int | None = None


class KafkaMembership(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is not typed
    """Batches are of one partition each. Commits are of the batch in hand: after its effects, and on revoke."""

    def __init__(self, connections: Connections, groups: Groups, topics: Topics, group: str, names: list[str]) -> None:
        self._connections = connections
        self._groups = groups
        self._topics = topics
        self._group = group
        self._names = sorted(names)
        self._consumer = connections.member(group)
        self._ends = AsyncExitStack()
        self._producer: Any = None
        self._progress: dict[TopicPartition, Progress] = {}
        self._fetched: dict[TopicPartition, deque[Any]] = {}
        self._assigned: set[TopicPartition] = set()
        self._hand: _Hand | None = None
        self._giving_up = False
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self._open = False
        # a commit was refused: what we know of our partitions may be wrong, so nothing more is said of them
        self._lost = False
        self._control_due = 0.0

    @property
    def active(self) -> bool:
        return self._open

    def watched(self) -> AbstractAsyncContextManager[None]:
        """Enter inside; raises ConnectionError there when the consumer has come to nothing."""
        return self._connections.watched(self._consumer)

    async def enter(self) -> None:
        with translated():
            self._consumer.subscribe(self._names, listener=self)
            await self._consumer.start()
        self._open = True

    async def leave(self) -> None:
        """Say that this was no crash and leave the group; its partitions are shared out at once."""
        self._open = False
        await self._commit_orderly()
        await end(self._consumer)
        await self._ends.aclose()

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Called in the midst of a batch, too: the event in hand may finish, the rest is given back."""
        self._giving_up = True
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await self._at_rest.wait()
        except TimeoutError:
            log.warning("event_outlived_its_partition", group=self._group)
        await self._commit_orderly()
        self._giving_up = False
        self._forget()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._forget()
        self._lost = False
        self._assigned = set(assigned)
        log.info("partitions_assigned", group=self._group, partitions=len(assigned))

    async def next(self, limit: int, wait_seconds: float) -> Batch:
        self._at_rest.set()
        self._hand = None
        with translated(), suppress(Rewound):
            await self._follow_the_group()
            if batch := await self._take(limit):
                return batch
            fetched = await self._consumer.getmany(timeout_ms=int(wait_seconds * 1000), max_records=limit)
            # what came with a new assignment is looked at first, and then read again from its committed offset
            if self._assigned == self._progress.keys():
                for partition, records in fetched.items():
                    self._fetched.setdefault(partition, deque()).extend(records)
                if batch := await self._take(limit):
                    return batch
        return Batch([], 0, self._behind())

    def handled(self, event: Event) -> None:
        hand = self._in_hand(event.at)
        hand.done = event.at
        if self._giving_up:
            self._at_rest.set()
            raise Rewound(self._group)

    async def commit(self, position: int) -> None:
        hand = self._in_hand(position)
        await self._advance(hand, position)

    async def record_failure(self, event: Event, attempts: int) -> None:
        hand = self._in_hand(event.at)
        # positions before it are done, though they may be numbers of other partitions' events
        await self._set(
            hand.partition,
            offset=hand.records[event.at].offset,
            position=event.at - 1,
            delivered=event.at,
            attempts=attempts,
            crashes=0,
        )
        if self._giving_up:
            self._at_rest.set()
            raise Rewound(self._group)

    async def bury(self, event: Event, reason: str, attempts: int) -> None:
        hand = self._in_hand(event.at)
        await self._bury(hand.records[event.at], event, reason, attempts)
        await self._advance(self._in_hand(event.at), event.at)

    async def requested_replays(self, limit: int) -> list[DeadLetter]:
        # one member does it: the one that has the first partition
        first = TopicPartition(self._names[0], 0)
        if first not in self._progress or asyncio.get_running_loop().time() < self._control_due:
            return []
        return await self._groups.requested_replays(self._group, limit)

    async def settle_replay(self, letter: DeadLetter, failure: str | None) -> None:
        await self._groups.settle_replay(letter, failure)

    def _in_hand(self, position: int) -> _Hand:
        if self._hand is None or position not in self._hand.records:
            raise Rewound(self._group)
        return self._hand

    async def _take(self, limit: int) -> Batch | None:
        """The next batch out of what was fetched, of each partition in turn."""
        for partition in list(self._fetched):
            # all of it may have been given back while we waited for the commit of the one before
            waiting = self._fetched.pop(partition, None)
            if not waiting:
                continue
            # behind the others next time
            self._fetched[partition] = waiting
            batch = await self._hand_out(partition, waiting, limit)
            if batch is not None:
                return batch
        return None

    async def _hand_out(self, partition: TopicPartition, waiting: deque[Any], limit: int) -> Batch | None:
        progress = self._progress.get(partition)
        if progress is None:
            raise Rewound(self._group)
        if progress.crashes:
            # the event that ends the process must be alone, or its crashes are counted for another
            limit = 1
        events: list[Event] = []
        records: dict[int, Any] = {}
        size, last = 0, progress.position
        largest = self._connections.settings.max_event_bytes
        while waiting and len(events) < limit and size < _BATCH_BYTES:
            record = waiting[0]
            try:
                event = to_event(record, last, largest)
            except NotOurs as error:
                if events:
                    break
                waiting.popleft()
                await self._bury(record, error.event, str(error), 1)
                await self._set(partition, offset=record.offset + 1)
                continue
            waiting.popleft()
            # one that says no position may be anywhere, and is not passed over
            if event.at <= progress.floor and position_of(record) is not None:
                continue
            # the relay repeated a page: the same positions come again, and are one batch's end
            if event.at in records:
                waiting.appendleft(record)
                break
            records[event.at] = record
            events.append(event)
            size += len(record.value or b"")
            last = event.at
        if not events:
            return None
        handed = self._progress.get(partition, progress)
        await self._set(partition, delivered=max(last, handed.delivered), floor=0)
        if partition not in self._progress:
            return None
        self._hand = _Hand(partition, records)
        self._at_rest.clear()
        return Batch(
            events,
            last,
            last + self._behind(),
            attempts=handed.attempts,
            crashes=handed.crashes,
            delivered_before=handed.delivered,
        )

    async def _advance(self, hand: _Hand, position: int) -> None:
        hand.done = position
        delivered = max(position, self._progress[hand.partition].delivered)
        await self._set(
            hand.partition,
            offset=hand.records[position].offset + 1,
            position=position,
            delivered=delivered,
            attempts=0,
            crashes=0,
        )

    async def _set(self, partition: TopicPartition, **changes: Any) -> None:
        """Commit, and only then take it for true. Raises ConnectionError when the group has gone on without us."""
        if partition not in self._progress:
            raise Rewound(self._group)
        progress = replace(self._progress[partition], **changes)
        await self._commit({partition: progress})
        if partition in self._progress:
            self._progress[partition] = progress

    async def _commit(self, progress: dict[TopicPartition, Progress]) -> None:
        self._lost = True
        try:
            with translated():
                async with asyncio.timeout(END_SECONDS):
                    await self._consumer.commit({partition: made.committed() for partition, made in progress.items()})
        except TimeoutError as error:
            raise ConnectionError(f"Kafka: a commit of group {self._group} took more than {END_SECONDS} s") from error
        self._lost = False

    async def _commit_orderly(self) -> None:
        """What has had its effect, and that the rest was given back. Nobody waits for it: it may come again."""
        if self._hand is not None and self._hand.done is not None and self._hand.partition in self._progress:
            partition, done = self._hand.partition, self._hand.done
            progress = self._progress[partition]
            if done > progress.position:
                offset = self._hand.records[done].offset + 1
                self._progress[partition] = replace(progress, offset=offset, position=done, attempts=0)
        left = {
            partition: made.left()
            for partition, made in self._progress.items()
            if made.delivered > made.position or made.crashes
        }
        if self._hand is not None and self._hand.partition in self._progress:
            left[self._hand.partition] = self._progress[self._hand.partition].left()
        if not left or self._lost:
            return
        try:
            await self._commit(left)
        except OSError as error:
            log.warning("commit_on_leave_failed", group=self._group, error=str(error))

    def _forget(self) -> None:
        self._assigned = set()
        self._progress.clear()
        self._fetched.clear()
        self._hand = None
        self._at_rest.set()

    def _behind(self) -> int:
        """Records of our partitions that were not handed out yet."""
        behind = 0
        for partition, progress in self._progress.items():
            high = self._consumer.highwater(partition)
            if high is not None:
                behind += max(high - progress.offset, 0)
        in_hand = len(self._hand.records) if self._hand else 0
        return max(behind - in_hand, 0)

    async def _follow_the_group(self) -> None:
        """Look at partitions that are new to us, and follow a rewind."""
        now = asyncio.get_running_loop().time()
        fresh = self._assigned - self._progress.keys()
        if not fresh and now < self._control_due:
            return
        control = await self._groups.control(self._group)
        self._control_due = now + _CONTROL_SECONDS
        if fresh:
            await self._look_at(fresh, control.start, control.epoch)
        behind = {partition for partition, made in self._progress.items() if made.epoch < control.epoch}
        if behind:
            await self._begin(behind, control.start, control.epoch)

    async def _look_at(self, partitions: set[TopicPartition], start: int, epoch: int) -> None:
        async with self._connections.admin() as admin:
            committed = await admin.list_consumer_group_offsets(self._group, partitions=list(partitions))
        known = {
            partition: from_committed(committed[partition]).taken_over()
            for partition in partitions
            if partition in committed and committed[partition].offset >= 0
        }
        # a rebalance may have come in between: then these are no longer ours
        if not partitions <= self._assigned:
            return
        for partition, progress in known.items():
            # the client may have read on from there while we were asking
            self._consumer.seek(partition, progress.offset)
        self._progress |= known
        unknown = partitions - known.keys()
        if unknown:
            await self._begin(unknown, start, epoch)

    async def _begin(self, partitions: set[TopicPartition], start: int, epoch: int) -> None:
        offsets = await offsets_after(self._connections, partitions, start)
        if not partitions <= self._assigned:
            return
        begun = {
            partition: Progress(offset, position=start, delivered=start, epoch=epoch, floor=start)
            for partition, offset in offsets.items()
        }
        await self._commit(begun)
        if not partitions <= self._assigned:
            return
        for partition, progress in begun.items():
            self._consumer.seek(partition, progress.offset)
            self._fetched.pop(partition, None)
        self._progress |= begun

    async def _bury(self, record: Any, event: Event, reason: str, attempts: int) -> None:
        """First the row that can be replayed, then the record for who watches the topic; both may come twice."""
        try:
            await self._groups.bury(self._group, event, reason, attempts)
        except REFUSED as error:
            # it must not hold the group back for ever: its row says which record it is
            log.warning("dead_letter_cut", group=self._group, event_id=str(event.id), error=f"{error}")
            await self._groups.bury(self._group, stranger(record, event.at), reason, attempts)
        letter = DeadLetter(0, self._group, event, reason, attempts, datetime.now(UTC), None)
        topic = record.topic + DEAD_LETTERS
        await self._topics.ensure([topic])
        try:
            await self._produce(topic, dead_letter_record(record, letter, whole=True))
        except MessageSizeTooLargeError:
            # a producer counts on with a record that a broker has refused, and is out of step then
            await self._ends.aclose()
            self._producer = None
            await self._produce(topic, dead_letter_record(record, letter, whole=False))

    async def _produce(self, topic: str, record: Record) -> None:
        """Raises MessageSizeTooLargeError, and ConnectionError for all else."""
        try:
            with translated():
                async with asyncio.timeout(self._connections.settings.request_seconds):
                    if self._producer is None:
                        self._producer = await self._ends.enter_async_context(self._connections.producer())
                    await self._producer.send_and_wait(
                        topic, record.value, key=record.key, headers=record.headers, timestamp_ms=record.timestamp_ms
                    )
        except TimeoutError as error:
            self._topics.forget([topic])
            raise ConnectionError("Kafka: the dead letter was not acknowledged in time") from error
        except ConnectionError as error:
            if isinstance(error.__cause__, MessageSizeTooLargeError):
                raise error.__cause__ from None
            self._topics.forget([topic])
            raise
