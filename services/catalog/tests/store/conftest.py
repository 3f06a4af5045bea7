"""The stores that the contract holds for. A new adapter is one more entry in `store`."""

from __future__ import annotations

import asyncpg
import pytest

from lakegate_catalog.store.port import CatalogStore
from lakegate_catalog.store.postgres import PostgresCatalogStore
from lakegate_chassis.eventlog import PostgresEventLog


@pytest.fixture(params=["postgres"])
async def store(request: pytest.FixtureRequest, pool: asyncpg.Pool) -> CatalogStore:
    assert request.param == "postgres"
    return PostgresCatalogStore(pool, PostgresEventLog(pool))
