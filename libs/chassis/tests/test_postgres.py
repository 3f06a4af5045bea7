from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from lakegate_chassis.postgres import close_pool, connection, open_pool
from lakegate_chassis.problems import Unavailable
from lakegate_chassis.settings import PostgresSettings


async def test_a_connection_in_no_state_to_be_used_is_unavailable_and_goes_to_nobody_else(database: Any) -> None:
    """What asyncpg says when the server dies between two messages, before the end of the connection is seen."""
    pool = await open_pool(PostgresSettings(url=SecretStr(database.url("catalog")), pool_max=1), "catalog")
    pids: list[int] = []

    async def meet_it() -> None:
        async with connection(pool) as broken:
            pids.append(broken.get_server_pid())
            raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")

    try:
        with pytest.raises(Unavailable):
            await meet_it()
        async with connection(pool) as another:
            assert another.get_server_pid() not in pids
    finally:
        await close_pool(pool)


async def test_what_was_committed_stays_so_when_the_server_takes_the_connection_before_it_is_back(
    database: Any, postgres_admin_url: str
) -> None:
    pool = await open_pool(PostgresSettings(url=SecretStr(database.url("catalog")), pool_max=1), "catalog")
    admin = await asyncpg.connect(postgres_admin_url)
    try:
        async with connection(pool) as doomed:
            pid = doomed.get_server_pid()
            assert await doomed.fetchval("SELECT 1") == 1
            await admin.execute("SELECT pg_terminate_backend($1)", pid)
        async with connection(pool) as another:
            assert another.get_server_pid() != pid
    finally:
        await admin.close()
        await close_pool(pool)
