"""What a process does for the dead: their loads are resumed, settled or reported failed, their files removed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg

from lakegate_chassis.logs import log
from lakegate_chassis.postgres import connection as acquire
from lakegate_chassis.postgres import tenant_transaction
from lakegate_contracts.receipts import LoadState
from lakegate_ingest.commit.committer import Committer, OutcomeUnprovable
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.errors import CatalogRefused, CatalogUnavailable, DelegationExpired, LoadInterrupted
from lakegate_ingest.loads import queries
from lakegate_ingest.loads.copies import Copies, is_copied
from lakegate_ingest.loads.jobs import Jobs
from lakegate_ingest.loads.live import LiveLoads
from lakegate_ingest.loads.outcome import Outcomes
from lakegate_ingest.loads.pipeline import delete_files, is_complete, plan_of
from lakegate_ingest.loads.queries import LoadRow
from lakegate_ingest.metrics import CATALOG_UP, ORPHANS, RECOVERED
from lakegate_ingest.settings import JobSettings
from lakegate_ingest.spool.folders import Spool

CLEANUPS_A_SWEEP = 20
# Each look lists the spool in the object store.
STRAY_LOOK_SECONDS = 600.0


class SpoolInUse(Exception):
    """Another process works in this spool folder."""


class SpoolOwner:
    """A lock on the spool: while it is held, the owner named in the file before is known to be dead."""

    def __init__(self, spool: Path) -> None:
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        path = spool / ".owner"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fd)
            raise SpoolInUse(
                f"another ingest process uses the spool {spool}; give each its own INGEST_SPOOL__DIR"
            ) from error
        self.former = os.read(self._fd, 1024).decode("utf-8", "replace").strip()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, self.owner.encode(), 0)

    def release(self) -> None:
        os.close(self._fd)


class Recovery:
    """Run once at start and then as a sweep; several processes may do so at once."""

    def __init__(
        self,
        *,
        pool: asyncpg.Pool,
        spool: Spool,
        live: LiveLoads,
        jobs: Jobs,
        outcomes: Outcomes,
        committer: Committer,
        settings: JobSettings,
        owner: SpoolOwner,
        warehouse: Warehouse,
        copies: Copies,
    ) -> None:
        self._copies = copies
        self._next_stray_look = 0.0
        self._warehouse = warehouse
        self._pool = pool
        self._spool = spool
        self._live = live
        self._jobs = jobs
        self._outcomes = outcomes
        self._committer = committer
        self._settings = settings
        self._owner = owner

    async def at_start(self) -> None:
        """Take over at once what the process before us in this spool left behind."""
        if self._owner.former:
            async with acquire(self._pool) as connection:
                taken = await queries.take_leases_of(connection, self._owner.owner, self._owner.former)
            await self._recover_all(taken)
        await self._remove_stray_folders()

    async def beat(self) -> None:
        """Keep this process's leases; runs until cancelled."""
        while True:
            async with acquire(self._pool) as connection:
                await queries.beat(connection, self._owner.owner)
            await asyncio.sleep(self._settings.heartbeat_seconds)

    async def sweep(self) -> None:
        """Look for loads of dead owners, stray spool folders and files to delete; runs until cancelled."""
        while True:
            await self.sweep_once()
            CATALOG_UP.set(await self._committer.reaches_catalog())
            await asyncio.sleep(self._settings.sweep_seconds)

    async def sweep_once(self) -> None:
        async with acquire(self._pool) as connection:
            taken = await queries.take_stale_leases(connection, self._owner.owner, self._settings.lease_seconds)
            # A load of ours that nobody here works on: its INSERT was done, and the answer to it lost.
            ours = await queries.leases_of(connection, self._owner.owner)
        await self._recover_all(list(dict.fromkeys([*taken, *ours])))
        await self._remove_stray_folders()
        await self._remove_stray_copies()
        async with acquire(self._pool) as connection:
            due = await queries.due_cleanups(connection, CLEANUPS_A_SWEEP)
        for load_id, tenant in due:
            await self._clean(load_id, tenant)

    async def _recover_all(self, taken: list[tuple[UUID, str]]) -> None:
        for load_id, tenant in taken:
            if self._live.get(load_id) is None:
                await self._recover(load_id, tenant)

    async def _recover(self, load_id: UUID, tenant: str) -> None:
        async with tenant_transaction(self._pool, tenant) as connection:
            load = await queries.get_load(connection, load_id)
        if load is None or load.state in queries.ENDED:
            async with acquire(self._pool) as connection:
                await queries.drop_lease(connection, load_id)
            return
        if await self._can_be_resumed(load):
            live = self._live.take_over(load_id, tenant)
            live.state = "queued" if load.state is LoadState.READING else load.state.value
            self._jobs.submit(live)
            action = "resumed"
        else:
            what = "its body had arrived" if load.state is LoadState.RECEIVING else "it was committed"
            await self._outcomes.fail(
                load,
                LoadInterrupted(f"This load was interrupted before {what}. Nothing was loaded; send it again."),
            )
            await asyncio.to_thread(self._spool.remove, load_id)
            action = "failed"
        RECOVERED.labels(action).inc()
        log.info("load_recovered", load_id=str(load_id), state=load.state.value, action=action)

    async def _can_be_resumed(self, load: LoadRow) -> bool:
        if load.state is LoadState.COMMITTING or load.options.source is not None:
            return True
        if load.state is LoadState.RECEIVING:
            return False
        return is_copied(load.files) or await asyncio.to_thread(is_complete, self._spool.path(load.load_id), load.files)

    async def _remove_stray_copies(self) -> None:
        """Copies in the object store that no lease stands behind: the process ended between load and deletion."""
        now = asyncio.get_running_loop().time()
        if now < self._next_stray_look:
            return
        self._next_stray_look = now + STRAY_LOOK_SECONDS
        strays = await self._copies.strays()
        if not strays:
            return
        async with acquire(self._pool) as connection:
            kept = await queries.leased(connection, list(strays))
        for load_id, tenant in strays.items():
            if load_id not in kept:
                await self._copies.remove_stray(load_id, tenant)

    async def _remove_stray_folders(self) -> None:
        """Folders that no lease and no load of ours stands behind: the lease is written before its folder is made."""
        folders = await asyncio.to_thread(self._spool.on_disk)
        unknown = [load_id for load_id in folders if self._live.get(load_id) is None]
        if not unknown:
            return
        async with acquire(self._pool) as connection:
            kept = await queries.leased(connection, unknown)
        for load_id in unknown:
            if load_id not in kept and self._live.get(load_id) is None:
                await asyncio.to_thread(self._spool.remove, load_id)

    async def _clean(self, load_id: UUID, tenant: str) -> None:
        """Delete the files of a failed load, after making sure that no snapshot has them."""
        async with tenant_transaction(self._pool, tenant) as connection:
            load = await queries.get_load(connection, load_id)
        if load is not None and load.intent is not None:
            try:
                if load.intent.snapshot_id is not None:
                    plan = plan_of(load, load.intent, self._spool.path(load_id))
                    if await self._committer.is_committed(plan):
                        log.error("failed_load_is_committed", load_id=str(load_id), snapshot_id=plan.snapshot_id)
                        return
            except (CatalogUnavailable, CatalogRefused):
                return  # put off by an hour when it was taken
            except OutcomeUnprovable as error:
                log.error("orphans_kept", load_id=str(load_id), reason=str(error))
            except DelegationExpired:
                log.error("orphans_kept", load_id=str(load_id), reason="delegation expired, so the table can't be read")
            else:
                ORPHANS.inc(await asyncio.to_thread(delete_files, self._warehouse, load, load.intent))
        async with tenant_transaction(self._pool, tenant) as connection:
            await queries.end_cleanup(connection, load_id)
