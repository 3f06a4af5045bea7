"""Gathering events of many requests into one transaction, since each transaction costs more than its events.

One writer, one connection: while a batch is being committed the next one gathers, so that the size of a batch
follows the load and a lone event waits for nothing. (Lingering for others, and a second writer, were measured:
neither gained anything.) A request is answered when its events are committed, or refused one by one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import asyncpg
from prometheus_client import Counter, Gauge, Histogram

from lakegate_chassis.logs import log
from lakegate_chassis.postgres import tenant_transaction
from lakegate_chassis.problems import Problem, Unavailable
from lakegate_lineage.errors import InvalidEvent, LineageOverloaded
from lakegate_lineage.events import queries
from lakegate_lineage.events.changes import Changes
from lakegate_lineage.events.openlineage import Event
from lakegate_lineage.settings import EventSettings

MAX_ATTEMPTS = 4
# what an event's own content can cause: a value that PostgreSQL does not take, or a structure too deep for it
REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
LOST_RACE = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)

BATCH_EVENTS = Histogram(
    "lakegate_lineage_batch_events", "Events in one transaction", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
)
BATCH_SECONDS = Histogram("lakegate_lineage_batch_seconds", "Duration of one transaction with its retries")
WRITTEN = Counter("lakegate_lineage_events_written_total", "Events committed, repeats included")
REFUSALS = Counter("lakegate_lineage_events_refused_total", "Events that could not be stored")
SHED = Counter("lakegate_lineage_events_shed_total", "Events answered 503 since the queue was full")
QUEUED = Gauge("lakegate_lineage_events_queued", "Events waiting to be written")


@dataclass(slots=True, eq=False)
class _Submission:
    tenant: str
    events: Sequence[Event]
    size_bytes: int
    done: asyncio.Future[list[Problem | None]]
    outcome: list[Problem | None] = field(default_factory=list)


class EventWriter:
    """A bounded queue in front of the tables. `run` is its loop, to be supervised."""

    def __init__(self, pool: asyncpg.Pool, settings: EventSettings) -> None:
        self._pool = pool
        self._settings = settings
        self._queue: deque[_Submission] = deque()
        self._queued_events = 0
        self._queued_bytes = 0
        self._arrived = asyncio.Event()

    async def write(self, tenant: str, events: Sequence[Event]) -> list[Problem | None]:
        """Commit the events; for each None, or why it was refused. Raises LineageOverloaded, Unavailable."""
        size = sum(len(event.body) for event in events)
        if self._queue and (
            self._queued_events + len(events) > self._settings.queue_events
            or self._queued_bytes + size > self._settings.queue_bytes
        ):
            SHED.inc(len(events))
            raise LineageOverloaded(
                f"{self._queued_events} events are waiting to be written. Send these again after a second."
            )
        submission = _Submission(tenant, events, size, asyncio.get_running_loop().create_future())
        self._queue.append(submission)
        self._count(len(events), size)
        self._arrived.set()
        return await submission.done

    async def run(self) -> None:
        """Write batches until cancelled; what is then waiting is answered 503."""
        taken: list[_Submission] = []
        try:
            while True:
                await self._arrived.wait()
                taken = self._take()
                for tenant in dict.fromkeys(submission.tenant for submission in taken):
                    await self._write([submission for submission in taken if submission.tenant == tenant])
        finally:
            for submission in (*taken, *self._queue):
                if not submission.done.done():
                    submission.done.set_exception(Unavailable("The service is stopping. Send the event again."))
            self._queue.clear()
            self._count(-self._queued_events, -self._queued_bytes)

    def _take(self) -> list[_Submission]:
        taken: list[_Submission] = []
        events = 0
        while self._queue and events < self._settings.flush_events:
            submission = self._queue.popleft()
            taken.append(submission)
            events += len(submission.events)
            self._count(-len(submission.events), -submission.size_bytes)
        if not self._queue:
            self._arrived.clear()
        return taken

    def _count(self, events: int, size: int) -> None:
        self._queued_events += events
        self._queued_bytes += size
        QUEUED.set(self._queued_events)

    async def _write(self, submissions: list[_Submission]) -> None:
        """Commit the submissions of one tenant together, and answer them all."""
        started = perf_counter()
        tenant = submissions[0].tenant
        events = [event for submission in submissions for event in submission.events]
        try:
            outcome = await self._commit(tenant, events)
        except Unavailable as error:
            self._fail(submissions, error)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.error("events_not_written", tenant=tenant, events=len(events), exc_info=error)
            self._fail(submissions, Unavailable("The events could not be written. Send them again shortly."))
        else:
            for submission in submissions:
                mine, outcome = outcome[: len(submission.events)], outcome[len(submission.events) :]
                if not submission.done.done():
                    submission.done.set_result(mine)
        BATCH_EVENTS.observe(len(events))
        BATCH_SECONDS.observe(perf_counter() - started)

    def _fail(self, submissions: list[_Submission], problem: Problem) -> None:
        for submission in submissions:
            if not submission.done.done():
                submission.done.set_exception(problem)

    async def _commit(self, tenant: str, events: Sequence[Event]) -> list[Problem | None]:
        """One transaction; when PostgreSQL refuses its content, two halves, down to the event at fault."""
        try:
            await self._merge(tenant, Changes.of(events))
        except REFUSED as error:
            if len(events) > 1:
                middle = len(events) // 2
                return [
                    *await self._commit(tenant, events[:middle]),
                    *await self._commit(tenant, events[middle:]),
                ]
            REFUSALS.inc()
            log.warning("event_refused", tenant=tenant, reason=str(error))
            return [InvalidEvent(f"The event can't be stored: {error}.")]
        WRITTEN.inc(len(events))
        return [None] * len(events)

    async def _merge(self, tenant: str, changes: Changes) -> None:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                async with tenant_transaction(self._pool, tenant) as connection:
                    await queries.merge(connection, tenant, changes)
                return
            except LOST_RACE:
                if attempt == MAX_ATTEMPTS:
                    raise
