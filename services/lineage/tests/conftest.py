"""The service over HTTP on a real PostgreSQL, as the application role that row-level security holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from lakegate_chassis.postgres import open_pool
from lakegate_chassis.settings import InternalTokenSettings, PostgresSettings
from lakegate_chassis.testing import serving
from lakegate_chassis.tokens import TokenSigner
from lakegate_contracts.identity import Principal
from lakegate_lineage.app import create_app
from lakegate_lineage.settings import LineageSettings

ClientFactory = Callable[..., httpx.AsyncClient]


@pytest.fixture(scope="session")
async def pool(database: Any) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(PostgresSettings(url=SecretStr(database.url("lineage"))), "lineage")
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def settings(database: Any, jwks: Path) -> LineageSettings:
    return LineageSettings(
        postgres=PostgresSettings(url=SecretStr(database.url("lineage"))), token=InternalTokenSettings(jwks=jwks)
    )


@pytest.fixture(scope="session")
async def base_url(settings: LineageSettings) -> AsyncIterator[str]:
    async with serving(create_app(settings)) as url:
        yield url


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid4().hex[:12]}"


@pytest.fixture
def token(signer: TokenSigner, tenant: str) -> Callable[..., str]:
    """An internal token for scopes (default admin) in the test's own tenant, or in the one named."""

    def mint(*scopes: str, tenant: str = tenant) -> str:
        principal = Principal(tenant=tenant, subject="ann", scopes=scopes or ("admin",))
        return signer.mint(principal, "lineage")

    return mint


@pytest.fixture
async def client_with(base_url: str, token: Callable[..., str]) -> AsyncIterator[ClientFactory]:
    """Clients of the running service: `client_with("lineage:read", tenant="other")`."""
    opened: list[httpx.AsyncClient] = []

    def make(*scopes: str, **options: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token(*scopes, **options)}"}
        opened.append(httpx.AsyncClient(base_url=base_url, headers=headers, timeout=30))
        return opened[-1]

    yield make
    for client in opened:
        await client.aclose()


@pytest.fixture
def client(client_with: ClientFactory) -> httpx.AsyncClient:
    return client_with()
