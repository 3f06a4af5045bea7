"""The warehouse on a real S3 server: loads, the spool that outlives its replica, uploads by presigned URL."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import obstore
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from lakegate_chassis.objectstore import ObjectStoreSettings, open_store
from lakegate_chassis.postgres import close_pool, open_pool
from lakegate_chassis.settings import PostgresSettings
from lakegate_chassis.testing import eventually, serving
from lakegate_contracts.identity import DELEGATION_TYPE, Principal
from lakegate_ingest.app import create_app
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.settings import BodySettings, JobSettings, QuarantineSettings, SpoolSettings, UploadSettings
from lakegate_ingest.uploads.service import Uploads

from .conftest import Api, Gate, Identity, Process, Settings, catalog_process, make_api

ROWS = b"a,b\n" + b"".join(b"%d,x\n" % number for number in range(2000))
DIRTY = b"a,b\n1,x\nno,y\n2,z\n"
COMMIT = ("POST", "/tables/orders")
LOAD_TABLE = ("GET", "/tables/orders")
Start = Callable[..., Awaitable[Process]]


@pytest.fixture(scope="module")
def location(s3: Any) -> str:
    return f"s3://{s3.bucket}/ingest-{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def objects(s3: Any) -> ObjectStoreSettings:
    return ObjectStoreSettings(
        endpoint=s3.endpoint,
        region=s3.region,
        access_key_id=s3.access_key,
        secret_access_key=SecretStr(s3.secret_key),
        retry_seconds=1,
    )


@pytest.fixture(scope="module")
async def lake(
    s3: Any, location: str, database: Any, identity: Identity, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Process]:
    """A catalog whose warehouse is on S3."""
    folder = tmp_path_factory.mktemp("catalog")
    process = catalog_process(database, identity, folder, folder)
    process.environment |= {"CATALOG_WAREHOUSE__LOCATION": location, **s3.settings("CATALOG")}
    await process.start()
    yield process
    process.kill()


@pytest.fixture
async def lake_gate(lake: Process) -> AsyncIterator[Gate]:
    made = Gate(lake.url)
    async with serving(made.app()) as url:
        made.url = url
        yield made
        made.released.set()


@pytest.fixture
async def here(
    settings: Settings, lake: Process, location: str, objects: ObjectStoreSettings, tmp_path: Path
) -> AsyncIterator[str]:
    """Ingest in this process, on S3, with every body of 1,000 bytes copied to the store."""
    made = settings(
        lake.url,
        tmp_path / "spool",
        quarantine=QuarantineSettings(location=location),
        objects=objects,
        spool=SpoolSettings(dir=tmp_path / "spool", remote_bytes=1000),
        body=BodySettings(max_bytes=1_000_000),
    )
    async with serving(create_app(made)) as url:
        yield url


@pytest.fixture
def replica(
    settings: Settings, s3: Any, lake: Process, location: str, identity: Identity, tmp_path: Path
) -> Iterator[Start]:
    """replica(catalog_url) -> an ingest process with a disk of its own; takes over what is silent for a second."""
    started: list[Process] = []

    async def start(catalog_url: str) -> Process:
        folder = tmp_path / f"replica-{len(started)}"
        folder.mkdir()
        environment = settings.environment(
            catalog_url,
            folder / "spool",
            INGEST_QUARANTINE__LOCATION=location,
            INGEST_SPOOL__REMOTE_BYTES="1000",
            INGEST_JOB__HEARTBEAT_SECONDS="0.2",
            INGEST_JOB__LEASE_SECONDS="1",
            **s3.settings("INGEST"),
        )
        process = Process("lakegate_ingest", environment, folder / "ingest.log")
        started.append(process)
        await process.start()
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture
async def api(here: str, identity: Identity, tenant: str) -> AsyncIterator[Api]:
    made = make_api(here, identity, tenant)
    yield made
    await made.client.aclose()


def keys(location: str, objects: ObjectStoreSettings, folder: str) -> list[str]:
    """What is in the store below a folder of the warehouse."""
    store = open_store(location, objects)
    return sorted(item["path"] for page in obstore.list(store, folder) for item in page)


async def test_a_load_and_its_rejected_rows_are_in_the_store_and_nothing_else_stays(
    api: Api, location: str, objects: ObjectStoreSettings
) -> None:
    await api.load("shop.orders", b"a,b\n1,x\n")
    answer = await api.load("shop.orders", DIRTY + b"3,x\n" * 500)
    assert answer.status_code == 201, answer.text
    assert answer.json()["rows_written"] == 502
    rows = await api.rows("shop.orders", filter="b = 'z'")
    assert rows == [{"a": 2, "b": "z"}]
    [reject] = (await api.client.get(f"/v1/loads/{answer.json()['load_id']}/rejects")).json()["items"]
    assert (reject["line"], reject["value"]) == (3, "no")
    stored = keys(location, objects, api.tenant)
    assert len([key for key in stored if key.endswith(".parquet")]) == 3
    assert [key for key in stored if "_quarantine" in key]
    assert keys(location, objects, f"_spool/{api.tenant}") == []


async def test_rejected_rows_are_fetched_from_the_store_by_whoever_has_the_url(api: Api) -> None:
    await api.load("shop.orders", b"a,b\n1,x\n")
    load_id = (await api.load("shop.orders", DIRTY)).json()["load_id"]
    page = (await api.client.get(f"/v1/loads/{load_id}/rejects/files")).json()
    assert [item["rows"] for item in page["items"]] == [1]
    async with httpx.AsyncClient(trust_env=False, timeout=30) as anybody:
        [item] = page["items"]
        assert (await anybody.get(item["url"])).content.startswith(b"PAR1")
        assert (await anybody.get(item["url"].replace("X-Amz-Signature=", "X-Amz-Signature=0"))).status_code == 403


@pytest.mark.parametrize("held", [LOAD_TABLE, COMMIT], ids=["before it is read", "at its commit"])
async def test_another_replica_finishes_the_load_of_one_that_was_killed(
    replica: Start, lake: Process, lake_gate: Gate, make: Any, tenant: str, location: str, objects: Any, held: Any
) -> None:
    first = await replica(lake_gate.url)
    api = make(first.url, tenant)
    lake_gate.on(*held, "hold")
    accepted = await api.load("shop.orders", ROWS, prefer="wait=0")
    assert accepted.status_code == 202
    await lake_gate.reached.wait()
    assert keys(location, objects, f"_spool/{tenant}")
    await asyncio.to_thread(first.kill)
    other = make((await replica(lake.url)).url, tenant)
    load = await other.ended(accepted.json()["load_id"])
    assert load["problem"] is None, load["problem"]
    assert load["receipt"]["rows_written"] == 2000
    assert len(await other.rows("shop.orders")) == 2000
    await eventually(lambda: not keys(location, objects, f"_spool/{tenant}"))


async def test_what_was_written_on_a_disk_that_is_gone_is_written_again(
    replica: Start, lake: Process, lake_gate: Gate, make: Any, tenant: str, location: str, objects: Any
) -> None:
    first = await replica(lake_gate.url)
    lake_gate.on(*COMMIT, "hold")
    accepted = await make(first.url, tenant).load("shop.orders", ROWS, prefer="wait=0")
    await lake_gate.reached.wait()
    await asyncio.to_thread(first.kill)
    # as if it had been killed before it moved its file in
    [written] = [key for key in keys(location, objects, tenant) if key.endswith(".parquet")]
    obstore.delete(open_store(location, objects), written)
    api = make((await replica(lake.url)).url, tenant)
    load = await api.ended(accepted.json()["load_id"])
    assert load["problem"] is None, load["problem"]
    assert len(await api.rows("shop.orders")) == 2000


async def test_a_replica_that_was_only_slow_does_not_commit_a_second_time(
    replica: Start, lake: Process, lake_gate: Gate, make: Any, tenant: str
) -> None:
    slow = await replica(lake_gate.url)
    lake_gate.on(*COMMIT, "hold")
    accepted = await make(slow.url, tenant).load("shop.orders", ROWS, prefer="wait=0")
    await lake_gate.reached.wait()
    assert slow.child is not None
    os.kill(slow.child.pid, signal.SIGSTOP)
    api = make((await replica(lake.url)).url, tenant)
    load = await api.ended(accepted.json()["load_id"])
    assert load["state"] == "completed"
    lake_gate.released.set()
    os.kill(slow.child.pid, signal.SIGCONT)
    late = make(slow.url, tenant)
    await eventually(lambda: _is_idle(late))
    assert len(await api.rows("shop.orders")) == 2000


async def _is_idle(api: Api) -> bool:
    """Whether the process has let go of every load that it worked on: it has no folder left."""
    answer = await api.client.get("/v1/loads")
    return answer.status_code == 200 and all(load["state"] == "completed" for load in answer.json()["items"])


async def test_a_store_that_is_away_costs_the_copy_and_not_the_load(api: Api, s3: Any) -> None:
    if s3.control is None:
        pytest.skip("hurts the server: only on one of our own")
    assert (await api.load("shop.orders", ROWS)).status_code == 201
    s3.control.kill()
    try:
        accepted = await api.load("shop.orders", ROWS, prefer="wait=0")
        assert accepted.status_code == 202, accepted.text
    finally:
        s3.control.start()
    load = await api.ended(accepted.json()["load_id"])
    assert load["problem"] is None, load["problem"]
    assert len(await api.rows("shop.orders")) == 4000


async def presigned(api: Api, **request: Any) -> dict[str, Any]:
    answer = await api.client.post("/v1/uploads/presign", json={"file_name": "orders.csv", **request})
    assert answer.status_code == 201, answer.text
    upload: dict[str, Any] = answer.json()
    return upload


async def put(url: str, body: bytes) -> int:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as anybody:
        return (await anybody.put(url, content=body)).status_code


@pytest.mark.parametrize("encode", [bytes, gzip.compress], ids=["plain", "gzip"])
async def test_a_file_that_was_sent_straight_to_the_store_is_loaded_and_then_deleted(
    api: Api, encode: Any, location: str, objects: ObjectStoreSettings
) -> None:
    upload = await presigned(api)
    assert await put(upload["url"], encode(ROWS)) == 200
    loaded = await api.client.post("/v1/loads/shop/orders", params={"source": upload["upload_id"]})
    assert loaded.status_code == 201, loaded.text
    [file] = loaded.json()["files"]
    assert (file["name"], file["format"], loaded.json()["rows_written"]) == ("orders.csv", "csv", 2000)
    await eventually(lambda: not keys(location, objects, f"_uploads/{api.tenant}"))

    async def forgotten() -> bool:
        again = await api.client.post("/v1/loads/shop/orders", params={"source": upload["upload_id"]})
        return bool(again.json()["type"] == "/problems/upload-not-found")

    await eventually(forgotten)


async def test_what_is_sent_by_a_url_after_its_file_was_loaded_is_deleted_when_the_url_has_ended(
    api: Api, location: str, objects: ObjectStoreSettings, database: Any
) -> None:
    upload = await presigned(api)
    await put(upload["url"], ROWS)
    loaded = await api.client.post("/v1/loads/shop/orders", params={"source": upload["upload_id"]})
    assert loaded.status_code == 201, loaded.text
    await eventually(lambda: not keys(location, objects, f"_uploads/{api.tenant}"))
    assert await put(upload["url"], ROWS) == 200
    assert keys(location, objects, f"_uploads/{api.tenant}")
    admin = await asyncpg.connect(database.admin_url)
    try:
        # an hour after the URL's end
        due = await admin.fetchval(
            "UPDATE ingest.upload_expiries SET due_at = now(), ends_at = now() - interval '1 hour' "
            "WHERE upload_id = $1 RETURNING true",
            UUID(upload["upload_id"]),
        )
        assert due
        await eventually(lambda: not keys(location, objects, f"_uploads/{api.tenant}"))

        async def forgotten() -> bool:
            found = await admin.fetchval(
                "SELECT count(*) FROM ingest.upload_expiries WHERE upload_id = $1", UUID(upload["upload_id"])
            )
            return bool(found == 0)

        await eventually(forgotten)
    finally:
        await admin.close()


def swept() -> float:
    return REGISTRY.get_sample_value("lakegate_ingest_uploads_deleted_total") or 0.0


async def test_what_arrives_after_the_last_look_is_found_and_other_uploads_are_left_alone(
    api: Api, location: str, objects: ObjectStoreSettings, database: Any
) -> None:
    waiting, late = await presigned(api), await presigned(api)
    admin = await asyncpg.connect(database.admin_url)
    try:
        await admin.execute("DELETE FROM ingest.upload_expiries WHERE upload_id = $1", UUID(late["upload_id"]))
    finally:
        await admin.close()
    for upload in (waiting, late):
        assert await put(upload["url"], ROWS) == 200
    pool = await open_pool(PostgresSettings(url=SecretStr(database.url("ingest"))), "ingest")
    warehouse = Warehouse(location, objects)
    before = swept()
    with ThreadPoolExecutor(1) as threads:
        uploads = Uploads(pool, warehouse, UploadSettings(), BodySettings(), threads)
        assert await uploads.remove_strays() >= 1  # other tests may have left some, too
    await close_pool(pool)
    [kept] = keys(location, objects, f"_uploads/{api.tenant}")
    assert kept.endswith(waiting["upload_id"])
    assert swept() > before


async def test_a_repeated_load_of_an_upload_gives_the_first_receipt(
    api: Api, location: str, objects: ObjectStoreSettings
) -> None:
    upload = await presigned(api)
    await put(upload["url"], ROWS)
    headers = {"idempotency-key": "once"}
    params = {"source": upload["upload_id"]}
    first = await api.client.post("/v1/loads/shop/orders", params=params, headers=headers)
    # also when the file has been deleted meanwhile
    await eventually(lambda: not keys(location, objects, f"_uploads/{api.tenant}"))
    repeated = await api.client.post("/v1/loads/shop/orders", params=params, headers=headers)
    assert repeated.headers["idempotency-replayed"] == "true"
    assert repeated.json() == first.json()


async def test_an_upload_that_can_not_be_loaded_says_why(api: Api, here: str, identity: Identity) -> None:
    async def load(upload: dict[str, Any], **options: Any) -> tuple[int, str]:
        answer = await api.client.post("/v1/loads/shop/orders", params={"source": upload["upload_id"]}, **options)
        return answer.status_code, answer.json()["type"].removeprefix("/problems/")

    empty = await presigned(api)
    assert await load(empty) == (409, "upload-missing")
    await put(empty["url"], ROWS)
    assert await load(empty, content=b"a\n1\n") == (422, "bad-load-parameter")
    announced = await presigned(api, size_bytes=5)
    await put(announced["url"], ROWS)
    assert await load(announced) == (409, "upload-missing")
    large = await presigned(api)
    await put(large["url"], bytes(1_000_001))
    assert await load(large) == (413, "body-too-large")
    too_large = {"file_name": "a.csv", "size_bytes": 1_000_001}
    assert (await api.client.post("/v1/uploads/presign", json=too_large)).status_code == 413
    bob = Principal(tenant=api.tenant, subject="bob", scopes=("loads:write",))
    headers = {
        "authorization": f"Bearer {identity.signer.mint(bob, 'ingest')}",
        "lakegate-delegation": identity.signer.mint(bob, "ingest", token_type=DELEGATION_TYPE),
    }
    assert await load(empty, headers=headers) == (404, "upload-not-found")
    narrow = make_api(here, identity, api.tenant, ("loads:write@hr",))  # of the same person, for another namespace
    upload = await presigned(narrow)
    await put(upload["url"], ROWS)
    await narrow.client.aclose()
    assert await load(upload) == (404, "upload-not-found")
    reader = make_api(here, identity, api.tenant, ("datasets:read",))
    refused = await reader.client.post("/v1/uploads/presign", json={"file_name": "a.csv"})
    await reader.client.aclose()
    assert refused.status_code == 403


async def test_a_presigned_url_is_for_one_file_and_cannot_be_changed(api: Api) -> None:
    first, second = await presigned(api), await presigned(api)
    assert await put(first["url"].replace(first["upload_id"], second["upload_id"]), ROWS) == 403
    assert await put(first["url"].replace("X-Amz-Expires=900", "X-Amz-Expires=90000"), ROWS) == 403


async def test_an_upload_whose_load_was_killed_is_received_by_another_replica(
    replica: Start, lake: Process, lake_gate: Gate, make: Any, tenant: str
) -> None:
    first = await replica(lake_gate.url)
    api = make(first.url, tenant)
    upload = await presigned(api)
    await put(upload["url"], ROWS)
    lake_gate.on(*LOAD_TABLE, "hold")
    accepted = await api.client.post(
        "/v1/loads/shop/orders", params={"source": upload["upload_id"]}, headers={"prefer": "wait=0"}
    )
    await lake_gate.reached.wait()
    await asyncio.to_thread(first.kill)
    other = make((await replica(lake.url)).url, tenant)
    load = await other.ended(accepted.json()["load_id"])
    assert load["problem"] is None, load["problem"]
    assert len(await other.rows("shop.orders")) == 2000


async def test_without_an_object_store_there_is_nothing_to_presign(
    settings: Settings, catalog: Process, tmp_path: Path, make: Any, tenant: str
) -> None:
    job = JobSettings(sweep_seconds=0.5)
    async with serving(create_app(settings(catalog.url, tmp_path / "spool", job=job))) as url:
        answer = await make(url, tenant).client.post("/v1/uploads/presign", json={"file_name": "a.csv"})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/object-store-required")
