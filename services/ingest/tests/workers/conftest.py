"""Large loads in processes of their own: an ingest in this process behind the gate, and what is in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from prometheus_client import REGISTRY

from lakegate_chassis.testing import eventually, serving
from lakegate_ingest.app import create_app
from lakegate_ingest.settings import JobSettings, WorkerSettings

ROWS = b"a,b\n" + b"".join(b"%d,x\n" % number for number in range(2000))
SMALL = b"a,b\n1,x\n2,y\n"
LEAST = 1000
COMMIT = ("POST", "/tables/orders")
LOAD_TABLE = ("GET", "/tables/orders")
# quick to hear of a death
JOBS = JobSettings(sweep_seconds=0.3, heartbeat_seconds=0.2, lease_seconds=3, sse_heartbeat_seconds=0.2)
Serve = Callable[..., Any]


def delegated(outcome: str) -> float:
    return REGISTRY.get_sample_value("lakegate_ingest_delegated_loads_total", {"outcome": outcome}) or 0.0


def counted(name: str, **labels: str) -> float:
    """What this process says at /metrics of lakegate_ingest_<name>."""
    return REGISTRY.get_sample_value(f"lakegate_ingest_{name}", labels) or 0.0


def workers(**changes: Any) -> WorkerSettings:
    return WorkerSettings(**{"mode": "subprocess", "least_bytes": LEAST, "beat_seconds": 0.1, **changes})


@pytest.fixture
def serve(settings: Any, gate: Any, tmp_path: Path, make: Any, tenant: str) -> Serve:
    """serve(worker settings) -> Api of an ingest in this process, behind the gate."""

    @asynccontextmanager
    async def run(worker: WorkerSettings) -> AsyncIterator[Any]:
        made = settings(gate.url, tmp_path / "spool", worker=worker, job=JOBS)
        async with serving(create_app(made)) as url:
            yield make(url, tenant)

    return run


@pytest.fixture
async def leases(database: Any) -> AsyncIterator[Any]:
    """leases(load id) -> the owner, None without a lease."""
    admin = await asyncpg.connect(database.admin_url)

    async def owner(load_id: str) -> str | None:
        found: str | None = await admin.fetchval("SELECT owner FROM ingest.leases WHERE load_id = $1", UUID(load_id))
        return found

    yield owner
    await admin.close()


async def begun(api: Any) -> str:
    """The id of the one load of this tenant, once there is one."""

    async def look() -> Any:
        items = (await api.client.get("/v1/loads")).json()["items"]
        return items and items[0]["load_id"]

    found: str = await eventually(look)
    return found


async def worker_pid(leases: Any, load_id: str) -> int:
    async def look() -> int | None:
        owner = await leases(load_id)
        return int(owner.split(":")[3]) if owner and owner.startswith(f"worker:{load_id}:") else None

    found = await eventually(look, within_seconds=30)
    assert found is not None
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
