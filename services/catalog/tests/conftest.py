"""The catalog over HTTP on a real PostgreSQL, as the application role that row-level security holds.

What asks for `store`, `entities` or `base_url` runs once for each catalog store: PostgreSQL, and MongoDB or what stands
in for it (see the table of servers at the end of the run).
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from lakegate_catalog.app import create_app
from lakegate_catalog.settings import (
    CatalogSettings,
    MongoSettings,
    SearchSettings,
    StoreSettings,
    WarehouseSettings,
)
from lakegate_catalog.store.entities import Entities
from lakegate_catalog.store.mongodb.adapter import MongoCatalogStore, MongoOutbox, open_mongodb
from lakegate_catalog.store.mongodb.relay import Relay
from lakegate_catalog.store.port import CatalogStore
from lakegate_catalog.store.postgres import PostgresCatalogStore
from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import PostgresEventLog
from lakegate_chassis.postgres import open_pool
from lakegate_chassis.settings import InternalTokenSettings, PostgresSettings
from lakegate_chassis.testing import serving
from lakegate_chassis.tokens import TokenSigner
from lakegate_contracts.identity import Principal

Token = Callable[..., str]
Connect = Callable[..., httpx.AsyncClient]


@pytest.fixture(scope="session")
async def pool(database: Any) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(PostgresSettings(url=SecretStr(database.url("catalog"))), "catalog")
    yield opened
    await opened.close()


@pytest.fixture(scope="session", params=["postgres", "mongodb"])
def store_settings(request: pytest.FixtureRequest) -> StoreSettings:
    if request.param == "postgres":
        return StoreSettings()
    # asked for only now: a run without MongoDB tests skips them alone
    server = request.getfixturevalue("mongodb")
    database = f"lakegate_test_{secrets.token_hex(4)}"
    return StoreSettings(mongodb=MongoSettings(url=SecretStr(server.uri), database=database))


@pytest.fixture(scope="session")
async def store(store_settings: StoreSettings, pool: asyncpg.Pool) -> AsyncIterator[CatalogStore]:
    log = PostgresEventLog(pool)
    if store_settings.mongodb.url is None:
        yield PostgresCatalogStore(pool, log)
        return
    async with open_mongodb(store_settings.mongodb) as collections:
        relay = Relay(MongoOutbox(collections), log, pool)
        background = Background()
        background.start("catalog_relay", relay.run)
        yield MongoCatalogStore(collections, relay)
        await background.stop()
        await collections.changes.database.client.drop_database(store_settings.mongodb.database)


@pytest.fixture
def entities(store: CatalogStore) -> Entities:
    return Entities(store)


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("warehouse")


@pytest.fixture(scope="session")
def settings(
    database: Any,
    store_settings: StoreSettings,
    jwks: Path,
    warehouse: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> CatalogSettings:
    return CatalogSettings(
        postgres=PostgresSettings(url=SecretStr(database.url("catalog"))),
        store=store_settings,
        token=InternalTokenSettings(jwks=jwks),
        warehouse=WarehouseSettings(location=f"file://{warehouse}"),
        search=SearchSettings(dir=tmp_path_factory.mktemp("search")),
    )


@pytest.fixture(scope="session")
async def base_url(settings: CatalogSettings) -> AsyncIterator[str]:
    async with serving(create_app(settings)) as url:
        yield url


@pytest.fixture
def tenant() -> str:
    """A tenant of its own for each test: nobody else's rows are there."""
    return f"t-{uuid4().hex[:12]}"


@pytest.fixture
def token(signer: TokenSigner, tenant: str) -> Token:
    """Mint an internal token: token("datasets:read@travel.*", of="t-other")."""

    def mint(*scopes: str, of: str | None = None) -> str:
        principal = Principal(tenant=of or tenant, subject="ann", scopes=scopes or ("admin",))
        return signer.mint(principal, "catalog", lifetime_seconds=600)

    return mint


@pytest.fixture
async def connect(base_url: str, token: Token) -> AsyncIterator[Connect]:
    """Open a client with the given scopes (default: admin)."""
    opened: list[httpx.AsyncClient] = []

    def client(*scopes: str, of: str | None = None) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token(*scopes, of=of)}"}
        opened.append(httpx.AsyncClient(base_url=base_url, headers=headers, timeout=30))
        return opened[-1]

    yield client
    for each in opened:
        await each.aclose()


@pytest.fixture
def client(connect: Connect) -> httpx.AsyncClient:
    return connect()


@pytest.fixture
def iceberg(tenant: str) -> str:
    """The path below which this tenant's namespaces are."""
    return f"/iceberg/v1/{tenant}"
