"""The active member of a group in PostgreSQL.

Lease, reading and commits share one connection: when it dies, the lock is free and no late commit can follow.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import asyncpg

from lakegate_chassis.eventlog import letters
from lakegate_chassis.eventlog.port import Batch, DeadLetter, Event, Rewound
from lakegate_chassis.eventlog.rows import COLUMNS, to_event
from lakegate_chassis.eventlog.wakeups import EVENTS, GROUPS, Wakeups

LEASE = "hashtextextended('lakegate.group.' || $1::text, 0)"
# A batch is bounded in bytes too: rows are small as a rule, but nothing keeps a producer from large ones.
BATCH_BYTES = 8 * 1024 * 1024

NEXT = f"""
    SELECT o.position AS committed, o.delivered, o.attempts AS failures, o.crashes, o.epoch, s.last, e.*
    FROM eventlog.offsets o CROSS JOIN eventlog.sequencer s LEFT JOIN LATERAL (
        SELECT * FROM (
            SELECT {COLUMNS}, sum(pg_column_size(events.data)) OVER (ORDER BY position) AS bytes,
                   row_number() OVER (ORDER BY position) AS n
            FROM (
                SELECT * FROM eventlog.events
                WHERE position > greatest(o.position, CASE WHEN o.epoch = $4 THEN $5::bigint END)
                  AND position <= s.last AND (topic = ANY($2) OR $2 = '{{}}')
                ORDER BY position LIMIT $3
            ) events
        ) page WHERE bytes <= {BATCH_BYTES} OR n = 1
    ) e ON true
    WHERE o.group_name = $1 ORDER BY e.position
"""


class PostgresMembership:
    def __init__(self, connection: Any, wakeups: Wakeups, group: str, topics: list[str]) -> None:
        self._connection = connection
        self._wakeups = wakeups
        self._group = group
        self._topics = topics
        self._epoch = -1
        # Other topics' events up to here were passed over; kept here, since writing it each time would cost.
        self._scanned = 0
        self._committed = 0

    @property
    def active(self) -> bool:
        return not self._connection.is_closed()

    async def enter(self, start: int) -> None:
        # A lost offset is only a redelivery, so its commit need not wait for the disk. A member that vanished
        # with the network is noticed in 25 s rather than in two hours.
        await self._connection.execute(
            """
            SET synchronous_commit = off;
            SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
            """
        )
        await self._connection.execute(
            """
            INSERT INTO eventlog.offsets AS o (group_name, topics, position, delivered) VALUES ($1, $2, $3, $3)
            ON CONFLICT (group_name) DO UPDATE SET topics = excluded.topics,
                crashes = CASE WHEN o.delivered > o.position THEN o.crashes + 1 ELSE 0 END
            """,
            self._group,
            self._topics,
            start,
        )

    async def leave(self) -> None:
        """Say that this was no crash, free the lease, and wake who stands by. A dead connection did all that."""
        with suppress(asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError):
            if self._connection.is_closed():
                return
            await self._connection.execute(
                "UPDATE eventlog.offsets SET delivered = position, crashes = 0 WHERE group_name = $1", self._group
            )
            await self._connection.execute(f"SELECT pg_advisory_unlock({LEASE})", self._group)
            await self._connection.execute("SELECT pg_notify($1, '')", GROUPS)

    async def next(self, limit: int, wait_seconds: float) -> Batch:
        ticket = self._wakeups.ticket(EVENTS)
        batch = await self._page(limit)
        if batch.events:
            return batch
        if not await self._wakeups.wait(EVENTS, ticket, wait_seconds) and batch.through > self._committed:
            # A quiet moment: what was passed over becomes the offset, or retention would wait for us.
            with suppress(Rewound):
                await self.commit(batch.through)
        return Batch([], batch.through, batch.head)

    async def _page(self, limit: int) -> Batch:
        await self._connection.fetchval("SELECT eventlog.assign_positions(10000)")
        rows = await self._connection.fetch(NEXT, self._group, self._topics, limit, self._epoch, self._scanned)
        if not rows:
            raise Rewound(f"group {self._group} was forgotten")
        first = rows[0]
        self._epoch = first["epoch"]
        self._committed = first["committed"]
        events = [to_event(row) for row in rows if row["event_id"]]
        if events:
            self._scanned = 0
            await self._connection.execute(
                "UPDATE eventlog.offsets SET delivered = greatest(delivered, $2) WHERE group_name = $1 AND epoch = $3",
                self._group,
                events[-1].at,
                self._epoch,
            )
            through = events[-1].at
        else:
            through = self._scanned = first["last"]
        return Batch(
            events,
            through,
            first["last"],
            attempts=first["failures"],
            crashes=first["crashes"],
            delivered_before=first["delivered"],
        )

    def handled(self, event: Event) -> None:
        """Nothing to note: nobody takes over while we are here."""

    async def commit(self, position: int) -> None:
        await self._set_position(position, 0)

    async def record_failure(self, event: Event, attempts: int) -> None:
        # Just before the event: its predecessors are of other topics or have had their effect.
        await self._set_position(event.at - 1, attempts)

    async def _set_position(self, position: int, attempts: int) -> None:
        moved = await self._connection.fetchval(
            """
            UPDATE eventlog.offsets
            SET position = $2, delivered = greatest(delivered, $2), attempts = $3, crashes = 0, updated_at = now()
            WHERE group_name = $1 AND epoch = $4 RETURNING true
            """,
            self._group,
            position,
            attempts,
            self._epoch,
        )
        if not moved:
            raise Rewound(self._group)

    async def bury(self, event: Event, reason: str, attempts: int) -> None:
        async with self._connection.transaction():
            await self._set_position(event.at, 0)
            await letters.bury(self._connection, self._group, event, reason, attempts)

    async def requested_replays(self, limit: int) -> list[DeadLetter]:
        return await letters.requested(self._connection, self._group, limit)

    async def settle_replay(self, letter: DeadLetter, failure: str | None) -> None:
        await letters.settle(self._connection, letter, failure)
