"""What a stream's committer meets stays that stream's."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock

from lakegate_contracts.names import TableName
from lakegate_ingest.streams import pump
from lakegate_ingest.streams.backlog import Backlog


async def test_an_unexpected_error_is_told_and_tried_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(pump, "FIRST_PAUSE_SECONDS", 0.001)
    again = asyncio.Event()
    told: list[Exception | None] = []

    class Failing(pump.Pump):
        async def _step(self, *_: Any) -> None:
            if told:
                again.set()
                await asyncio.Event().wait()
            raise OverflowError("a secret of the row")

        async def _tell(self, tenant: str, topic: str, error: Exception | None) -> None:
            told.append(error)

    others: dict[str, Any] = dict.fromkeys(
        ("pool", "committer", "producer", "lineage", "grants", "executor", "scratch", "settings", "limits")
    )
    backlog = Backlog("topic", frozenset({0}))
    run = asyncio.create_task(Failing(**others).run("t", TableName("a", "b"), backlog, AsyncMock()))
    async with asyncio.timeout(5):
        await again.wait()
    run.cancel()
    await asyncio.wait([run])
    assert run.cancelled()
    assert "secret" not in str(told[0])
