"""What loads leave where all replicas see it: files of failed ones in the warehouse, copies in the object store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import asyncpg

from lakegate_chassis.logs import log
from lakegate_chassis.postgres import connection as acquire
from lakegate_chassis.postgres import tenant_transaction
from lakegate_ingest.commit.committer import Committer, OutcomeUnprovable
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.errors import CatalogRefused, CatalogUnavailable, DelegationExpired, StoreUnavailable
from lakegate_ingest.loads import queries
from lakegate_ingest.loads.pipeline import delete_files, plan_of
from lakegate_ingest.metrics import ORPHANS
from lakegate_ingest.spool.remote import RemoteSpool

CLEANUPS_A_SWEEP = 20
# Each look lists the spool in the object store.
STRAY_LOOK_SECONDS = 600.0
# Nothing is read of it: a plan names files that were to be moved from there.
_NO_FOLDER = Path()


class Leftovers:
    """Run it under Background, or once; several at once do no harm. `remote` is None without an object store."""

    def __init__(
        self, pool: asyncpg.Pool, committer: Committer, warehouse: Warehouse, remote: RemoteSpool | None
    ) -> None:
        self._pool = pool
        self._committer = committer
        self._warehouse = warehouse
        self._remote = remote

    async def run(self, every_seconds: float) -> None:
        """Until cancelled."""
        next_stray_look = 0.0
        while True:
            await self.clean_due()
            now = asyncio.get_running_loop().time()
            if now >= next_stray_look:
                next_stray_look = now + STRAY_LOOK_SECONDS
                await self.remove_stray_copies()
            await asyncio.sleep(every_seconds)

    async def clean_due(self) -> int:
        """Files of failed loads that are due; a number of them at a time. How many loads there were."""
        async with acquire(self._pool) as connection:
            due = await queries.due_cleanups(connection, CLEANUPS_A_SWEEP)
        for load_id, tenant in due:
            await self._clean(load_id, tenant)
        return len(due)

    async def clean_all_due(self) -> int:
        """Until none is left; each is put off as it is taken, so this ends."""
        total = 0
        while cleaned := await self.clean_due():
            total += cleaned
        return total

    async def remove_stray_copies(self) -> int:
        """Copies in the object store that no lease stands behind: the process ended between load and deletion."""
        remote = self._remote
        if remote is None:
            return 0
        try:
            strays = await asyncio.to_thread(remote.strays)
        except StoreUnavailable:
            log.warning("stray_copies_wait", reason="object store unavailable")
            return 0
        if not strays:
            return 0
        async with acquire(self._pool) as connection:
            kept = await queries.leased(connection, list(strays))
        removed = 0
        for load_id, tenant in strays.items():
            if load_id in kept:
                continue
            try:
                await asyncio.to_thread(remote.remove, tenant, load_id)
            except StoreUnavailable:
                log.warning("spool_copy_left", load_id=str(load_id))
            else:
                removed += 1
        return removed

    async def _clean(self, load_id: UUID, tenant: str) -> None:
        """Delete the files of a failed load, after making sure that no snapshot has them."""
        async with tenant_transaction(self._pool, tenant) as connection:
            load = await queries.get_load(connection, load_id)
        if load is not None and load.intent is not None:
            try:
                if load.intent.snapshot_id is not None:
                    plan = plan_of(load, load.intent, _NO_FOLDER)
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
