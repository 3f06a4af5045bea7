"""GET /v1/lineage/columns."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest

from lakegate_lineage.columns.schemas import ColumnGraph

Client = httpx.AsyncClient


async def derive(client: Client, target: str, columns: dict[str, list[str]], **facets: Any) -> None:
    """`target.column` is made of `dataset.column`s."""

    def source(path: str) -> dict[str, str]:
        name, _, field = path.partition(".")
        return {"namespace": "db", "name": name, "field": field}

    fields = {column: {"inputFields": [source(path) for path in sources]} for column, sources in columns.items()}
    event = {
        "eventType": "COMPLETE",
        "eventTime": "2026-03-01T12:00:00Z",
        "producer": "https://producer.example/1",
        "run": {"runId": str(uuid4())},
        "job": {"namespace": "etl", "name": f"make {target}"},
        "outputs": [{"namespace": "db", "name": target, "facets": {"columnLineage": {"fields": fields}, **facets}}],
    }
    answer = await client.post("/api/v1/lineage", json=event)
    assert answer.status_code == 201, answer.text


async def reached(client: Client, name: str, **query: Any) -> dict[str, int]:
    answer = await client.get("/v1/lineage/columns", params={"namespace": "db", "name": name} | query)
    assert answer.status_code == 200, answer.text
    graph = ColumnGraph.model_validate(answer.json())
    ids = {node.id for node in graph.nodes}
    assert all({edge.source, edge.to} <= ids for edge in graph.edges)
    return {f"{node.name}.{node.column}": node.distance for node in graph.nodes}


@pytest.fixture
async def chain(client: Client) -> Client:
    await derive(client, "clean", {"delay": ["raw.arr", "raw.dep"], "carrier": ["raw.carrier"]})
    await derive(client, "report", {"mean_delay": ["clean.delay"], "name": ["clean.carrier", "airlines.name"]})
    return client


async def test_a_column_leads_to_what_it_is_made_of(chain: Client) -> None:
    expected = {"report.mean_delay": 0, "clean.delay": -1, "raw.arr": -2, "raw.dep": -2}
    assert await reached(chain, "report", column="mean_delay") == expected
    assert await reached(chain, "report", column="mean_delay", depth=1) == {"report.mean_delay": 0, "clean.delay": -1}


async def test_a_column_leads_to_what_is_made_of_it(chain: Client) -> None:
    assert await reached(chain, "raw", column="carrier") == {"raw.carrier": 0, "clean.carrier": 1, "report.name": 2}


async def test_all_columns_of_a_dataset_are_a_start(chain: Client) -> None:
    found = await reached(chain, "clean")
    assert {column for column, distance in found.items() if distance == 0} == {"clean.delay", "clean.carrier"}
    assert len(found) == 7


async def test_the_budget_cuts_and_says_so(chain: Client) -> None:
    params = {"namespace": "db", "name": "clean", "limit": "3"}
    found = (await chain.get("/v1/lineage/columns", params=params)).json()
    assert (len(found["nodes"]), found["truncated"]) == (3, True)


async def test_another_name_of_the_dataset_leads_to_the_same_columns(client: Client) -> None:
    link = {"symlinks": {"identifiers": [{"namespace": "db", "name": "alias", "type": "TABLE"}]}}
    await derive(client, "b", {"y": ["alias.x"]})
    await derive(client, "a", {"x": ["raw.w"]}, **link)
    assert await reached(client, "b", column="y") == {"b.y": 0, "a.x": -1, "raw.w": -2}


async def test_a_column_without_lineage_is_a_problem(chain: Client) -> None:
    for query in ({"name": "clean", "column": "none"}, {"name": "nothing"}):
        answer = await chain.get("/v1/lineage/columns", params={"namespace": "db"} | query)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/lineage-column-unknown")
