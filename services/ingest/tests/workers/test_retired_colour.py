"""A worker outlives its colour: what it can't bring to an end there, the other colour does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lakegate_chassis.settings import ConsumerSettings
from lakegate_chassis.testing import eventually, serving
from lakegate_ingest.app import create_app
from lakegate_ingest.settings import CommitSettings, JobSettings

from .conftest import COMMIT, LOAD_TABLE, ROWS, workers

# who lets go does not take it up again himself
NEVER_LOOKS = JobSettings(sweep_seconds=3600, heartbeat_seconds=0.2, lease_seconds=30, sse_heartbeat_seconds=0.2)
LOOKS = JobSettings(sweep_seconds=0.3, heartbeat_seconds=0.2, lease_seconds=30, sse_heartbeat_seconds=0.2)
Colour = Callable[[str, JobSettings], AbstractAsyncContextManager[Any]]


@pytest.fixture
def colour(settings: Any, gate: Any, tmp_path: Path, make: Any, tenant: str) -> Colour:
    """colour("blue", job settings) -> Api of an ingest of that colour, as the file `turn` says whose turn it is."""

    @asynccontextmanager
    async def run(name: str, job: JobSettings) -> AsyncIterator[Any]:
        consumers = ConsumerSettings(colour=name, file=tmp_path / "turn")
        commit = CommitSettings(timeout_seconds=5, settle_seconds=1)
        made = settings(
            gate.url, tmp_path / "spool", worker=workers(), job=job, commit=commit, consumers=consumers
        )  # fmt: skip
        async with serving(create_app(made)) as url:
            yield make(url, tenant)

    return run


def _decide(tmp_path: Path, colour: str, generation: int) -> None:
    (tmp_path / "turn").write_text(f'{{"colour":"{colour}","generation":{generation}}}')


@pytest.mark.parametrize("at", [LOAD_TABLE, COMMIT], ids=["before it has read", "at the commit"])
async def test_a_worker_of_a_retired_colour_leaves_its_load_to_the_other(
    colour: Colour, gate: Any, leases: Any, tmp_path: Path, at: tuple[str, str]
) -> None:
    _decide(tmp_path, "blue", 1)
    gate.on(*at, "hold")
    async with colour("blue", NEVER_LOOKS) as blue:
        load_id = (await blue.load("shop.orders", ROWS, prefer="wait=0")).json()["load_id"]
        await gate.reached.wait()
        # the consumers are the other colour's, and then this one's catalog goes
        _decide(tmp_path, "green", 2)
        gate.away = True
        gate.released.set()

        async def let_go() -> bool:
            return (await leases(load_id) or "").startswith("let go by worker:")

        await eventually(let_go, within_seconds=60)
    gate.away = False
    async with colour("green", LOOKS) as green:
        assert (await green.ended(load_id))["state"] == "completed"
        assert len(await green.rows("shop.orders")) == 2000
