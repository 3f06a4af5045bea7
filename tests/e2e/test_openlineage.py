"""Lineage from outside: what Airflow, dbt or Spark report meets what our loads know."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import uuid4

import httpx
from suites import Push, until

PRODUCER = "https://example.org/nightly"
SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"


def run_event(kind: str, run_id: str, job: str, inputs: list[Any], outputs: list[Any]) -> dict[str, Any]:
    return {
        "eventType": kind,
        "eventTime": "2024-01-01T00:00:00Z" if kind == "START" else "2024-01-01T00:05:00Z",
        "run": {"runId": run_id},
        "job": {"namespace": "airflow", "name": job},
        "inputs": inputs,
        "outputs": outputs,
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
    }


def graph(lake: httpx.Client, dataset: dict[str, str], direction: str) -> dict[str, Any]:
    answer = lake.get("/v1/lineage/graph", params={**dataset, "direction": direction, "depth": 10})
    return answer.json() if answer.status_code == 200 else {"nodes": [], "edges": []}


def test_a_report_built_from_a_table_is_downstream_of_it(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, b"a\n1\n", name="source.csv")
    ours = {"namespace": "lakegate://default", "name": table}
    report = {"namespace": "bigquery", "name": f"reports.{table}"}
    job = f"report-{table}"
    run_id = str(uuid4())

    for kind in ("START", "COMPLETE"):
        sent = lake.post("/api/v1/lineage", json=run_event(kind, run_id, job, [ours], [report]))
        assert sent.is_success, sent.text

    def names(direction: str, of: dict[str, str]) -> set[str]:
        return {node["name"] for node in graph(lake, of, direction)["nodes"]}

    until(lambda: {job, report["name"]} <= names("down", ours))
    until(lambda: {job, table, "source.csv"} <= names("up", report))


def test_the_order_and_number_of_events_make_no_difference(lake: httpx.Client, table: str) -> None:
    """Every order of the same events, each of them sent twice, gives the same graph."""
    seen = []
    for number, order in enumerate(itertools.permutations(("START", "RUNNING", "COMPLETE"))):
        source = {"namespace": "files", "name": f"in-{table}-{number}"}
        target = {"namespace": "files", "name": f"out-{table}-{number}"}
        run_id = str(uuid4())
        for kind in order * 2:
            event = run_event(kind, run_id, f"job-{table}-{number}", [source], [target])
            assert lake.post("/api/v1/lineage", json=event).is_success
        found = until(lambda target=target: (g := graph(lake, target, "both"))["edges"] and g)
        names = {node["id"]: node["name"].rpartition("-")[0] for node in found["nodes"]}
        seen.append(sorted((names[edge["from"]], names[edge["to"]]) for edge in found["edges"]))

    assert all(edges == seen[0] for edges in seen)
    assert len(seen[0]) == 2
