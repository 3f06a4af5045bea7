"""Notifications come again, whatever becomes of the connection that they come by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr

from lakegate_chassis.eventlog import wakeups
from lakegate_chassis.eventlog.wakeups import EVENTS, Wakeups
from lakegate_chassis.postgres import close_pool, open_pool
from lakegate_chassis.settings import PostgresSettings
from lakegate_chassis.testing import eventually


class Network:
    """Between a service and its PostgreSQL: connections that are open may come to pass nothing on any more."""

    def __init__(self, server: str) -> None:
        self._server = urlsplit(server)
        self.url = ""
        self._passing: set[asyncio.Task[None]] = set()

    def url_at(self, port: int) -> str:
        login = f"{self._server.username}:{self._server.password}"
        return self._server._replace(netloc=f"{login}@127.0.0.1:{port}").geturl()

    async def between(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self._server.hostname, self._server.port)
        for source, sink in ((reader, to_server), (from_server, writer)):
            self._passing.add(asyncio.create_task(_pass_on(source, sink)))

    def lose_what_is_under_way(self) -> None:
        for task in self._passing:
            task.cancel()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@asynccontextmanager
async def pool_at(url: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(
        PostgresSettings(url=SecretStr(url), pool_min=0, pool_max=2, statement_timeout_seconds=0.5), "catalog"
    )
    try:
        yield pool
    finally:
        await close_pool(pool)


async def notified(woken: Wakeups, admin: asyncpg.Connection) -> None:
    ticket = woken.ticket(EVENTS)

    async def comes() -> bool:
        await admin.execute(f"SELECT pg_notify('{EVENTS}', '')")
        return await woken.wait(EVENTS, ticket, 0.2)

    await eventually(comes)


@pytest.fixture
async def admin(database: Any) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.url("catalog"))
    yield connection
    await connection.close()


@pytest.fixture
async def network(database: Any) -> AsyncIterator[Network]:
    made = Network(database.url("catalog"))
    async with await asyncio.start_server(made.between, "127.0.0.1", 0) as server:
        made.url = made.url_at(server.sockets[0].getsockname()[1])
        yield made
        made.lose_what_is_under_way()


async def test_a_server_that_went_with_the_network_is_missed(
    network: Network, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "_QUIET_SECONDS", 0.5)
    async with pool_at(network.url) as pool:
        woken = Wakeups(pool)
        async with woken.listening():
            await notified(woken, admin)
            network.lose_what_is_under_way()
            await notified(woken, admin)


async def test_the_last_reader_leaves_although_the_server_went_with_the_network(network: Network, admin: Any) -> None:
    async with pool_at(network.url) as pool:
        woken = Wakeups(pool)

        async def read() -> None:
            async with woken.listening():
                await notified(woken, admin)
                network.lose_what_is_under_way()

        reading = asyncio.create_task(read())
        await eventually(reading.done)
        await reading


class Dying:
    """A pool whose first connection is found in no state to be used, as asyncpg says of one whose server died."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._died = False

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        async with self._pool.acquire() as connection:
            if not self._died:
                self._died = True
                raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")
            yield connection


async def test_a_server_that_died_between_two_messages_is_listened_to_again(database: Any, admin: Any) -> None:
    async with pool_at(database.url("catalog")) as pool:
        woken = Wakeups(Dying(pool))
        async with woken.listening():
            await notified(woken, admin)
