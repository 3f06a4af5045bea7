"""What a worker keeps of its streams when the group shares anew, with a real consumer."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import MagicMock

from aiokafka import TopicPartition
from aiokafka.admin import NewTopic

from lakegate_chassis.eventlog.kafka.connections import Connections
from lakegate_chassis.settings import KafkaSettings
from lakegate_contracts.names import TableName
from lakegate_ingest.settings import StreamSettings
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
