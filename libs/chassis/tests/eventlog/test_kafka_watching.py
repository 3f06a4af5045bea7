"""A client of Kafka that has come to nothing is given up, and its loop goes on with another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiokafka.structs import BrokerMetadata
from servers.kafka import Kafka

from lakegate.embedded.ports import free_ports
from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import Consumer, Event
from lakegate_chassis.eventlog.kafka import connections as clients
from lakegate_chassis.eventlog.kafka import watching
from lakegate_chassis.eventlog.kafka.connections import Connections
from lakegate_chassis.eventlog.kafka.inner import brokers_of, tasks_of
from lakegate_chassis.metrics import BACKGROUND_RESTARTS
from lakegate_chassis.settings import KafkaSettings
from lakegate_chassis.testing import eventually


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients ask for metadata often, and are given up soon."""
    monkeypatch.setattr(clients, "METADATA_MS", 200)
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(watching, "ASK_SECONDS", 1.0)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The consumers of groups, in the order in which this process made them."""
    found: list[Any] = []
    member = Connections.member

    def remembered(self: Connections, group: str) -> Any:
        found.append(member(self, group))
        return found[-1]

    monkeypatch.setattr(Connections, "member", remembered)
    return found


async def lose(consumer: Any, name: str) -> None:
    tasks_of(consumer)[name].cancel()


async def lose_the_group_while_its_share_is_waited_for(consumer: Any) -> None:
    """As aiokafka begins to share anew; what then goes wrong in its group task goes wrong before it says more."""
    await wait_for_ever_for_a_share(consumer)
    await eventually(lambda: consumer._subscription._assignment_waiters)
    await lose(consumer, "group")


async def wait_for_ever_for_a_share(consumer: Any) -> None:
    consumer._subscription.begin_reassignment()


async def move_the_brokers(consumer: Any) -> None:
    """Those that answer at the bootstrap address say other addresses now than this client knows."""
    brokers = brokers_of(consumer)
    (closed,) = free_ports(1)
    for node in brokers.cluster.brokers():
        brokers.cluster._brokers[node.nodeId] = BrokerMetadata(node.nodeId, "127.0.0.1", closed, None)
    for connection in brokers._conns.values():
        connection.close()


@pytest.mark.parametrize("adapter", ["kafka"], indirect=True)
@pytest.mark.parametrize(
    "harm",
    [
        partial(lose, name="metadata"),
        partial(lose, name="fetch"),
        lose_the_group_while_its_share_is_waited_for,
        wait_for_ever_for_a_share,
        move_the_brokers,
    ],
    ids=["metadata", "fetch", "group", "share", "moved"],
)
async def test_a_group_goes_on_when_its_client_has_come_to_nothing(quick, log, topic, made, harm) -> None:
    seen: list[int] = []

    async def handle(event: Event) -> None:
        seen.append(event.data["event"]["number"])

    consumer = Consumer(log, group=topic.group, topics=[topic.name], handler=handle, poll_seconds=0.2)
    background = Background()
    background.start(topic.group, consumer.run)
    await topic.publish(1)
    await eventually(lambda: 1 in seen)
    await harm(made[0])
    await eventually(lambda: len(made) > 1)
    await topic.publish(2)
    await eventually(lambda: 2 in seen)
    assert BACKGROUND_RESTARTS.labels(topic.group)._value.get() > 0
    await background.stop()


async def test_a_client_gets_its_whole_time_again_when_brokers_were_away(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(watching, "ASK_SECONDS", 0.05)
    away = [True, True, False, True, False, False, False]
    asked: list[bool] = []

    @asynccontextmanager
    async def others() -> AsyncIterator[None]:
        asked.append(away[len(asked)])
        if asked[-1]:
            raise ConnectionError("Kafka: no broker has answered")
        yield

    async with Connections(KafkaSettings(bootstrap=kafka.bootstrap)).producer() as producer:
        with pytest.raises(ConnectionError, match="no metadata"):
            async with watching.watched(producer, others):
                await asyncio.Event().wait()
    assert asked == away
