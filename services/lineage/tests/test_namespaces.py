"""A scope with a namespace is not got around: not by another name, not by a run's id, not by naming an input."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from lakegate_chassis.postgres import tenant_transaction
from lakegate_lineage.events import queries
from lakegate_lineage.events.changes import Changes
from lakegate_lineage.events.openlineage import parse_event

Client = httpx.AsyncClient
LOCATION = ("file", "/warehouse/secret/flights")
TIME = "2026-03-01T12:00:00Z"


@pytest.fixture
def ours(tenant: str) -> str:
    return f"lakegate://{tenant}"


@pytest.fixture
def insider(client_with: Any) -> Client:
    """Whoever may read and write in travel, and nowhere else."""
    made: Client = client_with("lineage:read@travel.*", "lineage:write@travel.*")
    return made


def links(*names: tuple[str, str]) -> dict[str, Any]:
    return {"symlinks": {"identifiers": [{"namespace": one, "name": other, "type": "TABLE"} for one, other in names]}}


def dataset(namespace: str, name: str, **facets: Any) -> dict[str, Any]:
    return {"namespace": namespace, "name": name, "facets": facets}


def dataset_event(namespace: str, name: str, **facets: Any) -> dict[str, Any]:
    producer = "https://producer.example/1"
    return {"eventTime": TIME, "producer": producer, "dataset": dataset(namespace, name, **facets)}


def run_event(run_id: str, namespace: str, name: str, **changes: Any) -> dict[str, Any]:
    return {
        "eventType": "COMPLETE",
        "eventTime": TIME,
        "producer": "https://producer.example/1",
        "run": {"runId": run_id},
        "job": {"namespace": namespace, "name": name},
    } | changes


async def post(client: Client, event: dict[str, Any], status: int = 201) -> None:
    answer = await client.post("/api/v1/lineage", json=event)
    assert answer.status_code == status, answer.text


async def get(client: Client, what: str, namespace: str, name: str) -> httpx.Response:
    return await client.get(f"/v1/lineage/{what}", params={"namespace": namespace, "name": name})


@pytest.fixture
async def secret(client: Client, pool: asyncpg.Pool, tenant: str, ours: str) -> str:
    """A load of secret.flights as ingest tells it; its run's id."""
    run_id = str(uuid4())
    facets = {
        "schema": {"fields": [{"name": "passenger"}]},
        "columnLineage": {
            "fields": {"passenger": {"inputFields": [{"namespace": "file", "name": "p.csv", "field": "passenger"}]}}
        },
        **links(LOCATION),
    }
    output = dataset(ours, "secret.flights", **facets)
    event = run_event(run_id, ours, "load.secret.flights", outputs=[output])
    observed = parse_event(httpx.Request("POST", "http://x", json=event).content, own=True)
    async with tenant_transaction(pool, tenant) as connection:
        await queries.merge(connection, tenant, Changes.of([observed]))
    return run_id


async def test_a_symlink_to_a_table_outside_of_the_scope_is_refused(
    insider: Client, secret: str, ours: str, pool: asyncpg.Pool, tenant: str
) -> None:
    stolen = links((ours, "secret.flights"))
    await post(insider, dataset_event(ours, "travel.evil", **stolen), 403)
    run_id = str(uuid4())
    for side in ("inputs", "outputs"):
        event = run_event(run_id, "travel", "job", **{side: [dataset(ours, "travel.evil", **stolen)]})
        await post(insider, event, 403)
    batch = [dataset_event(ours, "travel.evil", **stolen), dataset_event(ours, "travel.fine")]
    answer = await insider.post("/api/v1/lineage/batch", json=batch)
    assert [item["status"] for item in answer.json()["items"]] == ["refused", "recorded"]
    await post(insider, dataset_event(ours, "travel.evil", **links((ours, "travel.flights"), ("hive", "t"))))


async def test_facets_of_an_input_outside_of_the_scope_change_nothing_about_it(
    insider: Client, client: Client, secret: str, ours: str
) -> None:
    forged = dataset(ours, "secret.flights", schema={"fields": []}, **links((ours, "travel.evil")))
    await post(insider, run_event(str(uuid4()), "travel", "job", eventTime="2026-03-02T00:00:00Z", inputs=[forged]))
    found = (await get(client, "datasets", ours, "secret.flights")).json()
    assert found["facets"]["schema"]["fields"] == [{"name": "passenger"}]
    assert found["aliases"] == [{"namespace": LOCATION[0], "name": LOCATION[1]}]
    graph = (await get(client, "graph", ours, "secret.flights")).json()
    assert "job" in {node["name"] for node in graph["nodes"]}


@pytest.mark.parametrize("target", ["table", "location"])
async def test_a_link_to_a_table_or_its_location_opens_nothing(
    insider: Client, client: Client, client_with: Any, secret: str, ours: str, target: str
) -> None:
    # by whoever may write both, or by the location, which is no table of ours
    writer = client if target == "table" else insider
    name = (ours, "secret.flights") if target == "table" else LOCATION
    await post(writer, dataset_event(ours, "travel.evil", **links(name)))
    found = (await get(insider, "datasets", ours, "travel.evil")).json()
    assert (found["name"], found["aliases"], found["versions"]) == ("travel.evil", [], [])
    assert set(found["facets"]) == {"symlinks"}
    assert (await get(insider, "columns", ours, "travel.evil")).status_code == 404
    nodes = (await get(insider, "graph", ours, "travel.evil")).json()["nodes"]
    assert [(node["name"], node["last_run"]) for node in nodes] == [("travel.evil", None)]
    # and the table keeps its name, its location and its lineage
    for asked in ((ours, "secret.flights"), LOCATION):
        nodes = (await get(client, "graph", *asked)).json()["nodes"]
        assert [node["name"] for node in nodes] == ["secret.flights", "load.secret.flights"]
        found = (await get(client, "datasets", *asked)).json()
        assert (found["name"], [each["run_id"] for each in found["versions"]]) == ("secret.flights", [secret])
    assert (await get(client, "columns", ours, "secret.flights")).json()["nodes"][0]["name"] == "secret.flights"


async def test_of_a_dataset_with_several_names_only_the_readable_ones_are_told(
    client: Client, client_with: Any, ours: str
) -> None:
    columns = {"fields": {"b": {"inputFields": [{"namespace": "db", "name": "raw", "field": "a"}]}}}
    hidden = dataset("db", "t", schema={"fields": [{"name": "b"}]}, columnLineage=columns, **links((ours, "travel.t")))
    run_id = str(uuid4())
    await post(client, run_event(run_id, "db", "job", outputs=[hidden]))
    reader = client_with("lineage:read@travel.*")
    assert (await get(reader, "datasets", ours, "travel.t")).status_code == 404
    assert (await get(reader, "columns", ours, "travel.t")).status_code == 404
    (start, job) = (await get(reader, "graph", ours, "travel.t")).json()["nodes"]
    assert (start["name"], start["aliases"], start["last_run"]) == ("travel.t", [], None)
    assert (job["restricted"], job["last_run"]) == (True, None)
    # the reader of the other name sees that one
    start = (await get(client_with("lineage:read@db"), "graph", "db", "t")).json()["nodes"][0]
    assert (start["name"], start["aliases"], start["last_run"]["id"]) == ("t", [], run_id)
    start = (await get(client, "graph", "db", "t")).json()["nodes"][0]
    assert (start["name"], start["aliases"]) == ("travel.t", [{"namespace": "db", "name": "t"}])


async def test_a_column_told_under_a_name_that_is_not_readable_is_restricted(
    client: Client, client_with: Any, ours: str
) -> None:
    def made_of(namespace: str, name: str, field: str) -> dict[str, Any]:
        source = {"namespace": namespace, "name": name, "field": field}
        return {"columnLineage": {"fields": {"x": {"inputFields": [source]}}}}

    await post(client, dataset_event("db", "t", **links((ours, "travel.t"))))
    await post(client, dataset_event(ours, "travel.out", **made_of("db", "t", "salary")))
    nodes = (await get(client_with("lineage:read@travel.*"), "columns", ours, "travel.out")).json()["nodes"]
    assert [(node["name"], node["column"], node["restricted"]) for node in nodes] == [
        ("travel.out", "x", False),
        ("", "", True),
    ]


async def test_a_run_is_not_taken_over_by_another_job_that_names_its_id(
    insider: Client, client: Client, secret: str, ours: str
) -> None:
    forged = {"eventType": "FAIL", "eventTime": "2026-03-09T00:00:00Z", "outputs": [dataset(ours, "travel.flights")]}
    await post(insider, run_event(secret, ours, "load.travel.flights", **forged))
    found = (await client.get(f"/v1/runs/{secret}")).json()
    assert (found["job"]["name"], found["state"], found["last_event_at"]) == ("load.secret.flights", "completed", TIME)
    assert [each["name"] for each in found["outputs"]] == ["secret.flights"]
    nodes = (await get(client, "graph", ours, "secret.flights")).json()["nodes"]
    assert [node["last_run"]["state"] for node in nodes] == ["completed", "completed"]
    # whoever wrote it sees what was written, and nothing of the other
    found = (await insider.get(f"/v1/runs/{secret}")).json()
    assert (found["job"]["name"], found["state"], len(found["events"])) == ("load.travel.flights", "failed", 1)
    runs = (await client.get("/v1/runs")).json()["items"]
    assert {(run["id"], run["job"]["name"]) for run in runs} == {
        (secret, "load.secret.flights"),
        (secret, "load.travel.flights"),
    }


async def test_of_two_callers_jobs_with_one_run_id_the_first_to_begin_is_shown(client: Client) -> None:
    run_id = str(uuid4())
    await post(client, run_event(run_id, "etl", "later", eventTime="2026-03-02T00:00:00Z"))
    await post(client, run_event(run_id, "etl", "first"))
    assert (await client.get(f"/v1/runs/{run_id}")).json()["job"]["name"] == "first"
    answer = await client.get(f"/v1/runs/{run_id}", params={"job_namespace": "etl", "job_name": "later"})
    assert answer.json()["job"]["name"] == "later"
    assert (await client.get(f"/v1/runs/{run_id}", params={"job_name": "later"})).status_code == 422
