"""What is deleted, and what stays."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from prometheus_client import REGISTRY

from lakegate_chassis.objectstore import ObjectStoreSettings
from lakegate_chassis.postgres import close_pool, open_pool
from lakegate_chassis.settings import PostgresSettings
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.loads import retention
from lakegate_ingest.loads.retention import LoadRetention

# the last row is quarantined
DIRTY = b"a,b\n" + b"".join(b"%d,x\n" % number for number in range(50)) + b"word,y\n"


def pruned(kind: str) -> float:
    return REGISTRY.get_sample_value("lakegate_ingest_pruned_total", {"kind": kind}) or 0.0


async def test_old_loads_of_every_tenant_go_with_their_rejected_rows_and_the_table_stays(
    api: Any, make: Any, ingest_url: str, database: Any, warehouse: Path, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    pool = await open_pool(PostgresSettings(url=database.url("ingest")), "ingest")
    keeper = LoadRetention(pool, Warehouse(f"file://{warehouse}", ObjectStoreSettings()), keep=timedelta(days=30))
    await keeper.prune()  # what other tests left
    other = make(ingest_url, f"{tenant}-other")
    assert (await api.load("shop.orders", b"a,b\n1,x\n")).status_code == 201
    old = [(await api.load("shop.orders", DIRTY)).json() for _ in range(2)]
    assert [receipt["quarantine"]["rows"] for receipt in old] == [1, 1]
    keyed = await api.load("shop.orders", DIRTY, idempotency_key="again")
    elsewhere = (await other.load("shop.orders", b"a\n1\n")).json()
    folders = [warehouse / tenant / "_quarantine" / receipt["load_id"] for receipt in old]
    assert all(folder.is_dir() for folder in folders)
    admin = await asyncpg.connect(database.admin_url)
    await admin.execute(
        "UPDATE ingest.loads SET finished_at = now() - interval '31 days' WHERE load_id = ANY($1::uuid[])",
        [UUID(receipt["load_id"]) for receipt in (*old, elsewhere)],
    )
    await admin.execute("UPDATE ingest.idempotency_keys SET expires_at = now() WHERE tenant = $1", tenant)
    before = {kind: pruned(kind) for kind in ("loads", "quarantine files", "idempotency keys")}
    assert await keeper.prune() == (3, 1)
    assert await keeper.prune() == (0, 0)
    await close_pool(pool)
    await admin.close()
    assert {kind: pruned(kind) - count for kind, count in before.items()} == {
        "loads": 3,
        "quarantine files": 2,
        "idempotency keys": 1,
    }
    assert not any(folder.exists() for folder in folders)
    for receipt in old:
        assert (await api.client.get(f"/v1/loads/{receipt['load_id']}")).status_code == 404
    kept = keyed.json()["load_id"]
    assert (await api.client.get(f"/v1/loads/{kept}/rejects")).json()["items"][0]["value"] == "word"
    assert len(await api.rows("shop.orders")) == 151
