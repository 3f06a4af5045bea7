"""A stream whose topic somebody has deleted, or whose topic takes nothing, is no other stream's trouble."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from lakegate_chassis.eventlog.kafka.connections import Connections
from lakegate_chassis.settings import KafkaSettings
from lakegate_chassis.testing import eventually
from lakegate_ingest.errors import Unacknowledged
from lakegate_ingest.streams.producer import Record, StreamProducer


@pytest.fixture
async def admin(kafka: Any) -> AsyncIterator[Any]:
    made = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await made.start()
    yield made
    await made.close()


async def deleted(admin: Any, *topics: str) -> None:
    await admin.delete_topics(list(topics))

    async def gone() -> bool:
        return not set(topics) & set(await admin.list_topics())

    await eventually(gone, within_seconds=30)


async def test_a_deleted_topic_is_said_to_be_gone_and_made_anew_by_rows_or_a_put(
    producing_url: str, streams_at: Any, admin: Any, forgotten: None
) -> None:
    streams = streams_at(producing_url)
    client = streams.api.client
    topic = (await streams.send("shop.gone", b'{"id": 1}')).json()["topic"]
    await deleted(admin, topic, f"{topic}-dlq")
    status = (await client.get(streams.path("shop.gone"))).json()
    assert (status["failure"]["type"], status["partitions"]) == ("/problems/stream-topic-gone", [])
    put = await client.put(streams.path("shop.gone"), json={})
    assert put.status_code == 200, put.text
    assert {topic, f"{topic}-dlq"} <= set(await admin.list_topics())
    assert (await streams.send("shop.gone", b'{"id": 2}')).status_code == 202

    await deleted(admin, topic)  # and nobody looks before the next rows, which one process still knows a topic for
    answers = await asyncio.gather(
        *(streams.send("shop.gone", b'{"id": %d}' % number) for number in range(3, 9)),
        *(streams.send("shop.there", b'{"id": 1}') for _ in range(6)),
    )
    assert [answer.status_code for answer in answers] == [202] * 12, [answer.text for answer in answers]
    answer = await client.get(streams.path("shop.gone"))
    assert answer.status_code == 200, answer.text
    status = answer.json()
    assert sum(part["end"] for part in status["partitions"]) == 6


async def test_rows_that_one_topic_does_not_take_leave_the_producer_to_the_others(
    kafka_settings: KafkaSettings, admin: Any, tenant: str
) -> None:
    narrow, wide = f"narrow-{tenant}", f"wide-{tenant}"
    await admin.create_topics(
        [NewTopic(narrow, 1, 1, topic_configs={"max.message.bytes": "1000"}), NewTopic(wide, 1, 1)]
    )
    producer = StreamProducer(Connections(kafka_settings), ack_seconds=10)
    keeping = asyncio.create_task(producer.keep())

    async def send(topic: str) -> Any:
        return await producer.send(topic, [Record(b"x" * 5000, [])])

    try:
        assert await send(wide)  # the producer is starting
        first = producer._producer
        with pytest.raises(Unacknowledged, match="MessageSizeTooLarge"):
            await send(narrow)
        assert await asyncio.gather(*(send(wide) for _ in range(5)))
        assert producer._producer is first
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
