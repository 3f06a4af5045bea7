"""The adapters that the contract of the event log is run against, each on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.protocol.group import LeaveGroupRequest
from servers.kafka import Kafka

from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import Event, EventLog, PostgresEventLog, make_event
from lakegate_chassis.eventlog.kafka import KafkaEventLog
from lakegate_chassis.eventlog.kafka.relay import GROUP as RELAY
from lakegate_chassis.eventlog.membership import LEASE
from lakegate_chassis.postgres import open_pool
from lakegate_chassis.settings import KafkaSettings, PostgresSettings
from lakegate_chassis.testing import eventually
from lakegate_contracts.events import RunEventObserved

_LISTENS = "query LIKE 'LISTEN%' AND application_name = 'lakegate-' || $1"


class PostgresAdapter:
    """`open` is a process of its own as far as the server can tell; the rest is what happens to processes."""

    def __init__(self, url: str, admin: asyncpg.Connection, stack: AsyncExitStack) -> None:
        self._url = url
        self._admin = admin
        self._stack = stack
        self._pool: asyncpg.Pool | None = None
        # what the server calls our connections by, which those of services of the run are not called
        self._name = f"test-{uuid4().hex}"

    async def open(self) -> EventLog:
        pool = await open_pool(PostgresSettings(url=self._url), self._name)
        self._stack.push_async_callback(pool.close)
        self._pool = pool
        return PostgresEventLog(pool)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        assert self._pool is not None
        async with self._pool.acquire() as connection, connection.transaction():
            yield connection

    async def kill_member(self, group: str) -> None:
        """The connection that holds the group's lease ends, as it does when its process is killed."""
        assert await self.end_lease(group)

    async def end_lease(self, group: str) -> bool | None:
        """None when nobody holds it."""
        return await self._admin.fetchval(
            f"""
            SELECT bool_and(pg_terminate_backend(pid, 5000)) FROM pg_locks
            WHERE locktype = 'advisory' AND granted AND ((classid::bigint << 32) | objid::bigint) = {LEASE}
            """,
            group,
        )

    async def kill_listeners(self) -> int:
        return await self._admin.fetchval(
            f"SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE {_LISTENS}", self._name
        )

    async def has_listener(self) -> bool:
        return await self._admin.fetchval(f"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE {_LISTENS})", self._name)

    async def age(self, topic: str, days: int) -> None:
        await self._admin.execute(
            "UPDATE eventlog.events SET time = now() - make_interval(days => $2) WHERE topic = $1", topic, days
        )

    async def have_no_groups(self) -> None:
        """None that holds retention back; members that services of the run still have enter theirs again."""
        await self._admin.execute("DELETE FROM eventlog.offsets")


class KafkaAdapter(PostgresAdapter):
    """The relay runs from the first `open` on. One partition, so that a test's events have one order."""

    bootstrap: str
    own_broker: bool
    partitions = 1
    request_seconds = 30.0

    async def open(self) -> EventLog:
        first = self._pool is None
        await super().open()
        settings = KafkaSettings(
            bootstrap=self.bootstrap,
            partitions=self.partitions,
            request_seconds=self.request_seconds,
            # the harness lets sessions be short; other brokers have a minimum of 6 s
            session_seconds=2 if self.own_broker else 6,
        )
        log = KafkaEventLog(self._pool, settings)
        if first:
            background = Background()
            background.start("relay", log.relay.run)
            self._stack.push_async_callback(background.stop)
        return log

    async def kill_relay(self) -> None:
        """It is back after a moment, or another one is."""
        await eventually(lambda: self.end_lease(RELAY))

    async def kill_member(self, group: str) -> None:
        """The broker drops every member that has partitions, as it does when their sessions run out."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        coordinator = await admin.find_coordinator(group)
        (answer,) = await admin.describe_consumer_groups([group])
        killed = 0
        for member_id, *_, assignment in answer.groups[0][5]:
            if assignment and ConsumerProtocol.ASSIGNMENT.decode(assignment).assignment:
                await admin._send_request_to_node(coordinator, LeaveGroupRequest(group, member_id))
                killed += 1
        await admin.close()
        assert killed


@pytest.fixture(params=["postgres", "kafka"])
async def adapter(request: pytest.FixtureRequest, database: Any) -> AsyncIterator[PostgresAdapter]:
    async with AsyncExitStack() as stack:
        admin = await asyncpg.connect(database.admin_url)
        stack.push_async_callback(admin.close)
        if request.param == "postgres":
            yield PostgresAdapter(database.url("catalog"), admin, stack)
            return
        kafka: Kafka = request.getfixturevalue("kafka")
        made = KafkaAdapter(database.url("catalog"), admin, stack)
        made.bootstrap, made.own_broker = kafka.bootstrap, kafka.control is not None
        yield made


@pytest.fixture
async def log(adapter: PostgresAdapter) -> EventLog:
    return await adapter.open()


class Topic:
    """A topic and a group that no other test uses, and a way to publish to it."""

    def __init__(self, log: EventLog, adapter: PostgresAdapter) -> None:
        self.name = f"topic-{uuid4()}"
        self.group = f"group-{uuid4()}"
        self._log = log
        self._adapter = adapter

    def event(self, number: int, key: str = "k", **data: Any) -> Event:
        event = make_event(RunEventObserved(event={"number": number, **data}), key=key, tenant="default", source="test")
        return Event(**{**_fields(event), "topic": self.name})

    async def publish(self, *numbers: int, key: str = "k", **data: Any) -> list[Event]:
        events = [self.event(number, key, **data) for number in numbers]
        async with self._adapter.transaction() as transaction:
            await self._log.publish(transaction, *events)
        return events

    async def read(self, after: int = 0) -> list[Event]:
        return [event async for batch in self._log.read([self.name], after, limit=7, follow=False) for event in batch]


def _fields(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Event.__dataclass_fields__}


@pytest.fixture
async def topic(log: EventLog, adapter: PostgresAdapter) -> Topic:
    return Topic(log, adapter)
