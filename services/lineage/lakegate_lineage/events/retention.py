"""Events go after a time: what was folded from them stays."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import asyncpg
from prometheus_client import Counter

from lakegate_chassis.logs import log
from lakegate_chassis.postgres import connection
from lakegate_lineage.events import queries

BATCH = 5000
PRUNED = Counter("lakegate_lineage_pruned_total", "Rows deleted by retention", ["table"])


class EventRetention:
    """Deletes events as they were sent, and the ids of handled events of the event log.

    Either may be forgotten: merging an event again changes nothing. Run it under Background; two at once do no harm.
    """

    def __init__(
        self, pool: asyncpg.Pool, *, keep_events: timedelta, keep_handled: timedelta, every_seconds: float = 3600.0
    ) -> None:
        self._pool = pool
        self._keep_events = keep_events
        self._keep_handled = keep_handled
        self._every_seconds = every_seconds

    async def run(self) -> None:
        while True:
            events, handled = await self.prune()
            if events or handled:
                log.info("lineage_events_pruned", events=events, handled_events=handled)
            # jitter, so that replicas started together don't delete together
            await asyncio.sleep(self._every_seconds * random.uniform(0.8, 1.2))  # noqa: S311

    async def prune(self) -> tuple[int, int]:
        """One pass in short transactions; returns how many rows of events and of handled_events were deleted."""
        return (
            await self._prune(queries.PRUNE_EVENTS, "events", self._keep_events),
            await self._prune(queries.PRUNE_HANDLED, "handled_events", self._keep_handled),
        )

    async def _prune(self, statement: str, table: str, keep: timedelta) -> int:
        total = 0
        while True:
            async with connection(self._pool) as acquired:
                pruned: int = await acquired.fetchval(statement, keep, BATCH)
            PRUNED.labels(table).inc(pruned)
            total += pruned
            if pruned < BATCH:
                return total
