"""A large load given to a worker, and followed to its end.

The lease goes from this process to the worker in one UPDATE: it is offered, the worker takes it, and at no moment is
it without an owner that beats. It comes back the same way, from a worker that is known to be dead.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg

from lakegate_chassis.logs import log
from lakegate_chassis.postgres import tenant_transaction
from lakegate_chassis.problems import Unavailable
from lakegate_ingest.errors import LoadCancelled, LoadInterrupted, WorkerUnavailable
from lakegate_ingest.loads.live import LiveLoad
from lakegate_ingest.loads.pipeline import LostLease
from lakegate_ingest.loads.queries import ENDED, LoadRow, get_load
from lakegate_ingest.metrics import DELEGATED
from lakegate_ingest.settings import JobSettings, WorkerSettings
from lakegate_ingest.workers import queries
from lakegate_ingest.workers.account import Account
from lakegate_ingest.workers.port import Launcher, Look
from lakegate_ingest.workers.queries import Standing

FOLLOW_SECONDS = 0.5
# how often the API server is asked whether a worker is still there; the kernel is asked each time
LOOK_EVERY = 4


class WorkerGone(Exception):
    """The worker ended before its load did; the lease is this process's again, and the load can be given anew."""


class Delegation:
    """`owner` is this process, as leases name it."""

    def __init__(
        self, pool: asyncpg.Pool, launcher: Launcher, *, owner: str, settings: WorkerSettings, job: JobSettings
    ) -> None:
        self._pool = pool
        self._launcher = launcher
        self._owner = owner
        self._settings = settings
        self._job = job

    @property
    def at_once(self) -> int:
        return self._settings.at_once

    def wants(self, live: LiveLoad) -> bool:
        """Whether it is large, can be read elsewhere, and is not half read here already."""
        return (
            self._settings.is_large(live.size_bytes)
            and live.early is None
            and (self._launcher.same_disk or live.shared)
        )

    async def run(self, live: LiveLoad) -> None:
        """Bring a queued load to its end by a worker.

        Raises Problem when the load has failed here, LostLease when another replica has it, and WorkerGone when it is
        to be given again.
        """
        if live.called_off:
            raise LoadCancelled("It was called off before it was read.")
        if live.worker_starts >= self._job.max_attempts:
            raise LoadInterrupted(
                f"{live.worker_starts} workers ended before this load did. Send it again, or in parts."
            )
        async with tenant_transaction(self._pool, live.tenant) as connection:
            offered = await queries.offer(connection, live.load_id, self._owner)
        if not offered:
            # a worker may have taken it while the database was away from here
            await self._follow(live, Account(live, first=False))
            return
        live.worker_starts += 1
        account = Account(live, first=live.worker_starts == 1)
        try:
            await self._launcher.start(live.load_id, live.size_bytes)
        except WorkerUnavailable:
            await self._keep(live)
            DELEGATED.labels("refused").inc()
            raise
        await self._follow(live, account)

    async def hasten(self, load_id: UUID) -> None:
        """A load was called off: end its worker from here, if any replica can. The worker then ends the load."""
        if not self._launcher.same_disk:
            await self._stop(load_id)

    async def _stop(self, load_id: UUID) -> None:
        try:
            await self._launcher.stop(load_id)
        except WorkerUnavailable as error:
            log.warning("worker_not_stopped", load_id=str(load_id), reason=error.detail)

    async def _follow(self, live: LiveLoad, account: Account) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.start_seconds
        turns = 1 if self._launcher.same_disk else LOOK_EVERY
        turn = 0
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            turn += 1
            try:
                standing, ended = await self._standing(live)
            except (Unavailable, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                # the worker waits for the database as well
                log.warning("load_not_followed", load_id=str(live.load_id), reason=type(error).__name__)
                continue
            if _is_over(standing):
                account.end(ended)
                DELEGATED.labels("ended").inc()
                if live.called_off:
                    await self._stop(live.load_id)
                else:
                    await self._launcher.forget(live.load_id)
                return
            account.look(standing)
            if standing.cancelled:
                live.call_off()
            live.state = standing.state.value
            if standing.progress is not None:
                live.progress = standing.progress
            if standing.owner == self._owner:
                if not standing.offered:
                    # the sweep of this very process took it back from a worker that went silent
                    raise self._gone(live, "it went silent")
                await self._wait_for_taking(live, late=loop.time() > deadline, look=turn % turns == 0)
            elif queries.is_worker_of(standing.owner, live.load_id):
                await self._watch(live, look=turn % turns == 0)
            else:
                raise LostLease

    async def _wait_for_taking(self, live: LiveLoad, *, late: bool, look: bool) -> None:
        """Raises WorkerUnavailable, LoadCancelled, WorkerGone."""
        if live.called_off:
            if await self._keep(live):
                await self._stop(live.load_id)
                raise LoadCancelled("It was called off before it was read.")
            return
        if not (look or late):
            return
        seen = await self._look(live)
        if not (late or seen.over) or not await self._keep(live):
            return
        if late:
            await self._stop(live.load_id)
            DELEGATED.labels("not started").inc()
            raise WorkerUnavailable(
                f"No worker took this load within {self._settings.start_seconds:.0f} s: {seen.words}. "
                "Nothing was loaded; send it again later."
            )
        raise self._gone(live, seen.words)

    async def _watch(self, live: LiveLoad, *, look: bool) -> None:
        """A worker has the load: hear of its death, and end it when the load was called off. Raises WorkerGone."""
        if not look:
            return
        if live.called_off:
            await self._stop(live.load_id)
        seen = await self._look(live)
        if not seen.over:
            return
        async with tenant_transaction(self._pool, live.tenant) as connection:
            back = await queries.take_back(connection, live.load_id, self._owner)
        if back:
            raise self._gone(live, seen.words)

    async def _look(self, live: LiveLoad) -> Look:
        try:
            return await self._launcher.look(live.load_id)
        except WorkerUnavailable as error:
            return Look(over=False, words=error.detail)

    async def _keep(self, live: LiveLoad) -> bool:
        """Offer the lease no longer; False when a worker was faster."""
        async with tenant_transaction(self._pool, live.tenant) as connection:
            return await queries.withdraw(connection, live.load_id, self._owner)

    async def _standing(self, live: LiveLoad) -> tuple[Standing, LoadRow | None]:
        """With its row once it has ended."""
        async with tenant_transaction(self._pool, live.tenant) as connection:
            standing = await queries.standing(connection, live.load_id)
            return standing, await get_load(connection, live.load_id) if _is_over(standing) else None

    def _gone(self, live: LiveLoad, reason: str) -> WorkerGone:
        DELEGATED.labels("gone").inc()
        return WorkerGone(f"worker {live.worker_starts} of {self._job.max_attempts}: {reason}")


def _is_over(standing: Standing) -> bool:
    return standing.state in ENDED or standing.owner is None
