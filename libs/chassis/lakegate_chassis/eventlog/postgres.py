"""The event log in PostgreSQL: the outbox is the log, LISTEN/NOTIFY wakes readers, advisory locks are leases."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from lakegate_chassis.eventlog import letters, metrics
from lakegate_chassis.eventlog.membership import LEASE, PostgresMembership
from lakegate_chassis.eventlog.port import BeyondHead, DeadLetter, Event, GroupInUse, GroupState, Membership
from lakegate_chassis.eventlog.rows import COLUMNS, PUBLISH, publish_arguments, to_dead_letter, to_event
from lakegate_chassis.eventlog.wakeups import EVENTS, GROUPS, Wakeups
from lakegate_chassis.postgres import connection

# A notification can be lost with its connection; this bounds how long an event then waits.
POLL_SECONDS = 5.0
# How soon a crashed member is replaced; one that leaves in order says so and is replaced at once.
STANDBY_SECONDS = 1.0
_NUMBERED_AT_ONCE = 10_000

PAGE = f"""
    SELECT s.last, e.* FROM eventlog.sequencer s LEFT JOIN LATERAL (
        SELECT {COLUMNS} FROM eventlog.events
        WHERE position > $2 AND position <= s.last AND topic = ANY($1)
        ORDER BY position LIMIT $3
    ) e ON true ORDER BY e.position
"""


async def number(acquired: Any) -> None:
    """Give positions to what was committed since; a transaction of its own (see the migration)."""
    while await acquired.fetchval("SELECT eventlog.assign_positions($1)", _NUMBERED_AT_ONCE) == _NUMBERED_AT_ONCE:
        pass


class PostgresEventLog:
    """Over the pool of a service, whose role needs the rights of `lakegate_eventlog`.

    While somebody reads, one connection of the pool listens; each active member holds one more.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._wakeups = Wakeups(pool)

    async def publish(self, transaction: Any, *events: Event) -> None:
        if not events:
            return
        await transaction.execute(PUBLISH, *publish_arguments(events))
        for event in events:
            metrics.PUBLISHED.labels(event.topic).inc()

    async def read(
        self,
        topics: Sequence[str],
        after: int,
        limit: int = 500,
        *,
        follow: bool = True,
        pause_seconds: float = 0.0,
    ) -> AsyncGenerator[list[Event], None]:
        async with self._wakeups.listening() if follow else nullcontext():
            while True:
                ticket = self._wakeups.ticket(EVENTS)
                events, head = await self._page(topics, after, limit)
                if events:
                    after = events[-1].at
                    yield events
                if len(events) == limit:
                    continue
                # Everything of ours up to the head was in this page: don't scan it again.
                after = max(after, head)
                if not follow:
                    return
                await self._wakeups.wait(EVENTS, ticket, POLL_SECONDS)
                await asyncio.sleep(pause_seconds)

    async def _page(self, topics: Sequence[str], after: int, limit: int) -> tuple[list[Event], int]:
        async with connection(self._pool) as acquired:
            await number(acquired)
            rows = await acquired.fetch(PAGE, list(topics), after, limit)
        return [to_event(row) for row in rows if row["event_id"]], rows[0]["last"]

    async def head(self) -> int:
        async with connection(self._pool) as acquired:
            await number(acquired)
            last: int = await acquired.fetchval("SELECT last FROM eventlog.sequencer")
        return last

    async def position_before(self, time: datetime) -> int:
        async with connection(self._pool) as acquired:
            await number(acquired)
            position: int = await acquired.fetchval(
                """
                SELECT coalesce((SELECT min(position) - 1 FROM eventlog.events WHERE time >= $1), last)
                FROM eventlog.sequencer
                """,
                time,
            )
        return position

    @asynccontextmanager
    async def join(self, group: str, topics: Sequence[str], *, from_head: bool = False) -> AsyncIterator[Membership]:
        start = await self.head() if from_head else 0
        async with self._wakeups.listening():
            while True:
                ticket = self._wakeups.ticket(GROUPS)
                async with connection(self._pool) as acquired:
                    if await acquired.fetchval(f"SELECT pg_try_advisory_lock({LEASE})", group):
                        member = PostgresMembership(acquired, self._wakeups, group, list(topics))
                        metrics.ACTIVE.labels(group).set(1)
                        try:
                            await member.enter(start)
                            yield member
                        finally:
                            metrics.ACTIVE.labels(group).set(0)
                            await member.leave()
                        return
                # Not a blocking lock: waiting in a statement would hold a snapshot and keep vacuum back.
                pause = STANDBY_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
                await self._wakeups.wait(GROUPS, ticket, pause)

    async def rewind(self, group: str, position: int) -> None:
        await self.check_reached(position)
        async with connection(self._pool) as acquired, acquired.transaction():
            moved = await acquired.fetchval(
                """
                UPDATE eventlog.offsets
                SET position = $2, delivered = $2, attempts = 0, crashes = 0, epoch = epoch + 1, updated_at = now()
                WHERE group_name = $1 RETURNING true
                """,
                group,
                position,
            )
            if not moved:
                raise KeyError(group)
            await acquired.execute("SELECT pg_notify($1, '')", EVENTS)

    async def check_reached(self, position: int) -> None:
        """Raises BeyondHead."""
        head = await self.head()
        if position > head:
            raise BeyondHead(position, head)

    async def groups(self) -> list[GroupState]:
        async with connection(self._pool) as acquired:
            await number(acquired)
            rows = await acquired.fetch(
                """
                SELECT o.*, greatest(s.last - o.position, 0) AS lag,
                       (SELECT count(*) FROM eventlog.dead_letters d WHERE d.group_name = o.group_name) AS dead
                FROM eventlog.offsets o CROSS JOIN eventlog.sequencer s ORDER BY o.group_name
                """
            )
        return [
            GroupState(
                group=row["group_name"],
                topics=tuple(row["topics"]),
                position=row["position"],
                lag=row["lag"],
                attempts=row["attempts"],
                dead_letters=row["dead"],
                updated_at=row["updated_at"],
            )
            for row in rows
        ]

    async def forget_group(self, group: str) -> None:
        async with connection(self._pool) as acquired, acquired.transaction():
            # nobody becomes its member before this is committed
            if not await acquired.fetchval(f"SELECT pg_try_advisory_xact_lock({LEASE})", group):
                raise GroupInUse(group)
            if not await acquired.fetchval("DELETE FROM eventlog.offsets WHERE group_name = $1 RETURNING true", group):
                raise KeyError(group)

    async def dead_letters(
        self, group: str | None = None, *, limit: int = 100, before_id: int | None = None
    ) -> list[DeadLetter]:
        async with connection(self._pool) as acquired:
            rows = await acquired.fetch(
                f"""
                {letters.SELECT}
                WHERE ($1::text IS NULL OR group_name = $1) AND ($2::bigint IS NULL OR id < $2)
                ORDER BY id DESC LIMIT $3
                """,
                group,
                before_id,
                limit,
            )
        return [to_dead_letter(row) for row in rows]

    async def request_replay(self, group: str, letter_ids: Sequence[int] | None = None) -> int:
        async with connection(self._pool) as acquired, acquired.transaction():
            rows = await acquired.fetch(
                """
                UPDATE eventlog.dead_letters SET replay_requested_at = now()
                WHERE group_name = $1 AND ($2::bigint[] IS NULL OR id = ANY($2)) RETURNING id
                """,
                group,
                None if letter_ids is None else list(letter_ids),
            )
            await acquired.execute("SELECT pg_notify($1, '')", EVENTS)
        return len(rows)

    async def bury(self, group: str, event: Event, reason: str, attempts: int = 1) -> None:
        """Make a dead letter of an event that a group can't even be given."""
        async with connection(self._pool) as acquired:
            await letters.bury(acquired, group, event, reason, attempts)

    async def prune(self, keep: timedelta, limit: int) -> int:
        async with connection(self._pool) as acquired:
            pruned: int = await acquired.fetchval("SELECT eventlog.prune($1, $2)", keep, limit)
            strangers = await letters.prune_strangers(acquired, keep, limit)
        return pruned + strangers
