"""Whole loads with the warehouse on object stores that do not speak S3: gs:// and abfss://."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import obstore
import pytest

from lakegate_chassis.objectstore import ObjectStoreSettings, open_store
from lakegate_chassis.testing import eventually, serving
from lakegate_ingest.app import create_app
from lakegate_ingest.settings import BodySettings, QuarantineSettings, SpoolSettings

from .conftest import Api, Identity, Settings, catalog_process, make_api

ROWS = b"a,b\n" + b"".join(b"%d,x\n" % number for number in range(2000))


@pytest.fixture(scope="module")
async def lake(
    foreign_store: Any,
    database: Any,
    identity: Identity,
    settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[SimpleNamespace]:
    """A catalog and, in this process, ingest; `keys(folder)` lists what is in the store below it."""
    folder = tmp_path_factory.mktemp("lake")
    location = foreign_store.location(f"ingest-{uuid4().hex[:8]}")
    objects = ObjectStoreSettings.model_validate({**foreign_store.objects(), "retry_seconds": 1})
    store = open_store(location, objects)
    catalog = catalog_process(database, identity, folder, folder)
    catalog.environment |= {"CATALOG_WAREHOUSE__LOCATION": location, **foreign_store.settings("CATALOG")}
    await catalog.start()
    # every body of 1,000 bytes is copied to the store as it arrives
    made = settings(
        catalog.url,
        folder / "spool",
        quarantine=QuarantineSettings(location=location),
        objects=objects,
        spool=SpoolSettings(dir=folder / "spool", remote_bytes=1000),
        body=BodySettings(max_bytes=1_000_000),
    )

    def keys(below: str) -> list[str]:
        return [item["path"] for page in obstore.list(store, below) for item in page]

    async with serving(create_app(made)) as url:
        yield SimpleNamespace(url=url, keys=keys, location=location)
    catalog.kill()


@pytest.fixture
async def api(lake: Any, identity: Identity, tenant: str) -> AsyncIterator[Api]:
    made = make_api(lake.url, identity, tenant)
    yield made
    await made.client.aclose()


async def test_rows_go_to_the_store_and_come_back_from_there(api: Api, lake: Any) -> None:
    assert (await api.load("shop.orders", b"a,b\n1,x\n")).status_code == 201
    answer = await api.load("shop.orders", b"a,b\n2,z\n" + b"3,x\n" * 500)
    assert answer.status_code == 201, answer.text
    assert await api.rows("shop.orders", filter="b = 'z'") == [{"a": 2, "b": "z"}]
    assert len(await api.rows("shop.orders")) == 502
    stored = lake.keys(api.tenant)
    assert len([key for key in stored if key.endswith(".parquet")]) == 2
    assert len([key for key in stored if key.endswith(".metadata.json")]) >= 2
    await eventually(lambda: not lake.keys(f"_spool/{api.tenant}"))


async def test_rejected_rows_are_read_here_and_fetched_from_the_store(api: Api) -> None:
    await api.load("shop.orders", b"a,b\n1,x\n")
    load_id = (await api.load("shop.orders", b"a,b\n1,x\nno,y\n2,z\n")).json()["load_id"]
    [reject] = (await api.client.get(f"/v1/loads/{load_id}/rejects")).json()["items"]
    assert (reject["line"], reject["value"]) == (3, "no")
    [file] = (await api.client.get(f"/v1/loads/{load_id}/rejects/files")).json()["items"]
    async with httpx.AsyncClient(trust_env=False, timeout=30) as anybody:
        assert (await anybody.get(file["url"])).content.startswith(b"PAR1")


async def test_a_load_that_is_answered_before_its_end_is_kept_in_the_store_until_then(api: Api, lake: Any) -> None:
    accepted = await api.load("shop.orders", ROWS, prefer="wait=0")
    assert accepted.status_code == 202, accepted.text
    load = await api.ended(accepted.json()["load_id"])
    assert load["problem"] is None, load["problem"]
    assert len(await api.rows("shop.orders")) == 2000
    await eventually(lambda: not lake.keys(f"_spool/{api.tenant}"))


async def test_a_file_that_was_sent_straight_to_the_store_is_loaded_and_then_deleted(api: Api, lake: Any) -> None:
    upload = (await api.client.post("/v1/uploads/presign", json={"file_name": "orders.csv"})).json()
    async with httpx.AsyncClient(trust_env=False, timeout=30) as anybody:
        sent = await anybody.request(upload["method"], upload["url"], headers=upload["headers"], content=ROWS)
    assert sent.status_code in (200, 201), sent.text
    loaded = await api.client.post("/v1/loads/shop/orders", params={"source": upload["upload_id"]})
    assert loaded.status_code == 201, loaded.text
    assert loaded.json()["rows_written"] == 2000
    await eventually(lambda: not lake.keys(f"_uploads/{api.tenant}"))
