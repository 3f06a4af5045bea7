"""The queue of loads and its workers. More workers than engine threads: one load commits while the next is read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg

from lakegate_chassis import tracing
from lakegate_chassis.background import Background
from lakegate_chassis.logs import log
from lakegate_chassis.postgres import tenant_transaction
from lakegate_chassis.problems import Problem, Unavailable, unforeseen, unstorable
from lakegate_ingest.errors import CatalogUnavailable, LoadCancelled, StoreUnavailable
from lakegate_ingest.loads import queries
from lakegate_ingest.loads.copies import Copies
from lakegate_ingest.loads.live import LiveLoad, LiveLoads
from lakegate_ingest.loads.outcome import Outcomes
from lakegate_ingest.loads.pipeline import CommitPending, LostLease, Pipeline
from lakegate_ingest.metrics import COMMIT_RETRIES
from lakegate_ingest.spool.folders import Spool
from lakegate_ingest.workers.delegation import Delegation, WorkerGone
from lakegate_ingest.workers.queries import let_go

LONGEST_PAUSE_SECONDS = 15.0


class Jobs:
    """Runs each submitted load to its end. The queue is bounded by what LiveLoads admits."""

    def __init__(
        self,
        *,
        pool: asyncpg.Pool,
        pipeline: Pipeline,
        outcomes: Outcomes,
        live: LiveLoads,
        spool: Spool,
        workers: int,
        retry_seconds: float,
        owner: str,
        copies: Copies,
        delegation: Delegation | None = None,
        gives_way: Callable[[], bool] = lambda: False,
    ) -> None:
        self._gives_way = gives_way
        self._delegation = delegation
        self._delegated: asyncio.Queue[LiveLoad] = asyncio.Queue()
        self._pool = pool
        self._pipeline = pipeline
        self._outcomes = outcomes
        self._live = live
        self._spool = spool
        self._workers = workers
        self._retry_seconds = retry_seconds
        self._owner = owner
        self._copies = copies
        self._queue: asyncio.Queue[LiveLoad] = asyncio.Queue()

    def start(self, background: Background) -> None:
        for number in range(self._workers * 2):
            background.start(f"load-worker-{number}", self._work)
        if self._delegation is not None:
            for number in range(self._delegation.at_once):
                background.start(f"load-delegate-{number}", self._delegate)

    async def hasten(self, load_id: UUID) -> None:
        """A load was called off: end a worker that has it."""
        if self._delegation is not None:
            await self._delegation.hasten(load_id)

    def submit(self, live: LiveLoad) -> None:
        """Queue a load by its state: queued and committing ones have their body, receiving ones an upload for one."""
        delegated = self._delegation is not None and self._delegation.wants(live)
        (self._delegated if delegated else self._queue).put_nowait(live)

    async def _work(self) -> None:
        while True:
            await self._run(await self._queue.get(), self._pipeline.run)

    async def _delegate(self) -> None:
        assert self._delegation is not None
        while True:
            await self._run(await self._delegated.get(), self._delegation.run)

    async def _run(self, live: LiveLoad, run: Callable[[LiveLoad], Awaitable[None]]) -> None:
        try:
            if live.failure is not None:
                if not await self.fail(live, live.failure):
                    return
            else:
                await run(live)
        except LostLease:
            # its folder and its copies may be what the new owner works on; a sweep finds what is left of them
            log.warning("load_lease_lost", load_id=str(live.load_id))
            self._live.end(live.load_id)
            return
        except WorkerGone as gone:
            log.warning("load_worker_gone", load_id=str(live.load_id), reason=str(gone))
            self._later(live)
            return
        except CommitPending as pending:
            COMMIT_RETRIES.labels("catalog_unavailable").inc()
            log.warning("load_commit_pending", load_id=str(live.load_id), reason=str(pending))
            await self._later_or_elsewhere(live)
            return
        except asyncpg.DataError as error:  # the database is there, and will say the same every time
            if not await self.fail(live, unstorable(error)):
                return
        except (Unavailable, StoreUnavailable, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            # Without the database nothing can be recorded: the load keeps its state and its lease.
            log.warning("load_put_off", load_id=str(live.load_id), reason=type(error).__name__)
            await self._later_or_elsewhere(live)
            return
        except Problem as problem:
            if isinstance(problem, CatalogUnavailable) and self._gives_way():
                await self._later_or_elsewhere(live)
                return
            if not await self.fail(live, called_off() if live.called_off else problem):
                return
        except Exception as error:  # noqa: BLE001 — a load must end in its row, whatever went wrong with it
            if not await self.fail(live, unforeseen(error)):
                return
        await asyncio.to_thread(self._spool.remove, live.load_id)
        await self._copies.remove(live.load_id, live.tenant)
        self._live.end(live.load_id)

    async def fail(self, live: LiveLoad, problem: Problem) -> bool:
        """Record the failure; False when it can't be (the database is away): that is tried again until it can."""
        if live.cancelled.is_set() and not live.called_off:
            return False  # the process is ending: whoever comes next resumes the load
        try:
            async with tenant_transaction(self._pool, live.tenant) as connection:
                load = await queries.get_load(connection, live.load_id)
                ours = await queries.is_owner(connection, live.load_id, self._owner)
            if load is not None and ours:  # else it has ended, or somebody took it over while the database was away
                with tracing.resumed(
                    load.request_id, load.traceparent, "fail load", {"lakegate.load_id": str(live.load_id)}
                ):
                    await self._outcomes.fail(load, problem)
        except Exception as error:  # noqa: BLE001 — whatever it is: let go here, nobody would take the load up again
            live.failure = problem
            log.warning("load_failure_put_off", load_id=str(live.load_id), reason=type(error).__name__)
            self._later(live)
            return False
        log.info("load_failed", load_id=str(live.load_id), problem=problem.slug, detail=problem.detail)
        return True

    async def _later_or_elsewhere(self, live: LiveLoad) -> None:
        """Elsewhere when what it needs may never come back here: its release has been replaced by another."""
        if not self._gives_way() or live.cancelled.is_set():
            self._later(live)
            return
        try:
            async with tenant_transaction(self._pool, live.tenant) as connection:
                await let_go(connection, live.load_id, self._owner)
        except (Unavailable, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("load_put_off", load_id=str(live.load_id), reason=type(error).__name__)
            self._later(live)
            return
        log.info("load_let_go", load_id=str(live.load_id))
        self._live.end(live.load_id)

    def _later(self, live: LiveLoad) -> None:
        pause = min(self._retry_seconds * 2 ** min(live.put_off, 10), max(self._retry_seconds, LONGEST_PAUSE_SECONDS))
        live.put_off += 1
        asyncio.get_running_loop().call_later(pause, self.submit, live)


def called_off() -> LoadCancelled:
    return LoadCancelled("It was called off before it was committed. Nothing of it was loaded.")
