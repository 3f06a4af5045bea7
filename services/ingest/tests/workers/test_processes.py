"""Large loads in processes of their own, as children of ingest."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from lakegate_chassis.postgres import tenant_transaction
from lakegate_chassis.problems import Unavailable
from lakegate_chassis.testing import eventually
from lakegate_ingest.workers import delegation, processes

from .conftest import COMMIT, LEAST, LOAD_TABLE, ROWS, SMALL, Serve, begun, delegated, is_alive, worker_pid, workers


async def _is(api: Any, load_id: str, state: str) -> bool:
    return bool((await api.client.get(f"/v1/loads/{load_id}")).json()["state"] == state)


async def test_a_load_over_the_threshold_is_run_by_a_process_of_its_own(
    serve: Serve, gate: Any, leases: Any, tmp_path: Path
) -> None:
    async with serve(workers()) as api:
        before = delegated("ended")
        assert (await api.load("shop.orders", SMALL)).status_code == 201
        assert delegated("ended") == before
        gate.on(*COMMIT, "hold")
        loading = asyncio.create_task(api.load("shop.orders", ROWS))
        await gate.reached.wait()
        load_id = (await api.client.get("/v1/loads")).json()["items"][0]["load_id"]
        pid = await worker_pid(leases, load_id)
        assert pid != os.getpid()
        # this process tells of a load that it does not run
        await eventually(lambda: _is(api, load_id, "committing"))
        gate.released.set()
        receipt = await api.completed(await loading)
        assert receipt["rows_written"] == 2000
        assert len(await api.rows("shop.orders")) == 2002
        assert delegated("ended") == before + 1
        await eventually(lambda: not (tmp_path / "spool" / load_id).exists())
        await eventually(lambda: not is_alive(pid))


def _has_read_all(line: str) -> bool:
    return bool(orjson.loads(line.removeprefix("data: "))["bytes_read"] == len(ROWS))


async def test_its_progress_is_followed_here_and_by_whoever_asks(serve: Serve, gate: Any, leases: Any) -> None:
    async with serve(workers()) as api:
        gate.on(*COMMIT, "hold")
        loading = asyncio.create_task(api.load("shop.orders", ROWS, prefer="wait=0"))
        load_id = (await loading).json()["load_id"]
        lines: list[str] = []

        async def follow() -> None:
            async with api.client.stream("GET", f"/v1/loads/{load_id}/events") as answer:
                lines.extend([line async for line in answer.aiter_lines()])

        following = asyncio.create_task(follow())
        await gate.reached.wait()
        await eventually(lambda: any(_has_read_all(line) for line in lines if '"state":"committing"' in line))
        gate.released.set()
        await following
        names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
        assert names[-1] == "completed"
        assert "progress" in names


async def test_a_worker_killed_at_the_commit_is_followed_by_another_and_the_rows_are_there_once(
    serve: Serve, gate: Any, leases: Any
) -> None:
    async with serve(workers()) as api:
        assert (await api.load("shop.orders", SMALL)).status_code == 201
        before = delegated("gone")
        gate.on(*COMMIT, "hold-answer")
        loading = asyncio.create_task(api.load("shop.orders", ROWS))
        await gate.reached.wait()
        load_id = (await api.client.get("/v1/loads")).json()["items"][0]["load_id"]
        first = await worker_pid(leases, load_id)
        os.kill(first, signal.SIGKILL)
        gate.on("", "", "pass")
        gate.released.set()
        await api.completed(await loading)
        assert len(await api.rows("shop.orders")) == 2002
        assert delegated("gone") == before + 1


async def test_a_worker_killed_while_it_reads_is_followed_by_another(serve: Serve, gate: Any, leases: Any) -> None:
    async with serve(workers()) as api:
        gate.on(*LOAD_TABLE, "hold")
        loading = asyncio.create_task(api.load("shop.orders", ROWS))
        await gate.reached.wait()
        first = await worker_pid(leases, await begun(api))
        os.kill(first, signal.SIGKILL)
        gate.on("", "", "pass")
        gate.released.set()
        await api.completed(await loading)
        assert len(await api.rows("shop.orders")) == 2000


async def test_a_worker_outlives_the_process_that_started_it(
    start_ingest: Any, gate: Any, make: Any, tenant: str, leases: Any
) -> None:
    environment = {"INGEST_WORKER__MODE": "subprocess", "INGEST_WORKER__LEAST_BYTES": str(LEAST)}
    ingest = await start_ingest(gate.url, **environment)
    api = make(ingest.url, tenant)
    gate.on(*COMMIT, "hold")
    loading = asyncio.create_task(api.load("shop.orders", ROWS, prefer="wait=0"))
    load_id = (await loading).json()["load_id"]
    await gate.reached.wait()
    pid = await worker_pid(leases, load_id)
    await asyncio.to_thread(ingest.kill)
    assert is_alive(pid)
    gate.released.set()

    async def over() -> bool:
        return await leases(load_id) is None

    await eventually(over, within_seconds=30)
    await ingest.start()
    assert (await api.ended(load_id))["state"] == "completed"
    assert len(await api.rows("shop.orders")) == 2000


async def test_a_worker_is_followed_through_a_time_without_the_database(
    serve: Serve, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, tried = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def failing(pool: Any, of: str) -> AsyncIterator[Any]:
        if away.is_set():
            tried.set()
            raise Unavailable("injected")
        async with tenant_transaction(pool, of) as connection:
            yield connection

    monkeypatch.setattr(delegation, "tenant_transaction", failing)
    async with serve(workers()) as api:
        gate.on(*COMMIT, "hold")
        loading = asyncio.create_task(api.load("shop.orders", ROWS))
        await gate.reached.wait()
        away.set()
        await tried.wait()
        away.clear()
        gate.released.set()
        await api.completed(await loading)


@pytest.mark.parametrize("body", [ROWS, SMALL], ids=["by a worker", "in the service"])
async def test_a_load_that_is_called_off_ends_and_leaves_nothing(
    serve: Serve, gate: Any, leases: Any, tmp_path: Path, warehouse: Path, body: bytes
) -> None:
    async with serve(workers()) as api:
        gate.on(*LOAD_TABLE, "hold")
        loading = asyncio.create_task(api.load("shop.orders", body, idempotency_key="k"))
        await gate.reached.wait()
        load_id = await begun(api)
        pid = await worker_pid(leases, load_id) if body is ROWS else None
        gone = await api.client.delete(f"/v1/loads/{load_id}")
        assert gone.status_code == 202, gone.text
        assert gone.json()["load_id"] == load_id
        # a process that waits for the catalog hears of it as soon as that answers
        gate.on("", "", "pass")
        gate.released.set()
        answer = await loading
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/load-cancelled"), answer.text
        again = await api.client.delete(f"/v1/loads/{load_id}")
        assert (again.status_code, again.json()["type"]) == (409, "/problems/load-not-cancellable")
        await eventually(lambda: not (tmp_path / "spool" / load_id).exists())
        if pid is not None:
            await eventually(lambda: not is_alive(pid))
        assert not list((warehouse / api.tenant).rglob("*.parquet"))
        # the key is free again
        await api.completed(await api.load("shop.orders", body, idempotency_key="k"))


async def test_only_who_may_load_there_calls_a_load_off(serve: Serve, gate: Any, make: Any, tenant: str) -> None:
    async with serve(workers()) as api:
        load_id = (await api.load("shop.orders", SMALL)).json()["load_id"]
        reader = make(str(api.client.base_url), tenant, ("datasets:read",))
        assert (await reader.client.delete(f"/v1/loads/{load_id}")).status_code == 403
        stranger = make(str(api.client.base_url), f"{tenant}x")
        assert (await stranger.client.delete(f"/v1/loads/{load_id}")).status_code == 404


async def test_workers_that_die_at_once_are_given_up_after_a_few(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes.sys, "executable", shutil.which("false"))
    async with serve(workers()) as api:
        load_id = (await api.load("shop.orders", ROWS, prefer="wait=0")).json()["load_id"]
        problem = (await api.ended(load_id, within_seconds=60))["problem"]
        assert (problem["status"], problem["type"]) == (503, "/problems/load-interrupted")
        assert "3 workers ended before this load did" in problem["detail"]
        assert (await api.load("shop.orders", SMALL)).status_code == 201
        await eventually(lambda: not list((tmp_path / "spool").glob("*-*-*")))


async def test_a_service_that_is_told_to_end_ends_its_workers_and_the_next_one_goes_on(
    serve: Serve, gate: Any, leases: Any
) -> None:
    async with serve(workers()) as api:
        gate.on(*LOAD_TABLE, "hold")
        loading = asyncio.create_task(api.load("shop.orders", ROWS, prefer="wait=0"))
        load_id = (await loading).json()["load_id"]
        await gate.reached.wait()
        pid = await worker_pid(leases, load_id)
        gate.on("", "", "pass")
    assert not is_alive(pid)
    gate.released.set()
    async with serve(workers()) as api:
        assert (await api.ended(load_id))["state"] == "completed"
        assert len(await api.rows("shop.orders")) == 2000
