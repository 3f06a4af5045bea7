"""Rows arrive again after the Kafka clients of a service have lost what they can't do without."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lakegate_chassis.metrics import BACKGROUND_RESTARTS
from lakegate_chassis.testing import eventually

LOOPS = ("stream-producer", "stream-rejects", "stream-worker")


@pytest.mark.parametrize(
    ("inner", "loops"), [("AIOKafkaClient._md_synchronizer", LOOPS), ("Fetcher._fetch_requests_routine", LOOPS[2:])]
)
async def test_rows_are_taken_and_committed_when_clients_have_lost_a_task(
    streams: Any, inner: str, loops: tuple[str, ...]
) -> None:
    assert (await streams.send("lost.rows", b'{"id": 1}')).status_code == 202
    await streams.has("lost.rows", [1])
    before = {loop: BACKGROUND_RESTARTS.labels(loop)._value.get() for loop in loops}
    for task in asyncio.all_tasks():
        if task.get_coro().__qualname__ == inner:
            task.cancel()

    def are_made_anew() -> bool:
        return all(BACKGROUND_RESTARTS.labels(loop)._value.get() > count for loop, count in before.items())

    await eventually(are_made_anew)

    async def are_taken() -> bool:
        return bool((await streams.send("lost.rows", b'{"id": 2}')).status_code == 202)

    await eventually(are_taken)  # the producer is back in a moment
    await streams.has("lost.rows", [1, 2])
