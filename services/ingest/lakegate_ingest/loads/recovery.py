"""What a process does for the dead: their loads are resumed, settled or reported failed, their folders removed."""

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
from lakegate_ingest.commit.committer import Committer
from lakegate_ingest.errors import LoadInterrupted
from lakegate_ingest.loads import queries
from lakegate_ingest.loads.copies import is_copied
from lakegate_ingest.loads.jobs import Jobs
from lakegate_ingest.loads.live import LiveLoads
from lakegate_ingest.loads.outcome import Outcomes
from lakegate_ingest.loads.pipeline import is_complete
from lakegate_ingest.loads.queries import LoadRow
from lakegate_ingest.metrics import CATALOG_UP, RECOVERED
from lakegate_ingest.settings import JobSettings
from lakegate_ingest.spool.folders import Spool


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
    ) -> None:
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
        """Keep this process's leases, and hear of loads that were called off elsewhere; runs until cancelled."""
        while True:
            async with acquire(self._pool) as connection:
                cancelled = await queries.beat(connection, self._owner.owner)
            for load_id in cancelled:
                live = self._live.get(load_id)
                if live is not None:
                    live.call_off()
            await asyncio.sleep(self._settings.heartbeat_seconds)

    async def sweep(self) -> None:
        """Look for loads of dead owners and stray spool folders; runs until cancelled."""
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
            live.size_bytes = sum(file.size_bytes for file in load.files)
            live.shared = is_copied(load.files) or load.options.source is not None
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
