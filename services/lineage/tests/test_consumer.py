"""Run events of other services, by the event log."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from lakegate_chassis.eventlog import PermanentFailure, PostgresEventLog, make_event
from lakegate_chassis.postgres import open_pool, tenant_transaction
from lakegate_chassis.settings import PostgresSettings
from lakegate_chassis.testing import eventually
from lakegate_contracts.events import RunEventObserved
from lakegate_lineage.events.consumers import merge_observed


def observed(run_id: str) -> RunEventObserved:
    return RunEventObserved(
        event={
            "eventType": "COMPLETE",
            "eventTime": "2026-03-01T12:00:00Z",
            "producer": "https://producer.example/1",
            "run": {"runId": run_id},
            "job": {"namespace": "lakegate", "name": "load travel.flights"},
            "outputs": [{"namespace": "lakegate://default", "name": "travel.flights"}],
        }
    )


async def test_a_published_run_event_shows_in_the_graph(client: httpx.AsyncClient, database: Any, tenant: str) -> None:
    run_id = str(uuid4())
    ingest = await open_pool(PostgresSettings(url=SecretStr(database.url("ingest"))), "ingest")
    async with tenant_transaction(ingest, tenant) as connection:
        event = make_event(observed(run_id), key="travel.flights", tenant=tenant, source="ingest")
        await PostgresEventLog(ingest).publish(connection, event)
    await ingest.close()

    async def found() -> bool:
        return (await client.get(f"/v1/runs/{run_id}")).status_code == 200

    assert await eventually(found)
    query = {"namespace": "lakegate://default", "name": "travel.flights"}
    graph = (await client.get("/v1/lineage/graph", params=query)).json()
    assert [node["name"] for node in graph["nodes"]] == ["travel.flights", "load travel.flights"]


async def test_a_run_of_ours_wins_over_another_job_that_claims_its_id(
    client: httpx.AsyncClient, pool: asyncpg.Pool, tenant: str
) -> None:
    run_id = str(uuid4())
    forged = observed(run_id).event | {
        "eventType": "FAIL",
        "eventTime": "2020-01-01T00:00:00Z",
        "job": {"namespace": f"lakegate://{tenant}", "name": "load.travel.flights"},
    }
    assert (await client.post("/api/v1/lineage", json=forged)).status_code == 201
    await merge_observed(pool, make_event(observed(run_id), key="travel.flights", tenant=tenant, source="ingest"))
    found = (await client.get(f"/v1/runs/{run_id}")).json()
    assert (found["job"]["name"], found["state"], len(found["events"])) == ("load travel.flights", "completed", 1)
    job = {"job_namespace": f"lakegate://{tenant}", "job_name": "load.travel.flights"}
    assert (await client.get(f"/v1/runs/{run_id}", params=job)).json()["state"] == "failed"


async def test_an_event_that_is_delivered_twice_is_handled_once(pool: asyncpg.Pool, tenant: str) -> None:
    event = make_event(observed(str(uuid4())), key="travel.flights", tenant=tenant, source="ingest")
    for _ in range(2):
        await merge_observed(pool, event)
    async with tenant_transaction(pool, tenant) as connection:
        assert await connection.fetchval("SELECT count(*) FROM runs") == 1
        assert await connection.fetchval("SELECT count(*) FROM handled_events WHERE event_id = $1", event.id) == 1


async def test_what_is_no_openlineage_event_is_given_up_at_once(pool: asyncpg.Pool, tenant: str) -> None:
    event = make_event(RunEventObserved(event={"eventType": "COMPLETE"}), key="x", tenant=tenant, source="ingest")
    with pytest.raises(PermanentFailure, match="eventTime"):
        await merge_observed(pool, event)
