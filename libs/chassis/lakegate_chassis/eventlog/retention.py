"""Old events go, once every group is past them."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

from lakegate_chassis.eventlog import metrics
from lakegate_chassis.eventlog.port import EventLog
from lakegate_chassis.logs import log

_BATCH = 5_000


class Retention:
    """Run it under Background in one service; two at once do no harm."""

    def __init__(
        self, event_log: EventLog, *, keep: timedelta = timedelta(days=7), every_seconds: float = 3600.0
    ) -> None:
        self._log = event_log
        self._keep = keep
        self._every_seconds = every_seconds

    async def run(self) -> None:
        while True:
            pruned = await self.prune()
            if pruned:
                log.info("events_pruned", events=pruned, keep_seconds=self._keep.total_seconds())
            # Jitter, so that replicas started together don't delete together.
            await asyncio.sleep(self._every_seconds * random.uniform(0.8, 1.2))  # noqa: S311

    async def prune(self) -> int:
        """One pass in short transactions; returns the number of events deleted."""
        total = 0
        while pruned := await self._log.prune(self._keep, _BATCH):
            total += pruned
            metrics.PRUNED.inc(pruned)
        return total
