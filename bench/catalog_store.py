"""The catalog store on PostgreSQL and on MongoDB: appends with and without an event, and a backlog of the relay.

python -m bench.catalog_store [--mongodb mongodb://127.0.0.1:27017] [--appends 1000] [--writers 8] [--backlog 20000]

Without an address (or LAKEGATE_TEST_MONGODB) it measures PostgreSQL alone and says so.

MongoDB is whatever answers there; a stand-in's numbers say what the adapter and the relay cost, not what MongoDB does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from lakegate.embedded.postgres import EmbeddedPostgres
from lakegate_catalog.settings import MongoSettings
from lakegate_catalog.store.mongodb.adapter import Collections, MongoCatalogStore, MongoOutbox, open_mongodb
from lakegate_catalog.store.mongodb.documents import from_change
from lakegate_catalog.store.mongodb.relay import Relay
from lakegate_catalog.store.port import CatalogStore, Change, Space
from lakegate_catalog.store.postgres import PostgresCatalogStore
from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import PostgresEventLog, make_event
from lakegate_chassis.postgres import open_pool
from lakegate_chassis.provision import provision
from lakegate_chassis.settings import PostgresSettings
from lakegate_chassis.testing import eventually
from lakegate_contracts.events import DatasetChanged

Measure = Callable[[str, CatalogStore], Awaitable[None]]
FIELDS = [{"name": f"column_{number}", "type": "double", "nullable": True, "field_id": number} for number in range(19)]


def change(entity_id: UUID, sequence: int, *, told: bool) -> Change:
    now = datetime.now(UTC)
    dataset = {"id": str(entity_id), "namespace": "n", "name": "a", "version": sequence, "schema": {"fields": FIELDS}}
    event = DatasetChanged(
        dataset_id=entity_id, version=sequence, kind="k", namespace="n", name="a", dataset=dataset, changed_at=now
    )
    return Change("bench", entity_id, sequence, "committed", Space.DATASET, "a", dataset, now, event if told else None)


async def appends(store: CatalogStore, count: int, writers: int, *, told: bool) -> tuple[float, float]:
    """Appends a second, and the median's milliseconds; each writer has an entity of its own."""
    spent: list[float] = []

    async def write() -> None:
        entity_id = uuid4()
        for sequence in range(1, count // writers + 1):
            began = perf_counter()
            appended = await store.append(change(entity_id, sequence, told=told))
            spent.append(perf_counter() - began)
            assert (appended.position is not None) == told

    began = perf_counter()
    await asyncio.gather(*(write() for _ in range(writers)))
    return len(spent) / (perf_counter() - began), sorted(spent)[len(spent) // 2] * 1000


async def backlog(collections: Collections, relay: Relay, count: int) -> float:
    """Events a second from a backlog of `count` changes, ten to a dataset, to the log."""
    old = datetime.now(UTC) - timedelta(hours=1)
    for first in range(0, count, 1000):
        documents = []
        for number in range(first, min(first + 1000, count)):
            made = change(UUID(int=number // 10), number % 10 + 1, told=True)
            assert made.event
            event = make_event(made.event, key=str(made.entity_id), tenant="bench", source="bench")
            documents.append(from_change(made, event, old + timedelta(milliseconds=number)))
        await collections.changes.insert_many(documents)
    background = Background()
    outbox = MongoOutbox(collections)
    began = perf_counter()
    background.start("relay", relay.run)

    async def drained() -> bool:
        return not await outbox.left_behind(datetime.now(UTC), 1)

    await eventually(drained, within_seconds=600)
    spent = perf_counter() - began
    await background.stop()
    return count / spent


@contextmanager
def postgres() -> Iterator[str]:
    """A superuser's URL."""
    with tempfile.TemporaryDirectory(prefix="lakegate-bench-") as folder:
        # as root, PostgreSQL runs as another user who has to pass through
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "pg")
        yield server.start()
        server.stop()


@asynccontextmanager
async def catalog_pool(admin_url: str) -> AsyncIterator[asyncpg.Pool]:
    urls = await provision(admin_url, {"catalog": secrets.token_hex(12)}, database="bench")
    pool = await open_pool(PostgresSettings(url=SecretStr(urls["catalog"])), "catalog")
    yield pool
    await pool.close()


async def with_mongodb(
    arguments: Any, settings: MongoSettings, log: PostgresEventLog, pool: asyncpg.Pool, measure: Measure
) -> None:
    async with open_mongodb(settings) as collections:
        relay = Relay(MongoOutbox(collections), log, pool)
        background = Background()
        background.start("relay", relay.run)
        await measure("MongoDB", MongoCatalogStore(collections, relay))
        await background.stop()
        drained = await backlog(collections, Relay(MongoOutbox(collections), log, pool), arguments.backlog)
        Console().print(f"backlog of {arguments.backlog:,}: {drained:,.0f} events/s")
        await collections.changes.database.client.drop_database(settings.database)


async def main(arguments: Any, admin_url: str) -> None:
    table = Table("store", "event", "appends/s", "p50 ms", title=f"{arguments.writers} writers")
    console = Console()

    async def measure(name: str, store: CatalogStore) -> None:
        await appends(store, 100, arguments.writers, told=True)  # warm
        for told in (False, True):
            rate, middle = await appends(store, arguments.appends, arguments.writers, told=told)
            table.add_row(name, "yes" if told else "no", f"{rate:,.0f}", f"{middle:.2f}")

    async with catalog_pool(admin_url) as pool:
        log = PostgresEventLog(pool)
        await measure("PostgreSQL", PostgresCatalogStore(pool, log))
        if arguments.mongodb is None:
            console.print(table)
            console.print("No address of a MongoDB was given: it is left out.")
            return
        settings = MongoSettings(url=SecretStr(arguments.mongodb), database=f"lakegate_bench_{secrets.token_hex(4)}")
        await with_mongodb(arguments, settings, log, pool, measure)
        console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mongodb", default=os.environ.get("LAKEGATE_TEST_MONGODB"))
    parser.add_argument("--appends", type=int, default=1000)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--backlog", type=int, default=20_000)
    given = parser.parse_args()
    with postgres() as server_url:
        asyncio.run(main(given, server_url))
