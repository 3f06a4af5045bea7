"""Whatever is killed, and whenever: a load is complete once, or reported failed and can be repeated."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType

from lakegate_chassis.postgres import open_pool, tenant_transaction
from lakegate_chassis.problems import Unavailable
from lakegate_chassis.testing import eventually, serving
from lakegate_contracts.identity import Principal
from lakegate_contracts.names import TableName
from lakegate_ingest.app import create_app
from lakegate_ingest.commit import snapshots
from lakegate_ingest.commit.committer import Committer, OutcomeUnprovable
from lakegate_ingest.loads import jobs, pipeline, queries, service
from lakegate_ingest.loads.pipeline import plan_of
from lakegate_ingest.loads.recovery import SpoolInUse, SpoolOwner
from lakegate_ingest.loads.schemas import LoadOptions
from lakegate_ingest.settings import CommitSettings

ROWS = b"a,b\n1,x\n2,y\n"
COMMIT = ("POST", "/tables/orders")
LOAD_TABLE = ("GET", "/tables/orders")


@pytest.fixture
async def gated(settings: Any, gate: Any, tmp_path: Path, make: Any, tenant: str) -> Any:
    """Ingest in this process, behind the gate."""
    commit = CommitSettings(timeout_seconds=3, settle_seconds=5, orphan_age_seconds=0, attempts=3)
    async with serving(create_app(settings(gate.url, tmp_path / "spool", commit=commit))) as url:
        yield make(url, tenant)


async def events(database: Any, load_id: str) -> list[str]:
    """The types of all events of a load, in order."""
    admin = await asyncpg.connect(database.admin_url)
    try:
        found = await admin.fetch(
            "SELECT type FROM eventlog.events WHERE source = $1 ORDER BY type", f"/v1/loads/{load_id}"
        )
    finally:
        await admin.close()
    return [record["type"] for record in found]


async def data_files(warehouse: Path, tenant: str) -> list[Path]:
    return [path for path in (warehouse / tenant).rglob("*") if path.is_file() and path.suffix != ".json"]


def tables_of(api: Any, catalog: Any, identity: Any) -> RestCatalog:
    """The tenant's tables as an engine sees them."""
    principal = Principal(tenant=api.tenant, subject="ana", scopes=("datasets:read", "datasets:write"))
    token = identity.signer.mint(principal, "catalog")
    return RestCatalog("lakegate", uri=f"{catalog.url}/iceberg", token=token, warehouse=api.tenant)


async def only_load(api: Any) -> dict[str, Any]:
    async def look() -> Any:
        items = (await api.client.get("/v1/loads")).json()["items"]
        return items and items[0]

    found: dict[str, Any] = await eventually(look)
    return found


@pytest.mark.parametrize("mode", ["lose", "lose-answer"])
async def test_a_commit_whose_answer_is_lost_becomes_one_snapshot(gated: Any, gate: Any, mode: str) -> None:
    gate.on(*COMMIT, mode)
    answer = await gated.load("shop.orders", ROWS)
    assert gate.reached.is_set()
    assert answer.status_code == 201, answer.text
    assert len(await gated.rows("shop.orders")) == 2
    gate.on(*COMMIT, mode)
    assert (await gated.load("shop.orders", ROWS)).status_code == 201
    assert len(await gated.rows("shop.orders")) == 4


async def test_a_load_that_can_not_be_committed_leaves_no_file(gated: Any, gate: Any, warehouse: Path) -> None:
    assert (await gated.load("shop.orders", ROWS)).status_code == 201
    before = await data_files(warehouse, gated.tenant)
    gate.on(*COMMIT, "conflict")
    answer = await gated.load("shop.orders", ROWS)
    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/commit-conflict"

    async def swept() -> bool:
        return sorted(await data_files(warehouse, gated.tenant)) == sorted(before)

    await eventually(swept)
    assert len(await gated.rows("shop.orders")) == 2


async def test_a_partitioned_table_is_refused_and_no_file_is_left_in_it(
    gated: Any, catalog: Any, identity: Any, warehouse: Path
) -> None:
    tables = tables_of(gated, catalog, identity)
    tables.create_namespace("shop")
    tables.create_table(
        "shop.orders",
        Schema(NestedField(1, "a", LongType()), NestedField(2, "b", StringType())),
        partition_spec=PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "b")),
    )
    answer = await gated.load("shop.orders", ROWS)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/schema-conflict")
    assert "partitioned" in answer.json()["detail"]
    assert await data_files(warehouse, gated.tenant) == []


@pytest.mark.parametrize("first", [True, False], ids=["creates the table", "adds to it"])
async def test_a_table_renamed_before_its_commit_is_known_to_be_done_has_the_rows_once(
    gated: Any, gate: Any, catalog: Any, identity: Any, first: bool
) -> None:
    if not first:
        assert (await gated.load("shop.orders", ROWS)).status_code == 201
    tables = tables_of(gated, catalog, identity)
    gate.on(*COMMIT, "hold-answer")
    loading = asyncio.create_task(gated.load("shop.orders", ROWS))
    await gate.reached.wait()
    snapshots_then = 1 if first else 2

    def committed() -> bool:
        return tables.table_exists("shop.orders") and (
            len(tables.load_table("shop.orders").metadata.snapshots) == snapshots_then
        )

    await eventually(lambda: asyncio.to_thread(committed))
    await asyncio.to_thread(tables.rename_table, "shop.orders", "shop.sales")
    assert (await loading).status_code == 201, (await loading).text
    assert len(await gated.rows("shop.sales")) == 2 * snapshots_then


async def test_a_table_renamed_before_its_commit_gets_the_rows_under_its_new_name(
    gated: Any, gate: Any, catalog: Any, identity: Any
) -> None:
    assert (await gated.load("shop.orders", ROWS)).status_code == 201
    tables = tables_of(gated, catalog, identity)
    gate.on(*COMMIT, "hold")
    loading = asyncio.create_task(gated.load("shop.orders", ROWS))
    await gate.reached.wait()
    await asyncio.to_thread(tables.rename_table, "shop.orders", "shop.sales")
    await asyncio.to_thread(tables.create_table, "shop.orders", Schema(NestedField(1, "c", LongType())))
    gate.released.set()
    assert (await loading).status_code == 201, (await loading).text
    assert len(await gated.rows("shop.sales")) == 4
    assert await gated.rows("shop.orders") == []


async def test_files_of_a_table_that_was_dropped_but_not_purged_are_kept(
    settings: Any, catalog: Any, identity: Any, tmp_path: Path, make: Any, tenant: str
) -> None:
    app = create_app(settings(catalog.url, tmp_path / "spool"))
    async with serving(app) as url:
        api = make(url, tenant)
        done = (await api.load("shop.orders", ROWS)).json()
        tables = tables_of(api, catalog, identity)
        await asyncio.to_thread(tables.rename_table, "shop.orders", "shop.sales")
        resources = app.state.resources
        committer = Committer(resources.catalog, resources.settings.commit, resources.warehouse)
        async with tenant_transaction(resources.pool, tenant) as connection:
            load = await queries.get_load(connection, UUID(done["load_id"]))
        assert load is not None
        assert load.intent is not None
        delegation = identity.delegation(Principal(tenant=tenant, subject="ana", scopes=("loads:write",)))
        plan = replace(plan_of(load, load.intent, tmp_path), delegation=delegation)
        assert await committer.is_committed(plan)
        await asyncio.to_thread(tables.drop_table, "shop.sales")
        with pytest.raises(OutcomeUnprovable):
            await committer.is_committed(plan)


async def test_others_that_add_columns_while_a_load_with_a_new_one_is_read_do_not_fail_it(
    gated: Any, catalog: Any, identity: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await gated.load("shop.orders", ROWS)).status_code == 201
    others = [f"other_{number}" for number in range(6)]
    left = iter(others)
    read = pipeline.Pipeline._read

    def add(name: str) -> None:
        table = tables_of(gated, catalog, identity).load_table("shop.orders")
        with table.update_schema() as update:
            update.add_column(name, LongType())

    async def read_and_overtaken(*arguments: Any) -> Any:
        found = await read(*arguments)
        for name in left:
            await asyncio.to_thread(add, name)
            break
        return found

    monkeypatch.setattr(pipeline.Pipeline, "_read", read_and_overtaken)
    answer = await gated.load("shop.orders", b"a,mine\n7,8\n")
    assert answer.status_code == 201, answer.text
    rows = await gated.rows("shop.orders", filter="a = 7")
    assert rows == [{"a": 7, "b": None, **dict.fromkeys(others), "mine": 8}]


async def test_a_warehouse_that_fills_up_at_the_commit_is_507_and_nothing_is_committed(
    gated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await gated.load("shop.orders", ROWS)).status_code == 201

    def full(*_arguments: Any, **_options: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as filled:
        filled.setattr(snapshots, "append", full)
        answer = await gated.load("shop.orders", ROWS)
    assert (answer.status_code, answer.json()["type"]) == (507, "/problems/spool-full")
    assert (await gated.load("shop.orders", ROWS)).status_code == 201
    assert len(await gated.rows("shop.orders")) == 4


async def test_a_failure_that_can_not_be_recorded_is_recorded_later(
    gated: Any, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await gated.load("shop.orders", ROWS)).status_code == 201
    failures = iter([RuntimeError("the connection is in no state to be used")])
    is_owner = queries.is_owner

    async def owned(*arguments: Any) -> bool:
        for failure in failures:
            raise failure
        return await is_owner(*arguments)

    monkeypatch.setattr(jobs.queries, "is_owner", owned)
    gate.on(*COMMIT, "conflict")
    answer = await gated.load("shop.orders", ROWS)
    assert next(failures, None) is None
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/commit-conflict")


async def test_what_the_database_can_not_hold_fails_the_load_and_is_not_taken_for_an_outage(
    gated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(connection: Any, *_: Any) -> Any:
        return await connection.fetchrow("SELECT $1::text", "a\0b")

    monkeypatch.setattr(pipeline.queries, "set_reading", refused)
    answer = await gated.load("shop.orders", ROWS)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")
    assert "U+0000" in answer.json()["detail"]


async def test_a_catalog_killed_between_upload_and_commit_costs_nothing(
    settings: Any, own_catalog: Any, tmp_path: Path, make: Any, tenant: str, database: Any, gate: Any
) -> None:
    gate.target = own_catalog.url
    async with serving(create_app(settings(gate.url, tmp_path / "spool"))) as url:
        api = make(url, tenant)
        assert (await api.load("shop.orders", ROWS)).status_code == 201
        gate.on(*COMMIT, "hold")
        loading = asyncio.create_task(api.load("shop.orders", ROWS, prefer="wait=1"))
        await gate.reached.wait()
        await asyncio.to_thread(own_catalog.kill)
        gate.released.set()
        answer = await loading
        assert answer.status_code == 202, answer.text
        await own_catalog.start()
        load = await api.ended(answer.json()["load_id"])
        assert load["state"] == "completed"
        assert len(await api.rows("shop.orders")) == 4
        assert "load.completed.v1" in await events(database, load["load_id"])


async def test_a_catalog_that_is_away_while_a_load_is_read_fails_it_with_a_hint_to_repeat(
    settings: Any, tmp_path: Path, make: Any, tenant: str
) -> None:
    async with serving(create_app(settings("http://127.0.0.1:9", tmp_path / "spool"))) as url:
        answer = await make(url, tenant).load("shop.orders", ROWS)
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/catalog-unavailable"
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    "request_", [LOAD_TABLE, ("POST", "/namespaces"), ("POST", "/namespaces/shop/tables")], ids=["load", "ns", "stage"]
)
async def test_a_catalog_that_is_away_for_a_moment_while_a_load_is_read_costs_nothing(
    gated: Any, gate: Any, request_: tuple[str, str]
) -> None:
    gate.on(*request_, "lose")
    answer = await gated.load("shop.orders", ROWS)
    assert gate.reached.is_set()
    assert answer.status_code == 201, answer.text
    assert len(await gated.rows("shop.orders")) == 2


async def test_ingest_killed_while_it_receives_reports_the_load_failed(
    start_ingest: Any, catalog: Any, make: Any, tenant: str, tmp_path: Path
) -> None:
    ingest = await start_ingest(catalog.url)
    api = make(ingest.url, tenant)

    async def half() -> Any:
        yield ROWS
        await asyncio.Event().wait()

    loading = asyncio.create_task(api.load("shop.orders", half(), idempotency_key="k"))
    load = await only_load(api)
    assert load["state"] == "receiving"
    await asyncio.to_thread(ingest.kill)
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    await ingest.start()
    load = await api.ended(load["load_id"])
    assert load["problem"]["type"] == "/problems/load-interrupted"
    assert not (tmp_path / "spool" / load["load_id"]).exists()
    assert (await api.load("shop.orders", ROWS, idempotency_key="k")).status_code == 201
    assert len(await api.rows("shop.orders")) == 2


@pytest.mark.parametrize(
    ("request_", "mode", "state"),
    [
        (LOAD_TABLE, "hold", "reading"),
        (COMMIT, "hold", "committing"),
        (COMMIT, "hold-answer", "committing"),
    ],
    ids=["while reading", "before the commit arrives", "after the commit, before its answer"],
)
@pytest.mark.parametrize("first", [True, False], ids=["first load", "later load"])
async def test_ingest_killed_at_any_later_point_completes_the_load_once(
    start_ingest: Any, gate: Any, make: Any, tenant: str, database: Any, tmp_path: Path,
    request_: tuple[str, str], mode: str, state: str, first: bool,
) -> None:  # fmt: skip
    ingest = await start_ingest(gate.url)
    api = make(ingest.url, tenant)
    if not first:
        assert (await api.load("shop.orders", ROWS)).status_code == 201
    gate.on(*request_, mode)
    loading = asyncio.create_task(api.load("shop.orders", ROWS, idempotency_key="k"))
    await gate.reached.wait()
    load = await only_load(api)
    assert load["state"] == state
    await asyncio.to_thread(ingest.kill)
    await asyncio.gather(loading, return_exceptions=True)
    gate.on("", "", "pass")
    gate.released.set()
    await ingest.start()
    load = await api.ended(load["load_id"])
    assert load["state"] == "completed", load
    again = await api.load("shop.orders", ROWS, idempotency_key="k")
    assert again.headers["idempotency-replayed"] == "true"
    assert len(await api.rows("shop.orders")) == (2 if first else 4)
    assert (await events(database, load["load_id"])).count("load.completed.v1") == 1
    await eventually(lambda: not (tmp_path / "spool" / load["load_id"]).exists())


async def test_a_load_whose_database_goes_away_while_its_body_arrives_is_failed_once_it_is_back(
    settings: Any, catalog: Any, tmp_path: Path, make: Any, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = asyncio.Event()
    tried = asyncio.Event()

    @asynccontextmanager
    async def failing(pool: Any, of: str) -> AsyncIterator[Any]:
        if away.is_set():
            tried.set()
            raise Unavailable("injected")
        async with tenant_transaction(pool, of) as connection:
            yield connection

    monkeypatch.setattr(service, "tenant_transaction", failing)
    monkeypatch.setattr(jobs, "tenant_transaction", failing)
    async with serving(create_app(settings(catalog.url, tmp_path / "spool"))) as url:
        api = make(url, tenant)

        async def body() -> Any:
            yield b"a,b\n"
            await only_load(api)
            away.set()
            yield b"1,x\n"

        first = await api.load("shop.orders", body(), idempotency_key="k")
        assert first.status_code == 503
        # the retry finds the database still away: it must come again, as a failure and not as work
        tried.clear()
        await asyncio.wait_for(tried.wait(), 30)
        away.clear()
        load = await api.ended(first.json()["load_id"])
        assert load["state"] == "failed"
        assert load["problem"]["status"] == 503
        again = await api.load("shop.orders", ROWS, idempotency_key="k")
        assert again.status_code == 201, again.text
        assert len(await api.rows("shop.orders")) == 2
        await eventually(lambda: not (tmp_path / "spool" / load["load_id"]).exists())


async def test_a_load_of_this_process_that_nobody_works_on_is_failed_by_the_sweep(
    settings: Any, catalog: Any, tmp_path: Path, make: Any, tenant: str
) -> None:
    made = settings(catalog.url, tmp_path / "spool")
    async with serving(create_app(made)) as url:
        api = make(url, tenant)
        file = tmp_path / "spool" / ".owner"
        owner = await eventually(lambda: file.exists() and file.read_text())
        lost = queries.NewLoad(
            load_id=uuid4(), tenant=tenant, table=TableName("shop", "orders"), options=LoadOptions(), subject="ana",
            delegation="", request_id="r", trace_id="0" * 32, traceparent=f"00-{'1' * 32}-{'1' * 16}-01",
            run_id=uuid4(),
        )  # fmt: skip
        pool = await open_pool(made.postgres, "ingest")
        async with tenant_transaction(pool, tenant) as connection:
            await queries.insert_load(connection, lost, owner)
        await pool.close()
        load = await api.ended(str(lost.load_id))
        assert load["problem"]["type"] == "/problems/load-interrupted"


async def test_a_folder_in_the_spool_that_belongs_to_no_load_is_removed(
    settings: Any, catalog: Any, tmp_path: Path
) -> None:
    stray = tmp_path / "spool" / "7d9f3c1e-0000-4000-8000-000000000000"
    stray.mkdir(parents=True)
    (stray / "in-0").write_bytes(ROWS)
    async with serving(create_app(settings(catalog.url, tmp_path / "spool"))):
        await eventually(lambda: not stray.exists())


async def test_a_second_process_may_not_use_the_same_spool(tmp_path: Path) -> None:
    first = SpoolOwner(tmp_path)
    with pytest.raises(SpoolInUse, match="INGEST_SPOOL__DIR"):
        SpoolOwner(tmp_path)
    first.release()
    assert SpoolOwner(tmp_path).former == first.owner
