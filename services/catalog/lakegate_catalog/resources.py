"""What the process holds while it runs: opened once, closed once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from lakegate_catalog.datasets.service import Datasets
from lakegate_catalog.files.grants import Grants
from lakegate_catalog.files.objects import Objects
from lakegate_catalog.files.slots import Slots
from lakegate_catalog.files.uploads import Uploads
from lakegate_catalog.iceberg.commits import Commits
from lakegate_catalog.iceberg.metadata import Warehouse
from lakegate_catalog.iceberg.namespaces import Namespaces
from lakegate_catalog.iceberg.tables import Tables
from lakegate_catalog.search.index import SearchIndex
from lakegate_catalog.search.replica import SearchReplica
from lakegate_catalog.settings import CatalogSettings
from lakegate_catalog.store.entities import Entities
from lakegate_catalog.store.mongodb.adapter import MongoCatalogStore, MongoOutbox, open_mongodb
from lakegate_catalog.store.mongodb.relay import Relay
from lakegate_catalog.store.port import CatalogStore
from lakegate_catalog.store.postgres import PostgresCatalogStore
from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import open_event_log
from lakegate_chassis.health import Check
from lakegate_chassis.postgres import close_pool, open_pool, ping

STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Resources:
    """`checks` say whether the servers are there that nothing works without."""

    settings: CatalogSettings
    checks: dict[str, Check]
    namespaces: Namespaces
    tables: Tables
    commits: Commits
    datasets: Datasets
    replica: SearchReplica
    grants: Grants
    objects: Objects
    uploads: Uploads
    slots: Slots


@asynccontextmanager
async def open_resources(settings: CatalogSettings) -> AsyncIterator[Resources]:
    """Open everything and start what runs in the background; all of it ends with the block."""
    async with AsyncExitStack() as stack:
        pool = await open_pool(settings.postgres, "catalog")
        stack.push_async_callback(close_pool, pool)
        background = Background()
        event_log = open_event_log(pool, settings.kafka, background)
        checks: dict[str, Check] = {"postgres": lambda: ping(pool)}
        index_folder = settings.search.dir
        loops: dict[str, Callable[[], Awaitable[None]]] = {}
        store: CatalogStore = PostgresCatalogStore(pool, event_log)
        if settings.store.mongodb.url is not None:
            collections = await stack.enter_async_context(open_mongodb(settings.store.mongodb))
            relay = Relay(MongoOutbox(collections), event_log, pool)
            store = MongoCatalogStore(collections, relay)
            checks["mongodb"] = collections.ping
            loops["catalog_relay"] = relay.run
            # the index of one store goes on from a position that says nothing of what the other holds
            index_folder = index_folder / "mongodb"
        entities = Entities(store)
        namespaces = Namespaces(entities)
        warehouse = Warehouse(settings.warehouse, settings.objects, settings.metadata.cache_bytes)
        tables = Tables(entities, namespaces, warehouse)
        grants = Grants(settings.files, warehouse.root)
        objects = Objects(warehouse.store)
        uploads = Uploads(objects)
        if grants.enabled and settings.sweeps_in_process:
            loops["upload_parts"] = uploads.sweep
        index = await asyncio.to_thread(SearchIndex, index_folder, settings.search.heap_bytes)
        stack.push_async_callback(asyncio.to_thread, index.close)
        stack.push_async_callback(tables.finish)
        replica = SearchReplica(index, store, event_log, settings.search.commit_interval_seconds)
        loops["search_replica"] = replica.run
        stack.push_async_callback(background.stop, STOP_SECONDS)
        for name, run in loops.items():
            background.start(name, run)
        yield Resources(
            settings,
            checks,
            namespaces,
            tables,
            Commits(tables, settings.metadata),
            Datasets(entities),
            replica,
            grants,
            objects,
            uploads,
            Slots(settings.files.slots),
        )
