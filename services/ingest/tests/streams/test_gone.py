"""A stream whose topic was deleted, can't be made, or takes nothing, is no other stream's trouble, and says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.admin import NewTopic

from lakegate_chassis.eventlog.kafka.connections import Connections
from lakegate_chassis.settings import KafkaSettings
from lakegate_chassis.testing import eventually
from lakegate_ingest.errors import Unacknowledged
from lakegate_ingest.streams.producer import Record, StreamProducer


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

    async def made() -> bool:
        return {topic, f"{topic}-dlq"} <= set(await admin.list_topics())

    await eventually(made, within_seconds=30)  # the controller says it before the broker lists it
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


async def test_tables_whose_names_kafka_could_take_for_one_are_streams_of_their_own(streams: Any) -> None:
    assert (await streams.send("shop.my_orders", b'{"id": 1}')).status_code == 202
    second = await streams.send("shop_my.orders", b'{"id": 2}')
    assert second.status_code == 202, second.text
    await streams.has("shop.my_orders", [1])
    await streams.has("shop_my.orders", [2])


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "k"}])
async def test_a_topic_that_the_brokers_refuse_is_said_to_be_refused_and_no_table_is_made(
    streams: Any, admin: Any, headers: dict[str, str]
) -> None:
    foreign = f"lakegate.stream.{streams.tenant}.shop_refused"
    await admin.create_topics([NewTopic(foreign, 1, 1)])
    answer = await streams.send("shop.refused", b'{"id": 1}', headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (502, "/problems/stream-topic-refused"), answer.text
    assert foreign in answer.json()["detail"]  # in the brokers' words
    assert "retry-after" not in answer.headers
    assert not await streams.exists("shop.refused")
    await deleted(admin, foreign)
    again = await streams.send("shop.refused", b'{"id": 1}', headers=headers)
    assert again.status_code == 202, again.text


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
