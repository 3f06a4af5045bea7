"""What the process holds while it runs: opened once, closed once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from lakegate_catalog.datasets.service import Datasets
from lakegate_catalog.iceberg.commits import Commits
from lakegate_catalog.iceberg.metadata import Warehouse
from lakegate_catalog.iceberg.namespaces import Namespaces
from lakegate_catalog.iceberg.tables import Tables
from lakegate_catalog.search.index import SearchIndex
from lakegate_catalog.search.replica import SearchReplica
from lakegate_catalog.settings import CatalogSettings
from lakegate_catalog.store.entities import Entities
from lakegate_catalog.store.postgres import PostgresCatalogStore
from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import open_event_log
from lakegate_chassis.postgres import close_pool, open_pool

STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Resources:
    settings: CatalogSettings
    pool: asyncpg.Pool
    namespaces: Namespaces
    tables: Tables
    commits: Commits
    datasets: Datasets
    replica: SearchReplica


@asynccontextmanager
async def open_resources(settings: CatalogSettings) -> AsyncIterator[Resources]:
    """Open everything and start the search replica; both end with the block."""
    pool = await open_pool(settings.postgres, "catalog")
    try:
        background = Background()
        event_log = open_event_log(pool, settings.kafka, background)
        store = PostgresCatalogStore(pool, event_log)
        entities = Entities(store)
        namespaces = Namespaces(entities)
        tables = Tables(entities, namespaces, Warehouse(settings.warehouse, settings.metadata.cache_bytes))
        index = await asyncio.to_thread(SearchIndex, settings.search.dir, settings.search.heap_bytes)
        replica = SearchReplica(index, store, event_log, settings.search.commit_interval_seconds)
        background.start("search_replica", replica.run)
        try:
            yield Resources(settings, pool, namespaces, tables, Commits(tables), Datasets(entities), replica)
        finally:
            await background.stop(STOP_SECONDS)
            await tables.finish()
            await asyncio.to_thread(index.close)
    finally:
        await close_pool(pool)
