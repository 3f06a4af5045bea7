"""What a worker keeps of its streams when the group shares anew, with a real consumer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import asyncpg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic

from lakegate_chassis.eventlog.kafka.connections import Connections
from lakegate_chassis.postgres import open_pool
from lakegate_chassis.settings import KafkaSettings
from lakegate_contracts.names import TableName
from lakegate_ingest.settings import StreamSettings
from lakegate_ingest.streams import worker as worker_module
from lakegate_ingest.streams.backlog import Backlog
from lakegate_ingest.streams.worker import StreamWorker


async def test_a_stream_that_is_kept_goes_on_where_it_was_while_another_ends_its_commit(
    kafka_settings: KafkaSettings, admin: Any, direct: Any, tenant: str
) -> None:
    kept, taken = TopicPartition(f"kept-{tenant}", 0), TopicPartition(f"taken-{tenant}", 0)
    await admin.create_topics([NewTopic(place.topic, 1, 1) for place in (kept, taken)])
    for value in (b"0", b"1", b"2"):
        await direct(kept.topic, value, partition=0)
    ending, ended = asyncio.Event(), asyncio.Event()

    async def waiting() -> None:
        await asyncio.Event().wait()

    async def committing() -> None:
        try:
            await waiting()
        finally:
            ending.set()
            await ended.wait()

    worker = StreamWorker(
        pool=MagicMock(), connections=MagicMock(), pump=MagicMock(), gauges=MagicMock(), settings=StreamSettings()
    )
    consumer = worker._consumer = Connections(kafka_settings).member(f"rebalance-{tenant}")
    await consumer.start()
    try:
        for place, work in ((kept, waiting()), (taken, committing())):
            backlog = worker._backlogs[place.topic] = Backlog(place.topic, frozenset({0}))
            backlog.place({0: 2}, None, {})
            worker._streams[place.topic] = (tenant, TableName("n", "t"))
            worker._tasks[place.topic] = asyncio.create_task(work)
        consumer.assign([kept, taken])
        worker._steer()
        await consumer.position(kept)  # and both tasks have begun
        await worker.on_partitions_revoked([kept, taken])
        worker._steer()  # the former assignment is shown while the group joins
        consumer.assign([kept])
        sharing = asyncio.create_task(worker.on_partitions_assigned([kept]))
        await ending.wait()
        assert (worker._backlogs[kept.topic].seek, consumer.paused()) == ({0: 2}, {kept})
        worker._steer()
        fetched = await consumer.getmany(timeout_ms=30_000)
        assert [record.offset for record in fetched[kept]] == [2]
        ended.set()
        await sharing
        assert list(worker._backlogs) == [kept.topic]
    finally:
        ended.set()
        await worker._drop(worker._backlogs.keys())
        await consumer.stop()


async def test_new_streams_are_gathered_for_as_long_as_the_last_sharing_was_worth(
    kafka_settings: KafkaSettings, settings: Any, spool: Path, database: Any, tenant: str, forgotten: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    clock = [0.0]
    monkeypatch.setattr(worker_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    pool = await open_pool(settings("http://nowhere", spool).postgres, "ingest")
    admin = await asyncpg.connect(database.admin_url)
    worker = StreamWorker(
        pool=pool, connections=MagicMock(), pump=MagicMock(), gauges=MagicMock(), settings=StreamSettings()
    )
    consumer = worker._consumer = Connections(kafka_settings).member(f"gathering-{tenant}")

    async def found_at(moment: float, name: str) -> bool:
        """Whether a look at that time has a stream shared out that was made just before."""
        clock[0] = moment
        await admin.execute(
            "INSERT INTO ingest.stream_topics VALUES ($1, $2, 'n', $3) ON CONFLICT DO NOTHING",
            f"{name}-{tenant}", tenant, name,
        )  # fmt: skip
        await worker._discover()
        return f"{name}-{tenant}" in consumer.subscription()

    async def shared(begin: float, end: float) -> None:
        clock[0] = begin
        await worker.on_partitions_revoked([])
        assert not await found_at(begin + 0.1, f"meanwhile{begin}")
        clock[0] = end
        await worker.on_partitions_assigned([])

    try:
        assert await found_at(0, "first")
        await shared(1, 4)  # the group's first, for which the brokers wait
        assert await found_at(5, "second")
        await shared(10, 12)
        assert not await found_at(19.9, "third")
        assert await found_at(20.1, "third")
        await shared(30, 130)
        assert not await found_at(145, "fourth")
        assert await found_at(147, "fourth")
    finally:
        await consumer.stop()
        await admin.close()
        await pool.close()
