"""What this process counts of loads that workers run: nobody scrapes these."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

from lakegate_chassis.testing import eventually
from lakegate_contracts.receipts import LoadState
from lakegate_ingest.loads.live import LiveLoad
from lakegate_ingest.workers.account import Account
from lakegate_ingest.workers.queries import Standing, worker_owner

from .conftest import COMMIT, LOAD_TABLE, ROWS, SMALL, Serve, counted, workers

PHASES = ("queue", "read", "commit", "readable")


def _phases() -> list[float]:
    return [counted("phase_duration_seconds_count", phase=phase) for phase in PHASES]


async def test_a_workers_load_is_counted_as_any_other(serve: Serve, gate: Any) -> None:
    async with serve(workers()) as api:
        assert (await api.load("shop.orders", SMALL)).status_code == 201
        before = counted("loads_total", outcome="completed"), counted("rows_total", kind="written")
        phases = _phases()
        gate.on(*LOAD_TABLE, "hold")
        loading = asyncio.create_task(api.load("shop.orders", ROWS))
        # held in each phase until this process, which looks twice a second, has seen it
        await eventually(lambda: _phases()[0] == phases[0] + 1)
        gate.released.set()
        gate.on(*COMMIT, "hold")
        await eventually(lambda: _phases()[1] == phases[1] + 1)
        gate.released.set()
        await api.completed(await loading)
        assert counted("loads_total", outcome="completed") == before[0] + 1
        assert counted("rows_total", kind="written") == before[1] + 2000
        assert _phases() == [count + 1 for count in phases]


async def test_a_workers_failure_is_counted_by_its_problem(serve: Serve) -> None:
    async with serve(workers()) as api:
        before = counted("loads_total", outcome="failed")
        wrong = counted("failures_total", problem="new-column")
        assert (await api.load("shop.orders", SMALL)).status_code == 201
        wider = b"a,b,c\n" + b"1,x,y\n" * 2000
        refused = await api.load("shop.orders", wider, params={"on_new_column": "reject"})
        assert refused.json()["type"] == "/problems/new-column", refused.text
        assert counted("loads_total", outcome="failed") == before + 1
        assert counted("failures_total", problem="new-column") == wrong + 1


async def test_commits_that_a_worker_repeats_are_counted_while_it_still_does(serve: Serve, gate: Any) -> None:
    async with serve(workers()) as api:
        assert (await api.load("shop.orders", SMALL)).status_code == 201
        before = counted("commit_retries_total", reason="lost_race")
        gate.on(*COMMIT, "conflict")
        loading = asyncio.create_task(api.load("shop.orders", ROWS))
        await eventually(lambda: counted("commit_retries_total", reason="lost_race") > before, within_seconds=30)
        assert not loading.done()
        gate.on("", "", "pass")
        await api.completed(await loading)


def test_a_worker_that_begins_to_count_anew_is_counted_on() -> None:
    live = LiveLoad(uuid4(), "tenant")
    account = Account(live, first=True)
    reason = "unknown_outcome"
    before = counted("commit_retries_total", reason=reason)
    told = [("a", 2), ("a", 3), ("b", 1), ("b", 1)]
    for process, count in told:
        owner = worker_owner(live.load_id, process)
        account.look(Standing(LoadState.COMMITTING, owner, False, False, None, {reason: count}))
    assert counted("commit_retries_total", reason=reason) == before + 4
    # of a load that another replica has, nothing is counted here
    account.look(Standing(LoadState.COMMITTING, "replica", False, False, None, {reason: 9}))
    assert counted("commit_retries_total", reason=reason) == before + 4
