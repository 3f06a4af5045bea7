"""What is counted of a load that a worker runs.

A worker counts in itself, and nobody scrapes a process that ends with its load. So the process that follows it counts
its outcome and its times, from the load's row and as it sees it go on, and the retries that it tells with its beats.
"""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from lakegate_contracts.receipts import LoadState
from lakegate_ingest.loads.live import LiveLoad
from lakegate_ingest.loads.queries import LoadRow
from lakegate_ingest.metrics import COMMIT_RETRIES, FAILURES, LOADS, PHASE_SECONDS, ROWS
from lakegate_ingest.workers.queries import Standing, is_worker_of


class Account:
    """Of one worker of a load. `first`: no other had it before, so that until it took the load that waited."""

    def __init__(self, live: LiveLoad, *, first: bool) -> None:
        self._live = live
        self._phase: str | None = "queue" if first else None
        self._since = live.received_at
        self._retries: dict[str, int] = {}

    def look(self, standing: Standing) -> None:
        if not is_worker_of(standing.owner, self._live.load_id):
            return
        self._enter("commit" if standing.state is LoadState.COMMITTING else "read")
        for reason, count in standing.retries.items():
            # the Job's next pod begins at none
            known = self._retries.get(reason, 0)
            COMMIT_RETRIES.labels(reason).inc(count - known if count >= known else count)
            self._retries[reason] = count

    def end(self, load: LoadRow | None) -> None:
        """None: retention has deleted it meanwhile."""
        if self._phase != "queue":  # else it was taken and ended between two looks
            self._enter(None)
        if load is None:
            return
        if load.problem is not None:
            LOADS.labels("failed").inc()
            FAILURES.labels(urlsplit(load.problem["type"]).path.rpartition("/")[2]).inc()
        elif load.receipt is not None:
            written = 0 if load.receipt.dry_run else load.receipt.rows_written
            LOADS.labels("dry_run" if load.receipt.dry_run else "completed").inc()
            ROWS.labels("written").inc(written)
            ROWS.labels("quarantined").inc(load.receipt.quarantine.rows)
            if load.receipt.snapshot_id is not None:
                PHASE_SECONDS.labels("readable").observe(time.perf_counter() - self._live.received_at)

    def _enter(self, phase: str | None) -> None:
        if phase == self._phase:
            return
        now = time.perf_counter()
        if self._phase is not None:
            PHASE_SECONDS.labels(self._phase).observe(now - self._since)
        self._phase, self._since = phase, now
