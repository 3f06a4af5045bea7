"""The official OpenLineage client for Python, as Airflow, dbt and Dagster use it."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from lakegate_chassis.testing import serving

pytest.importorskip("openlineage.client", reason="openlineage-python is not installed")

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import (
    DatasetEvent,
    InputDataset,
    Job,
    JobEvent,
    OutputDataset,
    Run,
    RunEvent,
    RunState,
    StaticDataset,
)
from openlineage.client.facet_v2 import (
    column_lineage_dataset,
    error_message_run,
    output_statistics_output_dataset,
    parent_run,
    schema_dataset,
    symlinks_dataset,
)
from openlineage.client.transport.http import ApiKeyTokenProvider, HttpCompression, HttpConfig, HttpTransport

PRODUCER = "https://github.com/apache/airflow"


def client_for(url: str, token: str, **config: Any) -> OpenLineageClient:
    auth = ApiKeyTokenProvider({"apiKey": token})
    return OpenLineageClient(transport=HttpTransport(HttpConfig(url=url, auth=auth, **config)))


@pytest.mark.parametrize("compression", [None, HttpCompression.GZIP])
async def test_a_run_with_facets_arrives_whole(
    base_url: str, token: Any, client: httpx.AsyncClient, compression: HttpCompression | None
) -> None:
    run_id, parent_id = str(uuid4()), str(uuid4())
    run = Run(
        run_id,
        facets={
            "parent": parent_run.ParentRunFacet(parent_run.Run(parent_id), parent_run.Job("airflow", "dag")),
            "errorMessage": error_message_run.ErrorMessageRunFacet("boom", "python"),
        },
    )
    fields = [schema_dataset.SchemaDatasetFacetFields("carrier", "STRING")]
    columns = column_lineage_dataset.ColumnLineageDatasetFacet(
        {"carrier": column_lineage_dataset.Fields([column_lineage_dataset.InputField("db", "raw", "unique_carrier")])}
    )
    link = symlinks_dataset.SymlinksDatasetFacet([symlinks_dataset.Identifier("hive", "default.flights", "TABLE")])
    output = OutputDataset(
        "db",
        "flights",
        facets={"schema": schema_dataset.SchemaDatasetFacet(fields), "columnLineage": columns, "symlinks": link},
        outputFacets={
            "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=336_776)
        },
    )
    openlineage = client_for(base_url, token(), compression=compression)
    for state, when in ((RunState.START, "12:00:00"), (RunState.FAIL, "12:00:07")):
        event = RunEvent(
            eventType=state, eventTime=f"2026-03-01T{when}Z", run=run, job=Job("airflow", "dag.task"),
            inputs=[InputDataset("db", "raw")], outputs=[output], producer=PRODUCER,
        )  # fmt: skip
        await asyncio.to_thread(openlineage.emit, event)
    found = (await client.get(f"/v1/runs/{run_id}")).json()
    assert (found["state"], found["duration_seconds"], found["error"]) == ("failed", 7.0, "boom")
    assert found["parent_id"] == parent_id
    assert found["outputs"][0]["facets"]["outputStatistics"]["rowCount"] == 336_776
    graph = (await client.get("/v1/lineage/graph", params={"namespace": "hive", "name": "default.flights"})).json()
    assert [node["name"] for node in graph["nodes"]] == ["flights", "dag.task", "raw"]


async def test_static_events_arrive(base_url: str, token: Any, client: httpx.AsyncClient) -> None:
    openlineage = client_for(base_url, token())
    job = JobEvent(
        eventTime="2026-03-01T12:00:00Z", job=Job("dbt", "model"), producer=PRODUCER,
        inputs=[InputDataset("db", "a")], outputs=[OutputDataset("db", "b")],
    )  # fmt: skip
    dataset = DatasetEvent(
        eventTime="2026-03-01T12:00:00Z",
        dataset=StaticDataset("db", "c", facets={"schema": schema_dataset.SchemaDatasetFacet([])}),
        producer=PRODUCER,
    )
    for event in (job, dataset):
        await asyncio.to_thread(openlineage.emit, event)
    graph = (await client.get("/v1/lineage/graph", params={"namespace": "db", "name": "b"})).json()
    assert [node["name"] for node in graph["nodes"]] == ["b", "model", "a"]
    answer = await client.get("/v1/lineage/datasets", params={"namespace": "db", "name": "c"})
    assert "schema" in answer.json()["facets"]


async def test_the_client_repeats_an_event_that_was_shed(token: Any) -> None:
    answers: list[int] = []

    async def busy_at_first(scope: Any, receive: Any, send: Any) -> None:
        status = 503 if len(answers) < 2 else 201
        answers.append(status)
        await send({"type": "http.response.start", "status": status, "headers": [(b"retry-after", b"0")]})
        await send({"type": "http.response.body", "body": b"{}"})

    event = RunEvent(
        eventType=RunState.START, eventTime="2026-03-01T12:00:00Z", run=Run(str(uuid4())), job=Job("a", "b"),
        producer=PRODUCER,
    )  # fmt: skip
    async with serving(busy_at_first, lifespan="off") as url:
        await asyncio.to_thread(client_for(url, token()).emit, event)
    assert answers == [503, 503, 201]


async def test_a_name_that_the_client_escapes_is_kept(base_url: str, token: Any, client: httpx.AsyncClient) -> None:
    name = 'weird "name"/ü:%41?#é\n'
    event = RunEvent(
        eventType=RunState.COMPLETE, eventTime="2026-03-01T12:00:00Z", run=Run(str(uuid4())), job=Job("ns/ü", name),
        producer=PRODUCER, outputs=[OutputDataset("s3://bucket", name)],
    )  # fmt: skip
    await asyncio.to_thread(client_for(base_url, token()).emit, event)
    params = {"namespace": "s3://bucket", "name": name}
    graph = (await client.get("/v1/lineage/graph", params=params)).json()
    assert {(node["namespace"], node["name"]) for node in graph["nodes"]} == {("s3://bucket", name), ("ns/ü", name)}
