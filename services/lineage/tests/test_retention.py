"""What is deleted, and what stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from prometheus_client import REGISTRY

from lakegate_chassis.postgres import tenant_transaction
from lakegate_lineage.events import retention
from lakegate_lineage.events.retention import EventRetention
from lakegate_lineage.settings import LineageSettings
from lakegate_lineage.sweep import sweep


def event(run_id: str) -> dict[str, Any]:
    return {
        "eventType": "COMPLETE",
        "eventTime": "2026-03-01T12:00:00Z",
        "producer": "https://producer.example/1",
        "run": {"runId": run_id},
        "job": {"namespace": "etl", "name": "J"},
        "outputs": [{"namespace": "db", "name": "t"}],
    }


def pruned(table: str) -> float:
    return REGISTRY.get_sample_value("lakegate_lineage_pruned_total", {"table": table}) or 0.0


async def test_old_events_of_every_tenant_go_and_what_they_told_stays(
    client: httpx.AsyncClient,
    client_with: Any,
    pool: asyncpg.Pool,
    database: Any,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    other = f"{tenant}-other"
    old, new = [str(uuid4()) for _ in range(5)], str(uuid4())
    for run_id in (*old, new):
        assert (await client.post("/api/v1/lineage", json=event(run_id))).status_code == 201
    await client_with(tenant=other).post("/api/v1/lineage", json=event(old[0]))
    ids = [uuid4() for _ in range(3)]
    admin = await asyncpg.connect(database.admin_url)
    await admin.execute(
        "UPDATE lineage.events SET received_at = now() - interval '91 days' "
        "WHERE tenant = ANY($1::text[]) AND body::text NOT LIKE '%' || $2 || '%'",
        [tenant, other],
        new,
    )
    await admin.executemany(
        "INSERT INTO lineage.handled_events (event_id, handled_at) VALUES ($1, now() - $2::interval)",
        [(ids[0], timedelta(days=8)), (ids[1], timedelta(days=8)), (ids[2], timedelta(days=6))],
    )
    before = pruned("events"), pruned("handled_events")
    keeper = EventRetention(pool, keep_events=timedelta(days=90), keep_handled=timedelta(days=7))
    assert await keeper.prune() == (6, 2)
    assert (pruned("events") - before[0], pruned("handled_events") - before[1]) == (6, 2)
    left = await admin.fetch("SELECT event_id FROM lineage.handled_events WHERE event_id = ANY($1::uuid[])", ids)
    assert [row[0] for row in left] == [ids[2]]
    await admin.close()
    async with tenant_transaction(pool, tenant) as connection:
        assert await connection.fetchval("SELECT count(*) FROM events") == 1
    run = (await client.get(f"/v1/runs/{old[0]}")).json()
    assert (run["state"], run["events"]) == ("completed", [])
    # an event that comes again after that is merged again, and changes nothing
    await client.post("/api/v1/lineage", json=event(old[0]))
    assert len((await client.get("/v1/runs")).json()["items"]) == 6
    assert await keeper.prune() == (0, 0)


async def test_a_process_of_its_own_prunes_where_the_loops_are_off(
    settings: LineageSettings, client: httpx.AsyncClient, pool: asyncpg.Pool, database: Any, tenant: str
) -> None:
    run_id = str(uuid4())
    assert (await client.post("/api/v1/lineage", json=event(run_id))).status_code == 201
    admin = await asyncpg.connect(database.admin_url)
    await admin.execute("UPDATE lineage.events SET received_at = now() - interval '91 days' WHERE tenant = $1", tenant)
    await admin.close()
    assert await sweep(settings)
    async with tenant_transaction(pool, tenant) as connection:
        assert await connection.fetchval("SELECT count(*) FROM events") == 0
