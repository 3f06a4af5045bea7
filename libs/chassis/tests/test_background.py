from __future__ import annotations

import asyncio

from prometheus_client import REGISTRY

from lakegate_chassis.background import Background
from lakegate_chassis.testing import eventually


async def test_a_loop_that_fails_is_started_again_and_counted() -> None:
    background, runs = Background(), []

    async def fragile() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise ValueError("not yet")

    background.start("fragile", fragile)
    await eventually(lambda: len(runs) == 3)
    assert REGISTRY.get_sample_value("lakegate_background_restarts_total", {"task": "fragile"}) == 2
    await background.stop()


async def test_stop_ends_every_loop_after_its_clean_up() -> None:
    background, ended = Background(), []

    async def endless(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    background.start("one", lambda: endless("one"))
    background.start("two", lambda: endless("two"))
    await eventually(lambda: REGISTRY.get_sample_value("lakegate_background_running", {"task": "two"}) == 1)
    await background.stop()
    assert sorted(ended) == ["one", "two"]


async def test_a_loop_that_cancels_itself_is_started_again() -> None:
    starts = 0
    again = asyncio.Event()

    async def run() -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        again.set()
        await asyncio.Event().wait()

    background = Background()
    background.start("loop", run)
    async with asyncio.timeout(30):
        await again.wait()
    await background.stop()
    assert starts == 2
