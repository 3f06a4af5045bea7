"""The adapters that the contract of the event log is run against, each on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from lakegate_chassis.eventlog import Event, PostgresEventLog, make_event
from lakegate_chassis.eventlog.membership import LEASE
from lakegate_chassis.eventlog.wakeups import EVENTS
from lakegate_chassis.postgres import open_pool
from lakegate_chassis.settings import PostgresSettings
from lakegate_contracts.events import RunEventObserved


class PostgresAdapter:
    """`open` is a process of its own as far as the server can tell; the rest is what happens to processes."""

    def __init__(self, url: str, admin: asyncpg.Connection, stack: AsyncExitStack) -> None:
        self._url = url
        self._admin = admin
        self._stack = stack
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> PostgresEventLog:
        pool = await open_pool(PostgresSettings(url=self._url), "catalog")
        self._stack.push_async_callback(pool.close)
        self._pool = pool
        return PostgresEventLog(pool)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        assert self._pool is not None
        async with self._pool.acquire() as connection, connection.transaction():
            yield connection

    async def kill_member(self, group: str) -> None:
        """The connection that holds the group's lease ends, as it does when its process is killed."""
        killed = await self._admin.fetchval(
            f"""
            SELECT bool_and(pg_terminate_backend(pid, 5000)) FROM pg_locks
            WHERE locktype = 'advisory' AND granted AND ((classid::bigint << 32) | objid::bigint) = {LEASE}
            """,
            group,
        )
        assert killed

    async def kill_listeners(self) -> int:
        return await self._admin.fetchval(
            """
            SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
            WHERE query LIKE 'LISTEN%' AND datname = current_database()
            """
        )

    async def has_listener(self) -> bool:
        return await self._admin.fetchval(
            """
            SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database())
            """
        )

    async def age(self, topic: str, days: int) -> None:
        await self._admin.execute(
            "UPDATE eventlog.events SET time = now() - make_interval(days => $2) WHERE topic = $1", topic, days
        )


@pytest.fixture(params=["postgres"])
async def adapter(request: pytest.FixtureRequest, database: Any) -> AsyncIterator[PostgresAdapter]:
    assert EVENTS
    async with AsyncExitStack() as stack:
        admin = await asyncpg.connect(database.admin_url)
        stack.push_async_callback(admin.close)
        yield PostgresAdapter(database.url("catalog"), admin, stack)


@pytest.fixture
async def log(adapter: PostgresAdapter) -> PostgresEventLog:
    return await adapter.open()


class Topic:
    """A topic and a group that no other test uses, and a way to publish to it."""

    def __init__(self, log: PostgresEventLog, adapter: PostgresAdapter) -> None:
        self.name = f"topic-{uuid4()}"
        self.group = f"group-{uuid4()}"
        self._log = log
        self._adapter = adapter

    def event(self, number: int, key: str = "k", **data: Any) -> Event:
        event = make_event(RunEventObserved(event={"number": number, **data}), key=key, tenant="default", source="test")
        return Event(**{**_fields(event), "topic": self.name})

    async def publish(self, *numbers: int, key: str = "k", **data: Any) -> list[Event]:
        events = [self.event(number, key, **data) for number in numbers]
        async with self._adapter.transaction() as transaction:
            await self._log.publish(transaction, *events)
        return events

    async def read(self, after: int = 0) -> list[Event]:
        return [event async for batch in self._log.read([self.name], after, limit=7, follow=False) for event in batch]


def _fields(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Event.__dataclass_fields__}


@pytest.fixture
async def topic(log: PostgresEventLog, adapter: PostgresAdapter) -> Topic:
    return Topic(log, adapter)
