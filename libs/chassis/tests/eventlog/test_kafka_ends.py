"""However a client of Kafka ends, nothing of it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError
from servers.kafka import Kafka

from lakegate_chassis.eventlog.kafka import connections as clients
from lakegate_chassis.eventlog.kafka.connections import Connections, end
from lakegate_chassis.eventlog.kafka.topics import Topics
from lakegate_chassis.eventlog.kafka.watching import _answered
from lakegate_chassis.settings import KafkaSettings
from lakegate_chassis.testing import eventually


@pytest.fixture
def connections(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> Connections:
    if kafka.control is None:
        pytest.skip("hurts the broker: only on one of our own")
    monkeypatch.setattr(clients, "END_SECONDS", 0.5)
    return Connections(KafkaSettings(bootstrap=kafka.bootstrap, session_seconds=2, request_seconds=2))


@pytest.fixture
async def topic(connections: Connections) -> str:
    name = f"topic-{uuid4()}"
    await Topics(connections).ensure([name])
    return name


@pytest.fixture
async def hanging(connections: Connections, kafka: Kafka) -> AsyncIterator[None]:
    """The test has the broker hang; it is back, and may lead partitions again, before the next one."""
    yield
    kafka.control.resume()

    async def makes_a_topic() -> bool:
        try:
            await Topics(connections).ensure([f"topic-{uuid4()}"])
        except ConnectionError:
            return False
        return True

    await eventually(makes_a_topic)


def of_clients() -> list[str]:
    """The tasks of aiokafka's that run."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    return [made.__qualname__ for made in coroutines if "aiokafka" in made.cr_code.co_filename]


async def test_a_member_of_a_group_whose_brokers_hang_leaves_nothing_behind(connections, topic, kafka, hanging) -> None:
    member = connections.member(f"group-{uuid4()}")
    member.subscribe([topic])
    await member.start()
    kafka.control.pause()
    await end(member)
    await eventually(lambda: not of_clients())


async def test_a_producer_whose_brokers_hang_leaves_nothing_behind_and_tells_who_waits_for_it(
    connections, topic, kafka, hanging
) -> None:
    async with connections.producer() as producer:
        await producer.partitions_for(topic)
        kafka.control.pause()
        sent = asyncio.create_task(producer.send_and_wait(topic, b"1"))
        looking = asyncio.create_task(producer.partitions_for(f"topic-{uuid4()}"))
        await eventually(lambda: "Sender._send_produce_req" in of_clients())
    await eventually(lambda: sent.done() and looking.done())
    assert isinstance(sent.exception(), KafkaConnectionError)
    assert isinstance(looking.exception(), KafkaError)
    await eventually(lambda: not of_clients())


async def test_a_transaction_whose_brokers_hang_leaves_nothing_behind(connections, topic, kafka, hanging) -> None:
    producer = await connections.transactional(f"id-{uuid4()}")
    await producer.partitions_for(topic)
    await producer.begin_transaction()
    kafka.control.pause()
    sent = asyncio.create_task(producer.send_and_wait(topic, b"1", partition=0))
    await eventually(lambda: "Sender._do_add_partitions_to_txn" in of_clients())
    await end(producer)
    await eventually(sent.done)
    assert isinstance(sent.exception(), KafkaConnectionError)
    await eventually(lambda: not of_clients())


async def test_brokers_that_hang_are_no_fault_of_a_client(connections, kafka, hanging, monkeypatch) -> None:
    monkeypatch.setattr("lakegate_chassis.eventlog.kafka.watching._ANSWER_SECONDS", 1.0)
    kafka.control.pause()
    assert not await _answered(connections.admin)
    kafka.control.resume()
    monkeypatch.undo()
    assert await _answered(connections.admin)
