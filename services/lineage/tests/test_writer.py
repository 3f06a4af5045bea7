"""The event writer under pressure: a full queue, a database that is away, a stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from lakegate_chassis.postgres import open_pool, tenant_transaction
from lakegate_chassis.problems import Unavailable
from lakegate_chassis.settings import PostgresSettings
from lakegate_chassis.testing import eventually, serving
from lakegate_lineage.app import create_app
from lakegate_lineage.errors import LineageOverloaded
from lakegate_lineage.events.openlineage import Event, parse_event
from lakegate_lineage.events.writer import EventWriter
from lakegate_lineage.settings import EventSettings, LineageSettings


def event(number: int) -> Event:
    return parse_event(
        orjson.dumps(
            {
                "eventTime": "2026-03-01T12:00:00Z",
                "producer": "https://producer.example/1",
                "job": {"namespace": "etl", "name": f"job{number}"},
            }
        )
    )


@asynccontextmanager
async def table_locked(pool: asyncpg.Pool, database: Any) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
    """Hold every write back until the block is left; what is given tells whether one waits."""
    admin = await asyncpg.connect(database.admin_url)

    async def holds_one() -> bool:
        waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'lineage.events'::regclass)"
        return bool(await admin.fetchval(waiting))

    async with admin.transaction():
        await admin.execute("LOCK TABLE lineage.events IN SHARE MODE")
        yield holds_one
    await admin.close()


def queued() -> float:
    return REGISTRY.get_sample_value("lakegate_lineage_events_queued") or 0.0


async def test_events_that_gather_while_one_is_committed_share_a_transaction(
    pool: asyncpg.Pool, database: Any, tenant: str
) -> None:
    writer = EventWriter(pool, EventSettings())
    loop = asyncio.create_task(writer.run())
    async with table_locked(pool, database) as holds_one:
        first = asyncio.create_task(writer.write(tenant, [event(0)]))
        await eventually(holds_one)
        rest = [asyncio.create_task(writer.write(tenant, [event(number)])) for number in range(1, 40)]
    assert await asyncio.gather(first, *rest) == [[None]] * 40
    async with tenant_transaction(pool, tenant) as connection:
        # rows of one transaction carry its id
        assert await connection.fetchval("SELECT count(DISTINCT xmin::text) FROM jobs") <= 2
        assert await connection.fetchval("SELECT count(*) FROM jobs") == 40
    loop.cancel()


async def test_a_full_queue_sheds_with_503_and_retry_after(
    settings: LineageSettings, pool: asyncpg.Pool, database: Any, token: Any
) -> None:
    small = settings.model_copy(update={"events": EventSettings(queue_events=3, flush_events=1)})
    headers = {"Authorization": f"Bearer {token()}"}
    async with (
        serving(create_app(small)) as url,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client,
    ):
        async with table_locked(pool, database):
            posts = [
                asyncio.create_task(client.post("/api/v1/lineage", content=event(number).body)) for number in range(12)
            ]
            # one is being written and three wait
            await eventually(lambda: sum(not task.done() for task in posts) <= 4)
            answers = [task.result() for task in posts if task.done()]
            assert len(answers) >= 8
            assert {answer.status_code for answer in answers} == {503}
            assert {answer.headers["retry-after"] for answer in answers} == {"1"}
            assert {answer.json()["type"] for answer in answers} == {"/problems/lineage-overloaded"}
        kept = [await task for task in posts]
    assert sorted({answer.status_code for answer in kept}) == [201, 503]


async def test_one_batch_larger_than_the_queue_is_still_taken_when_nothing_waits(
    pool: asyncpg.Pool, tenant: str
) -> None:
    writer = EventWriter(pool, EventSettings(queue_events=2))
    loop = asyncio.create_task(writer.run())
    assert await writer.write(tenant, [event(number) for number in range(10)]) == [None] * 10
    loop.cancel()


async def test_what_waits_when_the_writer_stops_is_answered_unavailable(
    pool: asyncpg.Pool, database: Any, tenant: str
) -> None:
    writer = EventWriter(pool, EventSettings())
    loop = asyncio.create_task(writer.run())
    async with table_locked(pool, database) as holds_one:
        taken = asyncio.create_task(writer.write(tenant, [event(1)]))
        await eventually(holds_one)
        before = queued()
        waiting = asyncio.create_task(writer.write(tenant, [event(2)]))
        await eventually(lambda: queued() == before + 1)
        loop.cancel()
        for answer in (taken, waiting):
            with pytest.raises(Unavailable):
                await answer


async def test_a_database_that_is_away_is_answered_unavailable_and_the_writer_goes_on(
    database: Any, pool: asyncpg.Pool, tenant: str
) -> None:
    own = await open_pool(PostgresSettings(url=SecretStr(database.url("lineage")), pool_max=1), "lineage")
    writer = EventWriter(own, EventSettings())
    loop = asyncio.create_task(writer.run())
    assert await writer.write(tenant, [event(0)]) == [None]
    admin = await asyncpg.connect(database.admin_url)
    async with own.acquire() as connection:
        victim = connection.get_server_pid()
    async with table_locked(pool, database) as holds_one:
        hit = asyncio.create_task(writer.write(tenant, [event(1)]))
        await eventually(holds_one)
        await admin.execute("SELECT pg_terminate_backend($1)", victim)
        with pytest.raises(Unavailable):
            await hit
    await admin.close()
    assert await writer.write(tenant, [event(1)]) == [None]
    loop.cancel()
    await own.close()


async def test_shedding_counts_bytes_too(pool: asyncpg.Pool, tenant: str) -> None:
    writer = EventWriter(pool, EventSettings(queue_bytes=1024))
    before = queued()
    first = asyncio.create_task(writer.write(tenant, [event(number) for number in range(20)]))
    await eventually(lambda: queued() == before + 20)
    with pytest.raises(LineageOverloaded):
        await writer.write(tenant, [event(1)])
    first.cancel()
