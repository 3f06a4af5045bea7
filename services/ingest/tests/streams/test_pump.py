"""What a stream's committer meets stays that stream's."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, MagicMock

from aiokafka import OffsetAndMetadata, TopicPartition
from aiokafka.errors import IllegalStateError
from pyiceberg.schema import Schema

from lakegate_contracts.names import TableName
from lakegate_ingest.settings import StreamSettings
from lakegate_ingest.streams import pump
from lakegate_ingest.streams.backlog import Backlog, Batch
from lakegate_ingest.streams.preparing import Prepared
from lakegate_ingest.streams.reading import Read


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
    async with asyncio.timeout(30):
        await again.wait()
    run.cancel()
    await asyncio.wait([run])
    assert run.cancelled()
    assert "secret" not in str(told[0])


async def test_a_group_that_could_not_be_told_of_a_commit_is_told_when_there_is_nothing_to_do() -> None:
    told: list[dict[TopicPartition, OffsetAndMetadata]] = []
    again = asyncio.Event()

    class Group:
        async def commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
            told.append(offsets)
            if len(told) == 1:
                raise IllegalStateError("in the middle of a rebalance")
            again.set()

    class Committing(pump.Pump):
        async def _stream(self, *_: Any) -> Any: ...

        async def _commit(self, stream: Any, batch: Batch, backlog: Backlog) -> Any:
            return MagicMock(), Prepared(Read(Schema(), rows_written=1), [], 1), batch

        async def _tell(self, *_: Any) -> None: ...

    others: dict[str, Any] = dict.fromkeys(("pool", "committer", "producer", "grants", "executor", "scratch", "limits"))
    settings = StreamSettings(commit_seconds=0.01, lineage_seconds=0.01)
    backlog = Backlog("topic", frozenset({0}))
    backlog.place({0: 5}, None, {})
    backlog.seek = None
    backlog.add(0, [MagicMock(offset=5, value=b"{}", timestamp=1000)], 6)
    made = Committing(**others, lineage=AsyncMock(), settings=settings)
    run = asyncio.create_task(made.run("t", TableName("a", "b"), backlog, Group()))
    async with asyncio.timeout(30):
        await again.wait()
    run.cancel()
    await asyncio.wait([run])
    assert told == [{TopicPartition("topic", 0): OffsetAndMetadata(6, "")}] * 2
    assert backlog.untold == {}


async def test_lineage_that_can_not_be_told_does_not_undo_a_commit() -> None:
    told: list[Exception | None] = []

    class Committing(pump.Pump):
        async def _wait_until_due(self, *_: Any) -> None: ...

        async def _stream(self, *_: Any) -> Any: ...

        async def _commit(self, stream: Any, batch: Batch, backlog: Backlog) -> Any:
            return MagicMock(), Prepared(Read(Schema(), rows_written=1), [], 1), batch

        async def _tell(self, tenant: str, topic: str, error: Exception | None) -> None:
            told.append(error)

    others: dict[str, Any] = dict.fromkeys(
        ("pool", "committer", "producer", "grants", "executor", "scratch", "settings", "limits")
    )
    lineage = AsyncMock()
    lineage.committed.side_effect = ConnectionError("the event log is away")
    backlog = Backlog("topic", frozenset({0}))
    backlog.place({0: 5}, None, {})
    backlog.seek = None
    record = MagicMock(offset=5, value=b"{}", timestamp=1000)
    backlog.add(0, [record], 6)
    await Committing(**others, lineage=lineage)._step("t", TableName("a", "b"), backlog, AsyncMock())
    assert (told, backlog.placed, backlog.committed) == ([None], True, {0: 6})
