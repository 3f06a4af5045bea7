"""PostgreSQL: one pool a service, and transactions that see one tenant's rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
from opentelemetry.trace import SpanKind

from lakegate_chassis import tracing
from lakegate_chassis.logs import log
from lakegate_chassis.metrics import POOL_CONNECTIONS, POOL_MAX, POOL_REFUSALS, POOL_WAIT_SECONDS, POOL_WAITING
from lakegate_chassis.problems import Unavailable
from lakegate_chassis.settings import PostgresSettings

ACQUIRE_TIMEOUT_SECONDS = 5.0
_SPAN = {"db.system.name": "postgresql"}
LOST_CONNECTION = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    # what a connection says whose server died between two messages
    asyncpg.InternalClientError,
)


async def open_pool(settings: PostgresSettings, schema: str) -> asyncpg.Pool:
    """A pool whose connections look in `schema` and read and write jsonb as Python values."""

    async def prepare(connection: asyncpg.Connection) -> None:
        await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_encode, decoder=_decode, format="binary")

    pool = await asyncpg.create_pool(
        settings.url.get_secret_value(),
        min_size=settings.pool_min,
        max_size=settings.pool_max,
        command_timeout=settings.statement_timeout_seconds,
        init=prepare,
        server_settings={"search_path": schema, "application_name": f"lakegate-{schema}"},
    )
    POOL_CONNECTIONS.labels("open").set_function(pool.get_size)
    POOL_CONNECTIONS.labels("idle").set_function(pool.get_idle_size)
    POOL_MAX.set(pool.get_max_size())
    return pool


async def close_pool(pool: asyncpg.Pool, *, timeout_seconds: float = 3.0) -> None:
    """Close once all connections are back; cut those that don't come back in time: a killed server leaves some."""
    try:
        async with asyncio.timeout(timeout_seconds):
            await pool.close()
    except TimeoutError:
        log.warning("pool_closed_by_force", waited_seconds=timeout_seconds)


def _encode(value: Any) -> bytes:
    # binary jsonb is a version byte and the text
    return b"\x01" + orjson.dumps(value, default=str)


def _decode(value: bytes) -> Any:
    return orjson.loads(value[1:])


@asynccontextmanager
async def connection(pool: asyncpg.Pool) -> AsyncIterator[Any]:
    """A connection from the pool. Raises Unavailable when none is free in time or the server is away."""
    began = time.perf_counter()
    POOL_WAITING.inc()
    try:
        acquired = await pool.acquire(timeout=ACQUIRE_TIMEOUT_SECONDS)
    except (TimeoutError, OSError, *LOST_CONNECTION) as error:
        POOL_REFUSALS.labels("busy" if isinstance(error, TimeoutError) else "unreachable").inc()
        raise Unavailable("The database can't be reached or is busy. Try again shortly.") from error
    finally:
        POOL_WAITING.dec()
        POOL_WAIT_SECONDS.observe(time.perf_counter() - began)
    try:
        yield acquired
    except LOST_CONNECTION as error:
        POOL_REFUSALS.labels("lost").inc()
        if isinstance(error, asyncpg.InternalClientError):
            # still open as far as the pool can tell, and the next one would get it
            acquired.terminate()
        raise Unavailable("The database went away during the request. Try again shortly.") from error
    finally:
        await _give_back(pool, acquired)


async def _give_back(pool: asyncpg.Pool, acquired: Any) -> None:
    """Release a connection. One that died meanwhile is dropped by the pool; what was committed on it stays true."""
    try:
        await pool.release(acquired)
    except (TimeoutError, OSError, *LOST_CONNECTION) as error:
        log.warning("connection_dropped", reason=f"{type(error).__name__}: {error}")


@asynccontextmanager
async def tenant_transaction(pool: asyncpg.Pool, tenant: str) -> AsyncIterator[Any]:
    """A transaction in which row-level security shows the rows of `tenant` only. Raises Unavailable."""
    with tracing.span("transaction", _SPAN, SpanKind.CLIENT):
        async with connection(pool) as acquired, acquired.transaction():
            await acquired.execute("SELECT set_config('lakegate.tenant', $1, true)", tenant)
            yield acquired


async def ping(pool: asyncpg.Pool) -> None:
    """A readiness check: raises when the database does not answer."""
    async with pool.acquire(timeout=ACQUIRE_TIMEOUT_SECONDS) as acquired:
        await acquired.execute("SELECT 1")
