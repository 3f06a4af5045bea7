"""What a load tells the rest of the suite, in the transaction of its end."""

from __future__ import annotations

from typing import Any

import asyncpg
import orjson

ROWS = b"a,b\n1,x\n2,y\n"


async def published(database: Any, load_id: str) -> list[tuple[str, dict[str, Any]]]:
    admin = await asyncpg.connect(database.admin_url)
    try:
        found = await admin.fetch("SELECT * FROM eventlog.events WHERE source = $1 ORDER BY id", f"/v1/loads/{load_id}")
    finally:
        await admin.close()
    return [(record["type"], orjson.loads(record["data"])) for record in found]


async def test_a_completed_load_publishes_its_receipt_and_its_openlineage_run(api: Any, database: Any) -> None:
    receipt = (await api.load("shop.orders", ROWS, params={"name": "orders.csv"})).json()
    events = await published(database, receipt["load_id"])
    runs = [data["event"] for type_, data in events if type_ == "openlineage.run_event.v1"]
    assert [run["eventType"] for run in runs] == ["START", "COMPLETE"]
    assert [data["receipt"] for type_, data in events if type_ == "load.completed.v1"] == [receipt]
    complete = runs[1]
    assert complete["run"]["runId"] == receipt["run_id"]
    assert complete["job"] | {"facets": {}} == {
        "namespace": f"lakegate://{api.tenant}",
        "name": "load.shop.orders",
        "facets": {},
    }
    assert [(item["namespace"], item["name"]) for item in complete["inputs"]] == [("file", "orders.csv")]
    output = complete["outputs"][0]
    assert (output["namespace"], output["name"]) == (f"lakegate://{api.tenant}", "shop.orders")
    assert [field["name"] for field in output["facets"]["schema"]["fields"]] == ["a", "b"]
    assert output["facets"]["version"]["datasetVersion"] == str(receipt["snapshot_id"])
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 2
    assert output["facets"]["columnLineage"]["fields"]["a"]["inputFields"][0]["name"] == "orders.csv"


async def test_a_load_that_fails_while_it_is_read_publishes_why(api: Any, database: Any) -> None:
    answer = await api.load("shop.orders", b"a,b\n")
    assert answer.status_code == 422
    events = await published(database, answer.json()["load_id"])
    failed = next(data for type_, data in events if type_ == "load.failed.v1")
    assert failed["problem"]["type"] == answer.json()["type"]
    runs = [data["event"] for type_, data in events if type_ == "openlineage.run_event.v1"]
    assert [run["eventType"] for run in runs] == ["START", "FAIL"]
    assert runs[1]["run"]["facets"]["errorMessage"]["message"] == answer.json()["detail"]


async def test_a_dry_run_publishes_nothing_that_did_not_happen(api: Any, database: Any) -> None:
    receipt = (await api.load("shop.orders", ROWS, params={"dry_run": "true"})).json()
    assert await published(database, receipt["load_id"]) == []
