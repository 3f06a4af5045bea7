"""The service as a process: it refuses bad settings, ends on SIGTERM, and loses nothing when it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest

from lakegate.embedded.ports import free_ports
from lakegate_catalog.settings import CatalogSettings
from lakegate_chassis.eventlog import PostgresEventLog
from lakegate_chassis.testing import eventually
from lakegate_contracts.events import DATASETS


@pytest.fixture
def environment(settings: CatalogSettings, tmp_path: Path) -> dict[str, str]:
    mongodb = settings.store.mongodb
    store = {"URL": mongodb.url.get_secret_value(), "DATABASE": mongodb.database} if mongodb.url else {}
    return {
        **os.environ,
        **{f"CATALOG_STORE__MONGODB__{name}": value for name, value in store.items()},
        "CATALOG_POSTGRES__URL": settings.postgres.url.get_secret_value(),
        "CATALOG_TOKEN__JWKS": str(settings.token.jwks),
        "CATALOG_WAREHOUSE__LOCATION": settings.warehouse.location,
        "CATALOG_SEARCH__DIR": str(tmp_path / "search"),
        "CATALOG_DRAIN_SECONDS": "0",
        "CATALOG_PORT": str(free_ports(1)[0]),
        "CATALOG_MANAGEMENT_PORT": str(free_ports(1)[0]),
    }


@asynccontextmanager
async def process(environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """The service, ready; killed at the end if it is still there."""
    quiet = asyncio.subprocess.DEVNULL
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lakegate_catalog", env=environment, stdout=quiet, stderr=quiet
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{environment['CATALOG_PORT']}", timeout=30) as client:

            async def ready() -> bool:
                assert started.returncode is None
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(ready, within_seconds=30)
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def test_bad_settings_are_named_and_end_the_start(environment: dict[str, str]) -> None:
    environment["CATALOG_WAREHOUSE__LOCATION"] = "/no/url"
    environment["CATALOG_SEARCH__HEAP_BYTES"] = "1"
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lakegate_catalog", env=environment, stdout=pipe, stderr=pipe
    )
    _, said = await started.communicate()
    assert started.returncode == 78
    assert b"CATALOG_WAREHOUSE__LOCATION" in said
    assert b"CATALOG_SEARCH__HEAP_BYTES" in said


async def test_it_ends_in_order_on_sigterm(environment: dict[str, str]) -> None:
    async with process(environment) as running:
        running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.wait(), 30) == 0


BODY = b'{"namespace":["travel"]}'


@asynccontextmanager
async def half_sent(
    port: int, path: str, token: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which the service has half a request. (httpx reads no answer before it has sent all.)"""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [
        f"POST {path} HTTP/1.1", "host: catalog", f"authorization: Bearer {token}", "content-type: application/json",
        f"content-length: {len(BODY)}", "expect: 100-continue",
    ]  # fmt: skip
    writer.write("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n")
    assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
    writer.write(BODY[:10])
    try:
        yield reader, writer
    finally:
        writer.close()


async def is_closed(port: int) -> bool:
    """Whether nobody is let in any more."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False


async def test_a_body_that_arrives_after_sigterm_is_waited_for(
    environment: dict[str, str], token: Callable[..., str], iceberg: str
) -> None:
    port = int(environment["CATALOG_PORT"])
    async with process(environment) as running, half_sent(port, f"{iceberg}/namespaces", token()) as (reader, writer):
        running.send_signal(signal.SIGTERM)
        await eventually(lambda: is_closed(port))
        writer.write(BODY[10:])
        answer = (await reader.read()).lower()
        assert answer.startswith(b"http/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer
        assert await running.wait() == 0


async def test_a_body_that_never_arrives_is_cut_off_with_a_problem_that_says_so(
    environment: dict[str, str], token: Callable[..., str], iceberg: str
) -> None:
    environment["CATALOG_FINISH_SECONDS"] = "1"
    port = int(environment["CATALOG_PORT"])
    async with process(environment) as running, half_sent(port, f"{iceberg}/namespaces", token()) as (reader, _):
        running.send_signal(signal.SIGTERM)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"This process ends" in answer
        assert await running.wait() == 0


async def test_what_was_acknowledged_before_a_kill_is_there_after_it(
    environment: dict[str, str], token: Callable[..., str], iceberg: str, tenant: str, pool: asyncpg.Pool
) -> None:
    url = f"http://127.0.0.1:{environment['CATALOG_PORT']}"
    table = f"{iceberg}/namespaces/travel/tables/flights"
    acknowledged: list[str] = []
    async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {token()}"}, timeout=30) as client:

        async def commit(worker: int) -> None:
            for number in range(10_000):
                key = f"k{worker}-{number}"
                body = {"requirements": [], "updates": [{"action": "set-properties", "updates": {key: "v"}}]}
                try:
                    answer = await client.post(table, json=body)
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    acknowledged.append(key)

        async with process(environment) as running:
            await client.post(f"{iceberg}/namespaces", json={"namespace": ["travel"]})
            schema = {"type": "struct", "fields": [{"id": 1, "name": "a", "type": "long", "required": False}]}
            made = await client.post(f"{iceberg}/namespaces/travel/tables", json={"name": "flights", "schema": schema})
            assert made.status_code == 200
            workers = asyncio.gather(*(commit(worker) for worker in range(3)))
            await eventually(lambda: len(acknowledged) > 20)
            running.kill()
            await workers
        async with process(environment):
            loaded = await client.get(table)
            assert set(acknowledged) <= loaded.json()["metadata"]["properties"].keys()
            body = {"requirements": [], "updates": [{"action": "set-properties", "updates": {"after": "v"}}]}
            after = await client.post(table, json=body)
            assert after.status_code == 200
            token_ = after.headers["lakegate-consistency-token"]
            found = await client.get("/v1/search", params={"q": "flights", "consistency_token": token_})
            version = int(after.headers["lakegate-catalog-version"])
            assert [each["version"] for each in found.json()["items"]] == [version]
    # every change told, in order, none twice: also those that the kill caught between the store and the log
    told = []
    async for events in PostgresEventLog(pool).read([DATASETS], 0, follow=False):
        told += [event.data["version"] for event in events if event.tenant == tenant]
    assert told == list(range(1, version + 1))
