"""Streams under test: a real Kafka, the real catalog, ingest's API without a worker, and workers as processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from lakegate_chassis.settings import KafkaSettings
from lakegate_chassis.testing import eventually, serving
from lakegate_contracts.identity import Principal
from lakegate_ingest.app import create_app
from lakegate_ingest.settings import StreamSettings

QUICK = {"commit_seconds": 0.3, "discover_seconds": 0.2, "schema_seconds": 0.2, "lag_seconds": 0.1}


@pytest.fixture(scope="session")
def kafka_settings(kafka: Any) -> KafkaSettings:
    # quick to notice a dead member
    return KafkaSettings(bootstrap=kafka.bootstrap, partitions=3, session_seconds=6)


@pytest.fixture(scope="module")
async def streaming_url(
    settings: Any,
    catalog: Any,
    kafka_settings: KafkaSettings,
    shared_job: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[str]:
    """Ingest with a worker, for a module: it sees the streams of every test, and would do the work of their own."""
    own = StreamSettings(**QUICK)
    made = settings(catalog.url, tmp_path_factory.mktemp("spool"), kafka=kafka_settings, streams=own, job=shared_job)
    async with serving(create_app(made)) as url:
        yield url


class Streams:
    """What a producer does, and what it finds in the table."""

    def __init__(self, api: Any, catalog: Any, identity: Any) -> None:
        self.api = api
        self.tenant = api.tenant
        self._catalog = catalog
        principal = Principal(tenant=api.tenant, subject="ana", scopes=("admin",))
        self._headers = {"authorization": f"Bearer {identity.signer.mint(principal, 'catalog', lifetime_seconds=3600)}"}

    async def send(self, table: str, body: bytes, *, headers: dict[str, str] | None = None, **params: str) -> Any:
        return await self.api.client.post(self.path(table), content=body, params=params, headers=headers)

    @staticmethod
    def path(table: str, tail: str = "") -> str:
        namespace, _, name = table.rpartition(".")
        return f"/v1/streams/{namespace}/{name}{tail}"

    async def metadata(self, table: str) -> dict[str, Any]:
        """The table as the catalog has it: the cheapest look there is."""
        answer = await self.api.client.get(self._url(table), headers=self._headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["metadata"]
        return found

    async def committed(self, table: str) -> int:
        """Rows of the current snapshot, by its summary."""
        metadata = await self.metadata(table)
        current = [s for s in metadata.get("snapshots", []) if s["snapshot-id"] == metadata["current-snapshot-id"]]
        return int(current[0]["summary"].get("total-records", 0)) if current else 0

    async def drop(self, table: str) -> None:
        answer = await self.api.client.delete(self._url(table), headers=self._headers)
        assert answer.status_code == 204, answer.text

    async def exists(self, table: str) -> bool:
        return bool((await self.api.client.get(self._url(table), headers=self._headers)).status_code == 200)

    def _url(self, table: str) -> str:
        namespace, _, name = table.rpartition(".")
        return f"{self._catalog.url}/iceberg/v1/{self.tenant}/namespaces/{namespace}/tables/{name}"

    async def has(self, table: str, expected: list[int], within_seconds: float = 120) -> None:
        """Until the table has as many rows; then these ids, each once."""

        async def look() -> bool:
            return await self.committed(table) >= len(expected)

        await eventually(look, within_seconds=within_seconds)
        assert sorted(row["id"] for row in await self.api.rows(table, columns="id")) == expected


@pytest.fixture
def streams_at(make: Any, catalog: Any, identity: Any, tenant: str) -> Callable[[str], Streams]:
    return lambda url: Streams(make(url, tenant), catalog, identity)


@pytest.fixture
def streams(streaming_url: str, streams_at: Any) -> Streams:
    found: Streams = streams_at(streaming_url)
    return found


@pytest.fixture
async def forgotten(database: Any, tenant: str) -> AsyncIterator[None]:
    """The streams of this test are no other worker's business: their tables or topics are not where those look."""
    yield
    admin = await asyncpg.connect(database.admin_url)
    await admin.execute("DELETE FROM ingest.stream_topics WHERE tenant = $1", tenant)
    await admin.close()


@pytest.fixture
async def direct(kafka: Any) -> AsyncIterator[Callable[..., Any]]:
    """direct(topic, *values): a producer that knows Kafka only."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", enable_idempotence=True)
    await producer.start()

    async def send(topic: str, *values: bytes | None, partition: int | None = None) -> None:
        await asyncio.gather(*[await producer.send(topic, value, b"k", partition=partition) for value in values])

    yield send
    await producer.stop()


@pytest.fixture
async def admin(kafka: Any) -> AsyncIterator[Any]:
    made = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture(scope="session")
async def producing_url(
    settings: Any,
    catalog: Any,
    kafka_settings: KafkaSettings,
    shared_job: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[str]:
    """Ingest without a worker: rows wait in Kafka for the workers of the test."""
    own = StreamSettings(**QUICK, worker=False)
    made = settings(catalog.url, tmp_path_factory.mktemp("spool"), kafka=kafka_settings, streams=own, job=shared_job)
    async with serving(create_app(made)) as url:
        yield url


@pytest.fixture
def start_worker(
    settings: Any, kafka_settings: KafkaSettings, process: Any, tenant: str, tmp_path: Path
) -> Iterator[Any]:
    """start_worker(catalog_url) -> Process of `python -m lakegate_ingest.streams`, killed at the end."""
    started: list[Any] = []
    group = f"workers-{tenant}"  # a member that was killed is missed for a while, by its own test only

    async def start(catalog_url: str, **changes: str) -> Any:
        name = f"worker-{len(started)}"
        quick = {f"INGEST_STREAMS__{key.upper()}": str(value) for key, value in QUICK.items()}
        kafka = {
            "INGEST_KAFKA__BOOTSTRAP": kafka_settings.bootstrap,
            "INGEST_KAFKA__PARTITIONS": "3",
            "INGEST_KAFKA__SESSION_SECONDS": "6",
        }
        own = {"INGEST_STREAMS__GROUP": group, "INGEST_COMMIT__TIMEOUT_SECONDS": "60"}
        environment = settings.environment(catalog_url, tmp_path / name, **quick, **kafka, **own, **changes)
        made = process("lakegate_ingest.streams", environment, tmp_path / f"{name}.log")
        started.append(made)
        await made.start()
        return made

    yield start
    for made in started:
        made.kill()
