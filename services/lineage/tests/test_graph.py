"""GET /v1/lineage/graph and /v1/lineage/datasets."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest

from lakegate_lineage.graph.schemas import Graph

Client = httpx.AsyncClient


def dataset(name: str, **facets: Any) -> dict[str, Any]:
    namespace, _, own = name.rpartition("|")
    return {"namespace": namespace or "db", "name": own, "facets": facets}


async def record(client: Client, job: str, inputs: list[Any], outputs: list[Any], **changes: Any) -> str:
    run_id = str(uuid4())
    event = {
        "eventType": "COMPLETE",
        "eventTime": "2026-03-01T12:00:00Z",
        "producer": "https://producer.example/1",
        "run": {"runId": run_id},
        "job": {"namespace": "etl", "name": job},
        "inputs": [dataset(each) if isinstance(each, str) else each for each in inputs],
        "outputs": [dataset(each) if isinstance(each, str) else each for each in outputs],
    }
    answer = await client.post("/api/v1/lineage", json=event | changes)
    assert answer.status_code == 201, answer.text
    return run_id


async def graph(client: Client, name: str = "", **query: Any) -> dict[str, Any]:
    params = {"namespace": "db", "name": name} if name else {}
    answer = await client.get("/v1/lineage/graph", params=params | query)
    assert answer.status_code == 200, answer.text
    Graph.model_validate(answer.json())
    found: dict[str, Any] = answer.json()
    return found


def reached(found: dict[str, Any]) -> dict[str, int]:
    return {node["name"]: node["distance"] for node in found["nodes"]}


def drawn(found: dict[str, Any]) -> set[str]:
    names = {node["id"]: node["name"] for node in found["nodes"]}
    return {f"{names[edge['from']]}>{names[edge['to']]}" for edge in found["edges"]}


@pytest.fixture
async def chain(client: Client) -> Client:
    """raw -> J1 -> clean -> J2 -> report, side -> J2, clean -> J3 -> feature"""
    await record(client, "J1", ["raw"], ["clean"])
    await record(client, "J2", ["clean", "side"], ["report"])
    await record(client, "J3", ["clean"], ["feature"])
    return client


async def test_up_is_where_a_dataset_comes_from(chain: Client) -> None:
    found = await graph(chain, "report", direction="up")
    assert reached(found) == {"report": 0, "J2": -1, "clean": -2, "side": -2, "J1": -3, "raw": -4}
    assert drawn(found) == {"J2>report", "clean>J2", "side>J2", "J1>clean", "raw>J1"}
    assert found["truncated"] is False


async def test_down_is_what_depends_on_a_dataset(chain: Client) -> None:
    found = await graph(chain, "clean", direction="down")
    assert reached(found) == {"clean": 0, "J2": 1, "J3": 1, "report": 2, "feature": 2}
    assert drawn(found) == {"clean>J2", "clean>J3", "J2>report", "J3>feature"}


async def test_both_does_not_turn_around(chain: Client) -> None:
    found = await graph(chain, "clean")
    assert reached(found) == {
        "clean": 0, "J1": -1, "raw": -2, "J2": 1, "J3": 1, "report": 2, "feature": 2,
    }  # fmt: skip


async def test_a_job_is_a_start_too(chain: Client) -> None:
    found = await graph(chain, job_namespace="etl", job_name="J2")
    assert reached(found) == {"J2": 0, "clean": -1, "side": -1, "report": 1, "J1": -2, "raw": -3}
    assert [node["type"] for node in found["nodes"][:2]] == ["job", "dataset"]


async def test_depth_counts_edges(chain: Client) -> None:
    assert reached(await graph(chain, "clean", depth=1)) == {"clean": 0, "J1": -1, "J2": 1, "J3": 1}
    assert reached(await graph(chain, "clean", depth=0)) == {"clean": 0}
    assert (await graph(chain, "clean", depth=1))["truncated"] is False


async def test_the_budget_cuts_and_says_so(chain: Client) -> None:
    found = await graph(chain, "clean", limit=3)
    assert len(found["nodes"]) == 3
    assert found["truncated"] is True
    ids = {node["id"] for node in found["nodes"]}
    assert all({edge["from"], edge["to"]} <= ids for edge in found["edges"])
    assert (await graph(chain, "clean", limit=7))["truncated"] is False


async def test_a_hub_is_cut_within_its_budget(client: Client) -> None:
    for number in range(30):
        await record(client, f"J{number:02}", ["hub"], [f"out{number}"])
    found = await graph(client, "hub", limit=3)
    assert (len(found["nodes"]), found["truncated"]) == (3, True)


async def test_a_cycle_ends(client: Client) -> None:
    await record(client, "A", ["x"], ["y"])
    await record(client, "B", ["y"], ["x"])
    await record(client, "self", ["x"], ["x"])
    found = await graph(client, "x", depth=20)
    assert set(reached(found)) == {"x", "y", "A", "B", "self"}
    assert drawn(found) == {"x>A", "A>y", "y>B", "B>x", "x>self", "self>x"}


async def test_nodes_carry_the_last_run(client: Client) -> None:
    await record(client, "J", ["a"], ["b"], eventTime="2026-03-01T11:00:00Z")
    failed = await record(client, "J", ["a"], ["b"], eventType="FAIL", eventTime="2026-03-01T12:00:00Z")
    await record(client, "J", ["a"], ["b"], eventTime="2026-03-01T10:00:00Z")
    nodes = {node["name"]: node for node in (await graph(client, "b"))["nodes"]}
    expected = {"id": failed, "state": "failed", "at": "2026-03-01T12:00:00Z"}
    assert nodes["J"]["last_run"] == expected
    assert nodes["b"]["last_run"] == expected
    assert nodes["a"]["last_run"] is None


async def test_alternative_names_lead_to_one_node(client: Client, tenant: str) -> None:
    table, location = f"lakegate://{tenant}|travel.flights", "file|/warehouse/travel/flights"
    link = {
        "symlinks": {"identifiers": [{"namespace": "file", "name": "/warehouse/travel/flights", "type": "LOCATION"}]}
    }
    # the engine that reports the location comes first, before anybody has said that the two are one
    await record(client, "spark", [location], ["report"])
    await record(client, "load", [], [dataset(table, **link)])
    for query in (
        {"namespace": f"lakegate://{tenant}", "name": "travel.flights"},
        {"namespace": "file", "name": "/warehouse/travel/flights"},
    ):
        found = await graph(client, **query)
        assert reached(found) == {"travel.flights": 0, "load": -1, "spark": 1, "report": 2}
        start = found["nodes"][0]
        assert start["namespace"] == f"lakegate://{tenant}"
        assert start["aliases"] == [{"namespace": "file", "name": "/warehouse/travel/flights"}]
    found = await graph(client, "report", direction="up")
    assert reached(found) == {"report": 0, "spark": -1, "travel.flights": -2, "load": -3}
    assert drawn(found) == {"spark>report", "travel.flights>spark", "load>travel.flights"}


async def test_an_alternative_name_that_no_event_used_is_found(client: Client) -> None:
    link = {"symlinks": {"identifiers": [{"namespace": "hive", "name": "default.t"}]}}
    await record(client, "J", [], [dataset("t", **link)])
    found = await graph(client, namespace="hive", name="default.t")
    assert reached(found) == {"t": 0, "J": -1}


@pytest.mark.parametrize(
    ("query", "status", "slug"),
    [
        ({"namespace": "db", "name": "nothing"}, 404, "lineage-dataset-unknown"),
        ({"job_namespace": "etl", "job_name": "nothing"}, 404, "lineage-job-unknown"),
        ({"namespace": "db"}, 422, "invalid-request"),
        ({"namespace": "db", "name": "x", "job_name": "y"}, 422, "invalid-request"),
        ({"namespace": "db", "name": "x", "depth": "21"}, 422, "invalid-request"),
        ({"namespace": "db", "name": "x", "limit": "5001"}, 422, "invalid-request"),
        ({"namespace": "db", "name": "x", "direction": "sideways"}, 422, "invalid-request"),
        ({"namespace": "db", "name": "x", "deph": "3"}, 422, "invalid-request"),
    ],
)
async def test_a_graph_that_can_not_be_given_is_a_problem(
    client: Client, query: dict[str, str], status: int, slug: str
) -> None:
    answer = await client.get("/v1/lineage/graph", params=query)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")


async def test_a_graph_of_another_tenant_is_not_seen(client: Client, client_with: Any) -> None:
    await record(client, "J", ["a"], ["b"])
    answer = await client_with(tenant="somebody-else").get("/v1/lineage/graph", params={"namespace": "db", "name": "a"})
    assert answer.status_code == 404


async def test_names_outside_of_the_scope_are_left_out(client: Client, client_with: Any) -> None:
    await record(client, "J", ["a"], ["secret|b"])
    reader = client_with("lineage:read@db", "lineage:read@etl")
    found = await graph(reader, "a")
    hidden = found["nodes"][2]
    assert (hidden["restricted"], hidden["namespace"], hidden["name"]) == (True, "", "")
    assert reached(found) == {"a": 0, "J": 1, "": 2}
    answer = await reader.get("/v1/lineage/graph", params={"namespace": "secret", "name": "b"})
    assert answer.status_code == 403


async def test_a_dataset_has_its_latest_facets_and_its_writes(client: Client) -> None:
    old = {"schema": {"fields": [{"name": "id"}]}, "ownership": {"owners": []}}
    new = {"schema": {"fields": [{"name": "id"}, {"name": "carrier"}]}, "version": {"datasetVersion": "42"}}
    second = await record(client, "J", [], [dataset("t", **new)], eventTime="2026-03-02T00:00:00Z")
    first = await record(client, "J", [], [dataset("t", **old)], eventTime="2026-03-01T00:00:00Z")
    gone = {"ownership": {"_deleted": True}}
    await record(client, "K", [dataset("t", **gone)], [], eventTime="2026-03-03T00:00:00Z")
    answer = await client.get("/v1/lineage/datasets", params={"namespace": "db", "name": "t"})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [field["name"] for field in found["facets"]["schema"]["fields"]] == ["id", "carrier"]
    assert "ownership" not in found["facets"]
    assert [(version["run_id"], version["version"]) for version in found["versions"]] == [(second, "42"), (first, None)]
    answer = await client.get("/v1/lineage/datasets", params={"namespace": "db", "name": "u"})
    assert answer.status_code == 404
