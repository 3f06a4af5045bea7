"""A stream whose warehouse is on a real S3 server: rows get there, are read back, and a dead commit leaves nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import obstore
import orjson
import pytest
from pydantic import SecretStr

from lakegate_chassis.objectstore import ObjectStoreSettings, open_store
from lakegate_chassis.testing import eventually, serving
from lakegate_ingest.app import create_app
from lakegate_ingest.settings import QuarantineSettings, StreamSettings

from .conftest import QUICK, Streams


@pytest.fixture
async def lake(
    s3: Any, make_catalog: Any, settings: Any, kafka_settings: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Any]:
    """Catalog, and ingest without a worker, on S3; `keys(tenant)` lists what is there of it."""
    location = f"s3://{s3.bucket}/streams-{uuid4().hex[:8]}"
    objects = ObjectStoreSettings(
        endpoint=s3.endpoint, region=s3.region, access_key_id=s3.access_key,
        secret_access_key=SecretStr(s3.secret_key), retry_seconds=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("lake")
    catalog = make_catalog(folder, CATALOG_WAREHOUSE__LOCATION=location, **s3.settings("CATALOG"))
    await catalog.start()
    made = settings(
        catalog.url, folder / "spool", kafka=kafka_settings, streams=StreamSettings(**QUICK, worker=False),
        quarantine=QuarantineSettings(location=location), objects=objects,
    )  # fmt: skip
    store = open_store(location, objects)

    def keys(tenant: str) -> list[str]:
        found = [item["path"] for page in obstore.list(store, f"{tenant}/") for item in page]
        return [key for key in found if "/data/streams/" in key]

    environment = {"INGEST_QUARANTINE__LOCATION": location, **s3.settings("INGEST")}
    async with serving(create_app(made)) as url:
        yield SimpleNamespace(url=url, catalog=catalog, keys=keys, environment=environment)
    catalog.kill()


@pytest.fixture
def streams(lake: Any, make: Callable[..., Any], identity: Any, tenant: str) -> Streams:
    return Streams(make(lake.url, tenant), lake.catalog, identity)


def rows(first: int, last: int) -> bytes:
    return b"\n".join(orjson.dumps({"id": number, "name": f"n{number}"}) for number in range(first, last + 1))


@pytest.mark.usefixtures("forgotten")
async def test_rows_of_a_stream_are_in_the_bucket_once_although_a_worker_died(
    streams: Streams, lake: Any, gate: Any, start_worker: Any
) -> None:
    gate.target = lake.catalog.url
    assert (await streams.send("shop.orders", rows(1, 50))).status_code == 202
    gate.on("POST", "/tables/orders", "hold")
    victim = await start_worker(gate.url, **lake.environment)
    await eventually(gate.reached.is_set, within_seconds=90)
    assert len(lake.keys(streams.tenant)) == 1  # its file is there, its commit is on the way
    victim.kill()
    await start_worker(lake.catalog.url, INGEST_STREAMS__ORPHAN_SECONDS="1", **lake.environment)
    await streams.has("shop.orders", list(range(1, 51)))
    assert (await streams.send("shop.orders", rows(51, 60))).status_code == 202
    await streams.has("shop.orders", list(range(1, 61)))
    gate.released.set()

    async def tidy() -> bool:
        snapshots = (await streams.metadata("shop.orders"))["snapshots"]
        added = [snapshot for snapshot in snapshots if snapshot["summary"].get("added-data-files") == "1"]
        return len(lake.keys(streams.tenant)) == len(added)

    await eventually(tidy, within_seconds=60)
    found = {row["id"]: row["name"] for row in await streams.api.rows("shop.orders")}
    assert found == {number: f"n{number}" for number in range(1, 61)}
    assert (await streams.metadata("shop.orders"))["location"].startswith("s3://")
