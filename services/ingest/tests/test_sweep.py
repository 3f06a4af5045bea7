"""Sweeps as a process of their own, while the service's own loops are off."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from lakegate_chassis.testing import serving
from lakegate_ingest.app import create_app
from lakegate_ingest.settings import CommitSettings

ROWS = b"a,b\n1,x\n2,y\n"


async def swept(environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and log of one run."""
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lakegate_ingest.sweep",
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await run.communicate()
    assert run.returncode is not None
    return run.returncode, output.decode()


def files_of(warehouse: Path, tenant: str) -> set[Path]:
    return {path for path in (warehouse / tenant).rglob("*") if path.is_file() and path.suffix != ".json"}


async def test_what_loads_left_and_old_loads_go_by_the_process_and_only_by_it(
    settings: Any, gate: Any, tmp_path: Path, make: Any, tenant: str, warehouse: Path, database: Any
) -> None:
    commit = CommitSettings(timeout_seconds=3, settle_seconds=5, orphan_age_seconds=0, attempts=2)
    app = create_app(settings(gate.url, tmp_path / "spool", commit=commit, sweeps_in_process=False))
    admin = await asyncpg.connect(database.admin_url)
    async with serving(app) as url:
        api = make(url, tenant)
        old = await api.load("shop.orders", ROWS)
        before = files_of(warehouse, tenant)
        gate.on("POST", "/tables/orders", "conflict")
        failed = await api.load("shop.orders", ROWS)
        assert failed.status_code == 409
        gate.on("", "", "pass")
        left = files_of(warehouse, tenant)
        assert left > before
        # several turns of the loop that takes over loads of the dead, and which deletes nothing
        await app.state.resources.recovery.sweep_once()
        assert files_of(warehouse, tenant) == left
        await admin.execute(
            "UPDATE ingest.loads SET finished_at = now() - interval '366 days' WHERE load_id = $1",
            UUID(old.json()["load_id"]),
        )
        code, output = await swept(settings.environment(gate.url, tmp_path / "other"))
        assert code == 0, output
        assert files_of(warehouse, tenant) == before
        assert (await api.client.get(f"/v1/loads/{old.json()['load_id']}")).status_code == 404
        assert len(await api.rows("shop.orders")) == 2
        # nothing is left for a second one
        assert (await swept(settings.environment(gate.url, tmp_path / "other")))[0] == 0
    await admin.close()


async def test_a_process_that_can_not_sweep_says_so_with_its_exit_code(settings: Any, tmp_path: Path) -> None:
    environment = settings.environment("http://127.0.0.1:9", tmp_path / "spool")
    environment["INGEST_POSTGRES__URL"] = "postgresql://nobody:none@127.0.0.1:9/none"
    code, output = await swept(environment)
    assert code != 0
    assert "127.0.0.1" in output or "Connection" in output
