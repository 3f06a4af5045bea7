"""Loads go after a time, with their receipts and rejected rows; idempotency keys as soon as they have expired."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from uuid import UUID

import asyncpg

from lakegate_chassis.logs import log
from lakegate_chassis.postgres import connection, tenant_transaction
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.loads import queries
from lakegate_ingest.metrics import PRUNED

BATCH = 500


class LoadRetention:
    """Run it under Background; several processes at once do no harm."""

    def __init__(
        self, pool: asyncpg.Pool, warehouse: Warehouse, *, keep: timedelta, every_seconds: float = 3600.0
    ) -> None:
        self._pool = pool
        self._warehouse = warehouse
        self._keep = keep
        self._every_seconds = every_seconds

    async def run(self) -> None:
        while True:
            loads, keys = await self.prune()
            if loads or keys:
                log.info("loads_pruned", loads=loads, idempotency_keys=keys)
            # jitter, so that replicas started together don't delete together
            await asyncio.sleep(self._every_seconds * random.uniform(0.8, 1.2))  # noqa: S311

    async def prune(self) -> tuple[int, int]:
        """One pass in short transactions; returns how many loads and how many idempotency keys were deleted."""
        return await self._prune_loads(), await self._prune_keys()

    async def _prune_loads(self) -> int:
        total = 0
        while True:
            async with connection(self._pool) as acquired:
                old = await queries.old_loads(acquired, self._keep, BATCH)
            for load_id, tenant in old:
                await self._forget(load_id, tenant)
            total += len(old)
            if len(old) < BATCH:
                return total

    async def _forget(self, load_id: UUID, tenant: str) -> None:
        """Files first: a row whose files are gone is found again, files that no row names would stay for ever."""
        async with tenant_transaction(self._pool, tenant) as acquired:
            files = await queries.quarantine_files(acquired, load_id)
        PRUNED.labels("quarantine files").inc(
            await asyncio.to_thread(self._warehouse.delete, [url for _, url in files])
        )
        async with tenant_transaction(self._pool, tenant) as acquired:
            await queries.forget_load(acquired, load_id)
        PRUNED.labels("loads").inc()

    async def _prune_keys(self) -> int:
        total = 0
        while True:
            async with connection(self._pool) as acquired:
                pruned = await queries.prune_idempotency_keys(acquired, BATCH)
            PRUNED.labels("idempotency keys").inc(pruned)
            total += pruned
            if pruned < BATCH:
                return total
