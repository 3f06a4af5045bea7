"""Events from the outbox of the document store to the event log, each key's in order, once or again.

An event stands in the document of its change until the log has it: that mark is the relay's progress. A relay that
dies between the two publishes again, and the log drops what it has by the event's id. The writer of a change waits
for the relay of its own process, for the event's position; what a crash left behind is found by age, by any process.

Order: a change is appended by somebody who saw the one before it. So the relay looks for the entities that have
events waiting, and then, in a second look, for all that wait of these: whatever is older than something seen in the
first look is seen in the second, and is published with it or before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import asyncpg
from prometheus_client import Counter, Gauge

from lakegate_catalog.store.mongodb.documents import MAX_SEQUENCE, Waiting
from lakegate_chassis.eventlog import EventLog
from lakegate_chassis.logs import log
from lakegate_chassis.postgres import connection
from lakegate_chassis.problems import Unavailable

PAGE = 1000
WAIT_SECONDS = 2.0  # how long a writer waits for its event's position; without one its answer has no token
SWEEP_SECONDS = 1.0
LEFT_BEHIND = timedelta(seconds=2)  # younger events are their own writer's business
RETRY_SECONDS = 1.0
# One process at a time sweeps: the others would only publish the same again.
LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('lakegate_catalog_relay'))"

RELAYED = Counter("lakegate_catalog_relayed_events_total", "Events brought from the document store to the event log")
OLDEST = Gauge("lakegate_catalog_relay_oldest_seconds", "Age of the oldest event that a sweep found waiting, else 0")


class Outbox(Protocol):
    """The events that wait in a store. Every method may raise Unavailable."""

    async def left_behind(self, before: datetime, limit: int) -> list[tuple[str, int, datetime]]:
        """Entity, sequence and age of events waiting since before then, oldest first."""
        ...

    async def waiting(self, entities: Collection[str], limit: int) -> list[Waiting]:
        """Events waiting of these entities, lowest sequences first."""
        ...

    async def settle(self, change_ids: Sequence[str]) -> None:
        """The events of these changes are in the log."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    entity: str
    sequence: int
    position: asyncio.Future[int | None]


class Relay:
    """Run it under Background: one in each process that writes."""

    def __init__(self, outbox: Outbox, event_log: EventLog, pool: asyncpg.Pool) -> None:
        self._outbox = outbox
        self._log = event_log
        self._pool = pool
        self._asked: deque[_Asked] = deque()
        self._wake = asyncio.Event()
        self._down = False

    async def position(self, entity: str, sequence: int) -> int | None:
        """Where the log stands with the event of this change in it; None when it is not known in time."""
        if self._down:
            return None
        asked = _Asked(entity, sequence, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        self._wake.set()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await asked.position
        except TimeoutError:
            return None

    async def run(self) -> None:
        """Relay until cancelled: what writers ask for at once, what was left behind every SWEEP_SECONDS."""
        loop = asyncio.get_running_loop()
        next_sweep = 0.0
        try:
            while True:
                try:
                    await self._relay_asked()
                    if loop.time() >= next_sweep:
                        more = await self._sweep()
                        next_sweep = loop.time() + (0.0 if more else SWEEP_SECONDS)
                        self._down = False
                    if not self._asked:
                        await self._sleep(next_sweep - loop.time())
                except Unavailable as error:
                    self._give_up(error)
                    await asyncio.sleep(RETRY_SECONDS)
                    next_sweep = 0.0
        finally:
            self._answer_all()

    async def _sleep(self, seconds: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _relay_asked(self) -> None:
        if not self._asked:
            return
        asked = [self._asked.popleft() for _ in range(min(len(self._asked), PAGE))]
        try:
            seen = highest((each.entity, each.sequence) for each in asked)
            page = await self._outbox.waiting(seen, PAGE)
            events = publishable(page, seen)
            if events:
                async with connection(self._pool) as acquired, acquired.transaction():
                    await self._log.publish(acquired, *(each.event for each in events))
            # the log numbers what is committed: its head is at or above the events just published
            position = await self._log.head()
        except BaseException:
            self._asked.extendleft(reversed(asked))
            raise
        # a full page may have left out some of the highest sequences, and those with the last one's number
        through = page[-1].sequence - 1 if len(page) == PAGE else MAX_SEQUENCE
        self._asked.extendleft(each for each in asked if each.sequence > through)
        for each in asked:
            if each.sequence <= through and not each.position.done():
                each.position.set_result(position)
        await self._settle(events)

    async def _settle(self, events: Sequence[Waiting]) -> None:
        if events:
            await self._outbox.settle([each.change_id for each in events])
            RELAYED.inc(len(events))

    async def _sweep(self) -> bool:
        """Relay a page of what was left behind, unless another process is at it; whether there may be more."""
        async with connection(self._pool) as acquired, acquired.transaction():
            if not await acquired.fetchval(LOCK):
                return False
            now = datetime.now(UTC)
            left = await self._outbox.left_behind(now - LEFT_BEHIND, PAGE)
            OLDEST.set((now - left[0][2]).total_seconds() if left else 0)
            if not left:
                return False
            seen = highest((entity, sequence) for entity, sequence, _ in left)
            events = publishable(await self._outbox.waiting(seen, PAGE), seen)
            await self._log.publish(acquired, *(each.event for each in events))
        await self._settle(events)
        return len(left) == PAGE

    def _give_up(self, error: Unavailable) -> None:
        if not self._down:
            log.warning("relay_down", reason=str(error))
        self._down = True
        self._answer_all()

    def _answer_all(self) -> None:
        """Let nobody wait for what a later sweep will do."""
        while self._asked:
            position = self._asked.popleft().position
            if not position.done():
                position.set_result(None)


def highest(seen: Iterable[tuple[str, int]]) -> dict[str, int]:
    """The highest sequence by entity."""
    by_entity: dict[str, int] = {}
    for entity, sequence in seen:
        by_entity[entity] = max(sequence, by_entity.get(entity, 0))
    return by_entity


def publishable(page: Iterable[Waiting], seen: Mapping[str, int]) -> list[Waiting]:
    """What may be published of a page that is in the order of sequences, in the order to publish it in.

    Nothing above what the first look saw (its predecessor may be missing in the page); by time, as far as clocks
    that disagree leave each entity's sequences in order.
    """
    latest: dict[str, datetime] = {}
    timed = []
    for each in page:
        if each.sequence <= seen[each.entity]:
            latest[each.entity] = max(each.since, latest.get(each.entity, each.since))
            timed.append((latest[each.entity], each))
    return [each for _, each in sorted(timed, key=lambda pair: pair[0])]
