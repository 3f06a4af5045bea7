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
