"""The main job: one POST becomes a table that anybody can read, find and trace."""

from __future__ import annotations

import csv
import hashlib
import json
from typing import Any

import duckdb
import httpx
from duckdb_extensions import import_extension
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from suites import Push, Suite, need_files_of, until

FLIGHTS = b"""carrier,flight,origin,dest,distance,departed_at
UA,1545,EWR,IAH,1400,2013-01-01T10:00:00Z
AA,1141,JFK,MIA,1089,2013-01-01T10:40:00Z
B6,725,JFK,BQN,1576,2013-01-01T10:45:00Z
"""


def iceberg_table(suite: Suite, table: str) -> Table:
    """The table as PyIceberg opens it: through the gateway, with the key that pushed it."""
    catalog = RestCatalog("e2e", uri=f"{suite.url}/iceberg", warehouse="lakehouse", token=suite.key)
    loaded = catalog.load_table(tuple(table.split(".")))
    need_files_of(suite, loaded.location())
    return loaded


def dataset_of(lake: httpx.Client, table: str) -> dict[str, Any]:
    namespace, _, name = table.rpartition(".")
    answer = lake.get(f"/v1/overview/{namespace}/{name}")
    assert answer.status_code == 200, answer.text
    dataset: dict[str, Any] = answer.json()["dataset"]
    return dataset


def test_one_post_answers_a_receipt_that_ties_everything_together(push: Push, table: str) -> None:
    answer = push(table, FLIGHTS, name="flights.csv")

    assert answer.status_code == 201, answer.text
    receipt = answer.json()
    assert receipt["table"] == table
    assert receipt["rows_in"] == receipt["rows_written"] == 3
    assert receipt["quarantine"]["rows"] == 0
    assert receipt["files"][0]["name"] == "flights.csv"
    assert receipt["files"][0]["sha256"] == hashlib.sha256(FLIGHTS).hexdigest()
    assert receipt["snapshot_id"] is not None
    assert receipt["catalog_version"] is not None
    assert receipt["run_id"]
    assert receipt["trace_id"] in answer.headers.get("traceparent", receipt["trace_id"])


def test_pyiceberg_reads_back_what_was_pushed_with_types(suite: Suite, push: Push, table: str) -> None:
    receipt = push(table, FLIGHTS, format="csv").json()

    read = iceberg_table(suite, table)

    assert read.current_snapshot().snapshot_id == receipt["snapshot_id"]
    types = {field.name: str(field.field_type) for field in read.schema().fields}
    assert types["carrier"] == "string"
    assert types["distance"] in ("int", "long")
    assert types["departed_at"].startswith("timestamp")
    rows = read.scan().to_arrow().sort_by("flight").to_pylist()
    assert [row["flight"] for row in rows] == [725, 1141, 1545]


def test_duckdb_asks_the_table_that_pyiceberg_reads(suite: Suite, push: Push, table: str) -> None:
    push(table, FLIGHTS)
    flights = iceberg_table(suite, table).scan().to_arrow()

    answer = duckdb.sql("SELECT origin, sum(distance) FROM flights GROUP BY origin ORDER BY origin").fetchall()

    assert flights.num_rows == 3
    assert answer == [("EWR", 1400), ("JFK", 2665)]


def test_duckdb_attaches_the_catalog_itself(suite: Suite, push: Push, table: str) -> None:
    """Another engine, the same door: DuckDB's own Iceberg client."""
    push(table, FLIGHTS)
    iceberg_table(suite, table)
    lake = duckdb.connect()
    for extension in ("avro", "httpfs", "iceberg"):
        import_extension(extension)
        lake.load_extension(extension)

    lake.execute("CREATE SECRET door (TYPE iceberg, TOKEN $key)", {"key": suite.key})
    lake.execute(f"ATTACH 'lakehouse' AS lake (TYPE iceberg, ENDPOINT '{suite.url}/iceberg', SECRET door)")

    assert lake.sql(f"SELECT count(*), max(distance) FROM lake.{table}").fetchone() == (3, 1576)


def test_a_second_load_appends_and_makes_a_new_version(suite: Suite, push: Push, table: str) -> None:
    first = push(table, FLIGHTS).json()
    second = push(table, FLIGHTS).json()

    assert second["catalog_version"] > first["catalog_version"]
    assert second["snapshot_id"] != first["snapshot_id"]
    assert iceberg_table(suite, table).scan().count() == 6


def test_a_new_column_evolves_the_table(suite: Suite, push: Push, table: str) -> None:
    push(table, b"a,b\n1,x\n")

    answer = push(table, b"a,b,c\n2,y,2.5\n")

    assert answer.status_code == 201, answer.text
    rows = iceberg_table(suite, table).scan().to_arrow().sort_by("a").to_pylist()
    assert rows == [{"a": 1, "b": "x", "c": None}, {"a": 2, "b": "y", "c": 2.5}]


def test_a_new_column_is_refused_when_asked_to(push: Push, table: str) -> None:
    push(table, b"a,b\n1,x\n")

    answer = push(table, b"a,b,c\n2,y,2.5\n", on_new_column="reject")

    assert answer.status_code == 422, answer.text
    assert "c" in answer.json()["detail"]


def test_a_dry_run_reads_everything_and_writes_nothing(lake: httpx.Client, push: Push, table: str) -> None:
    answer = push(table, FLIGHTS, dry_run="true")

    assert answer.status_code in (200, 201), answer.text
    receipt = answer.json()
    assert receipt["dry_run"] is True
    assert receipt["rows_in"] == 3
    assert receipt["snapshot_id"] is None
    namespace, _, name = table.rpartition(".")
    assert lake.get(f"/v1/tables/{namespace}/{name}/rows").status_code == 404


def test_search_with_the_receipts_token_sees_the_write(lake: httpx.Client, push: Push, table: str) -> None:
    receipt = push(table, FLIGHTS).json()

    found = lake.get("/v1/search", params={"q": table, "consistency_token": receipt["consistency_token"]})

    assert found.status_code == 200, found.text
    assert table in [item["name"] for item in found.json()["items"]]


def test_search_forgives_a_typing_error(lake: httpx.Client, push: Push, table: str) -> None:
    unusual = table.rpartition(".")[0] + ".zeppelin"
    token = push(unusual, FLIGHTS).json()["consistency_token"]

    found = lake.get("/v1/search", params={"q": "zepelin", "consistency_token": token}).json()

    assert any("zeppelin" in item["name"] for item in found["items"])


def test_lineage_leads_from_the_table_to_the_load_and_its_file(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, FLIGHTS, name="flights.csv")
    dataset = dataset_of(lake, table)
    here = {"namespace": dataset["namespace"], "name": dataset["name"], "direction": "up", "depth": 3}

    def graph_with_a_job() -> dict[str, Any] | None:
        answer = lake.get("/v1/lineage/graph", params=here)
        if answer.status_code != 200:
            return None
        graph: dict[str, Any] = answer.json()
        return graph if any(node["type"] == "job" for node in graph["nodes"]) else None

    graph = until(graph_with_a_job)
    by_id = {node["id"]: node for node in graph["nodes"]}
    towards_table = [by_id[edge["from"]] for edge in graph["edges"] if by_id[edge["to"]]["name"] == table]
    assert [node["type"] for node in towards_table] == ["job"]
    assert graph["truncated"] is False


def test_versions_and_their_difference(lake: httpx.Client, push: Push, table: str) -> None:
    first = push(table, b"a,b\n1,x\n").json()["catalog_version"]
    second = push(table, b"a,b,c\n2,y,3\n").json()["catalog_version"]
    dataset = dataset_of(lake, table)

    versions = lake.get(f"/v1/datasets/{dataset['id']}/versions").json()["items"]
    diff = lake.get(f"/v1/datasets/{dataset['id']}/diff", params={"from": first, "to": second})

    assert {first, second} <= {version["version"] for version in versions}
    assert diff.status_code == 200, diff.text
    assert "c" in json.dumps(diff.json()["added"])


def test_rows_are_streamed_with_columns_filter_and_limit(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, FLIGHTS)
    namespace, _, name = table.rpartition(".")
    params = {"columns": "flight,origin", "filter": "origin = 'JFK'", "limit": "1"}

    answer = lake.get(f"/v1/tables/{namespace}/{name}/rows", params={**params, "format": "ndjson"})

    assert answer.status_code == 200, answer.text
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert len(rows) == 1
    assert rows[0].keys() == {"flight", "origin"}
    assert rows[0]["origin"] == "JFK"


def test_an_older_snapshot_can_still_be_read(lake: httpx.Client, push: Push, table: str) -> None:
    first = push(table, b"a\n1\n").json()["snapshot_id"]
    push(table, b"a\n2\n")
    namespace, _, name = table.rpartition(".")

    old = lake.get(f"/v1/tables/{namespace}/{name}/rows", params={"snapshot": str(first), "format": "csv"})

    assert list(csv.reader(old.text.splitlines())) == [["a"], ["1"]]


def test_progress_comes_as_server_sent_events(lake: httpx.Client, push: Push, table: str) -> None:
    begun = push(table, FLIGHTS, headers={"Prefer": "wait=0"})
    assert begun.status_code == 202, begun.text
    location = begun.headers["Location"]

    with lake.stream("GET", f"{location}/events") as stream:
        events = [line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event:")]

    assert events[-1] == "completed"
    assert set(events[:-1]) <= {"progress"}
    assert lake.get(location).json()["receipt"]["rows_written"] == 3


def test_every_answer_names_its_request(lake: httpx.Client) -> None:
    answer = lake.get("/v1/datasets", headers={"X-Request-ID": "e2e-1234"})

    assert answer.headers["X-Request-ID"] == "e2e-1234"


def test_the_documentation_is_served_by_the_gateway_itself(lake: httpx.Client) -> None:
    document = lake.get("/openapi.json").json()
    page = lake.get("/docs")

    assert {"/v1/loads/{namespace}/{table}", "/v1/search"} <= {
        path.replace("{ns}", "{namespace}") for path in document["paths"]
    }
    assert page.status_code == 200
    assert "https://cdn" not in page.text
