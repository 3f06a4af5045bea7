"""`python -m lakegate_ingest.worker LOAD_ID`: take this load, bring it to its end, and end.

It is one more replica that takes exactly one load: what it needs of it is in the database, in the spool that it shares
with who received it, or in the store that both reach. Killed, it leaves the load to whoever comes next.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from uuid import UUID, uuid4

import asyncpg

from lakegate_chassis.background import Background
from lakegate_chassis.eventlog.postgres import PostgresEventLog
from lakegate_chassis.eventlog.turn import Turn
from lakegate_chassis.logs import log
from lakegate_chassis.once import run_once
from lakegate_chassis.postgres import close_pool, connection, open_pool, tenant_transaction
from lakegate_chassis.settings import load
from lakegate_ingest.loading import Loading, open_loading
from lakegate_ingest.loads import queries as loads
from lakegate_ingest.loads.jobs import called_off
from lakegate_ingest.loads.live import LiveLoad
from lakegate_ingest.metrics import commit_retries
from lakegate_ingest.settings import IngestSettings
from lakegate_ingest.spool.folders import Spool
from lakegate_ingest.workers import queries

TAKE_PAUSE_SECONDS = 0.5
STOP_SECONDS = 8.0


class Worker:
    def __init__(self, settings: IngestSettings, pool: asyncpg.Pool, load_id: UUID) -> None:
        self._settings = settings
        self._pool = pool
        self._load_id = load_id
        self._owner = queries.worker_owner(load_id, f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}")

    async def run(self) -> bool:
        """True when the load has ended, by this worker or without it."""
        tenant = await self._take()
        if tenant is None:
            log.info("load_is_over", load_id=str(self._load_id))
            return True
        if not tenant:
            return False
        log.info("load_taken", load_id=str(self._load_id))
        try:
            spool = await asyncio.to_thread(Spool, self._settings.spool.dir, self._settings.spool.quota_bytes)
            # publishing is the outbox's, with Kafka too: a relay of the services brings it there
            event_log = PostgresEventLog(self._pool)
            async with open_loading(
                self._settings, self._pool, event_log, spool, self._owner, gives_way=self._is_of_a_retired_colour
            ) as loading:
                return await self._work(loading, tenant)
        finally:
            # what has not ended is for others to take at once
            async with connection(self._pool) as acquired:
                await loads.release_leases(acquired, self._owner)

    def _is_of_a_retired_colour(self) -> bool:
        """A worker outlives the pods of its colour, but not the catalog and the gateway that it knows."""
        return not Turn(self._settings.consumers).is_ours

    async def _take(self) -> str | None:
        """The tenant; "" when nobody offers the load in time, None when it has ended."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.worker.start_seconds
        while True:
            async with connection(self._pool) as acquired:
                lease = await queries.lease(acquired, self._load_id)
                if lease is None:
                    return None
                if await queries.take(acquired, self._load_id, self._owner, self._settings.job.lease_seconds):
                    return lease[0]
            if loop.time() > deadline:
                log.error("load_not_offered", load_id=str(self._load_id), owner=lease[1])
                return ""
            await asyncio.sleep(TAKE_PAUSE_SECONDS)

    async def _work(self, loading: Loading, tenant: str) -> bool:
        async with tenant_transaction(self._pool, tenant) as acquired:
            row = await loads.get_load(acquired, self._load_id)
        if row is None or row.state in loads.ENDED:
            return True
        live = loading.live.take_over(self._load_id, tenant)
        live.state = "queued" if row.state.value == "reading" else row.state.value
        lost = asyncio.Event()
        background = Background()
        background.start("heartbeat", lambda: self._beat(live, lost))
        loading.jobs.start(background)
        loading.jobs.submit(live)
        waits = [asyncio.create_task(event.wait()) for event in (live.ended, lost)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            live.cancelled.set()
            await background.stop(STOP_SECONDS)
            await self._end_if_called_off(loading, live)
            raise
        finally:
            for wait in waits:
                wait.cancel()
            live.cancelled.set()
            await background.stop(STOP_SECONDS)
        return live.ended.is_set()

    async def _beat(self, live: LiveLoad, lost: asyncio.Event) -> None:
        """Keep the lease, tell the progress, and hear that the load was called off or is another's."""
        while not live.ended.is_set():
            async with connection(self._pool) as acquired:
                cancelled = await queries.beat(acquired, self._load_id, self._owner, live.progress, commit_retries())
            if cancelled is None:
                if not live.ended.is_set():
                    async with connection(self._pool) as acquired:
                        over = await queries.lease(acquired, self._load_id) is None
                    if not over:
                        log.warning("load_lease_lost", load_id=str(self._load_id))
                        lost.set()
                    # else it has just ended, and `ended` follows
                return
            if cancelled:
                live.call_off()
            await asyncio.sleep(self._settings.worker.beat_seconds)

    async def _end_if_called_off(self, loading: Loading, live: LiveLoad) -> None:
        """Whoever called the load off has this worker ended, too: then nobody is left to say how the load ended."""
        async with connection(self._pool) as acquired:
            cancelled = await queries.beat(acquired, self._load_id, self._owner, live.progress, commit_retries())
        if cancelled:
            live.call_off()
            await loading.jobs.fail(live, called_off())


async def work(settings: IngestSettings, load_id: UUID) -> bool:
    pool = await open_pool(settings.postgres, "ingest")
    try:
        return await Worker(settings, pool, load_id).run()
    finally:
        await close_pool(pool)


def main() -> None:
    try:
        load_id = UUID(sys.argv[1])
    except (IndexError, ValueError):
        print("usage: python -m lakegate_ingest.worker LOAD_ID", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    settings = load(IngestSettings)
    run_once("ingest", settings, lambda: work(settings, load_id))


if __name__ == "__main__":
    main()
