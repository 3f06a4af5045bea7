"""The catalog over HTTP on a real PostgreSQL, as the application role that row-level security holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr

from lakegate_catalog.app import create_app
from lakegate_catalog.settings import CatalogSettings, SearchSettings, WarehouseSettings
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


@pytest.fixture(scope="session")
def signer() -> TokenSigner:
    return TokenSigner(Ed25519PrivateKey.generate())


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("warehouse")


@pytest.fixture(scope="session")
def settings(
    database: Any, signer: TokenSigner, warehouse: Path, tmp_path_factory: pytest.TempPathFactory
) -> CatalogSettings:
    jwks = tmp_path_factory.mktemp("keys") / "jwks.json"
    jwks.write_bytes(orjson.dumps({"keys": [signer.jwk]}))
    return CatalogSettings(
        postgres=PostgresSettings(url=SecretStr(database.url("catalog"))),
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
