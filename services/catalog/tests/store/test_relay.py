"""Events reach the log in order and once, whatever dies between the store and the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from lakegate_catalog.settings import StoreSettings
from lakegate_catalog.store.mongodb import relay as relaying
from lakegate_catalog.store.mongodb.adapter import Collections, MongoCatalogStore, MongoOutbox, open_mongodb
from lakegate_catalog.store.mongodb.documents import Waiting
from lakegate_catalog.store.mongodb.relay import Relay, publishable
from lakegate_catalog.store.port import Change, SequenceTaken, Space
from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import Event, PostgresEventLog, make_event
from lakegate_chassis.problems import Unavailable
from lakegate_chassis.testing import eventually
from lakegate_contracts.events import DATASETS, DatasetChanged

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Dead(Relay):
    """A writer's relay whose process died right after the insert."""

    async def position(self, entity: str, sequence: int) -> int | None:
        return None


@pytest.fixture
async def collections(mongodb: Any) -> AsyncIterator[Collections]:
    database = f"lakegate_test_{uuid4().hex[:8]}"
    settings = StoreSettings.model_validate({"mongodb": {"url": mongodb.uri, "database": database}})
    async with open_mongodb(settings.mongodb) as opened:
        yield opened
        await opened.changes.database.client.drop_database(database)


@pytest.fixture
def outbox(collections: Collections) -> MongoOutbox:
    return MongoOutbox(collections)


@pytest.fixture
def log(pool: asyncpg.Pool) -> PostgresEventLog:
    return PostgresEventLog(pool)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left behind is looked for at once."""
    monkeypatch.setattr(relaying, "LEFT_BEHIND", timedelta(0))
    monkeypatch.setattr(relaying, "SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(relaying, "RETRY_SECONDS", 0.02)


@asynccontextmanager
async def running(*relays: Relay) -> AsyncIterator[None]:
    background = Background()
    for number, relay in enumerate(relays):
        background.start(f"relay{number}", relay.run)
    try:
        yield
    finally:
        await background.stop()


def change(tenant: str, sequence: int, entity_id: UUID) -> Change:
    event = DatasetChanged(
        dataset_id=entity_id, version=sequence, kind="changed", namespace="n", name="a", dataset=None, changed_at=AT
    )
    return Change(tenant, entity_id, sequence, "changed", Space.DATASET, "a", {}, AT, event)


async def published(log: PostgresEventLog, tenant: str) -> list[tuple[str, int]]:
    """Key and version of the tenant's events, in the order of the log."""
    found = []
    async for events in log.read([DATASETS], 0, follow=False):
        found += [(event.key, event.data["version"]) for event in events if event.tenant == tenant]
    return found


async def none_waiting(outbox: MongoOutbox) -> bool:
    return not await outbox.left_behind(datetime.now(UTC) + timedelta(days=1), 1)


async def test_what_a_dead_writer_left_behind_is_relayed_in_order(
    collections: Collections, outbox: MongoOutbox, log: PostgresEventLog, pool: asyncpg.Pool, tenant: str
) -> None:
    dead = MongoCatalogStore(collections, Dead(outbox, log, pool))
    entities = [uuid4() for _ in range(3)]
    for sequence in range(1, 13):
        for entity_id in entities:
            appended = await dead.append(change(tenant, sequence, entity_id))
            assert appended.position is None
    assert await published(log, tenant) == []
    async with running(Relay(outbox, log, pool)):
        await eventually(lambda: none_waiting(outbox))
    found = await published(log, tenant)
    assert len(found) == 36
    for entity_id in entities:
        assert [version for key, version in found if key == str(entity_id)] == list(range(1, 13))


async def test_a_crash_between_log_and_mark_publishes_nothing_twice(
    collections: Collections, outbox: MongoOutbox, log: PostgresEventLog, pool: asyncpg.Pool, tenant: str
) -> None:
    class Forgetful(MongoOutbox):
        crashes = 0

        async def settle(self, change_ids: Sequence[str]) -> None:
            self.crashes += 1
            raise RuntimeError("killed between the log and the mark")

    entity_id = uuid4()
    dead = MongoCatalogStore(collections, Dead(outbox, log, pool))
    for sequence in (1, 2, 3):
        await dead.append(change(tenant, sequence, entity_id))
    forgetful = Forgetful(collections)
    async with running(Relay(forgetful, log, pool)):
        await eventually(lambda: forgetful.crashes >= 2)
    assert not await none_waiting(outbox)
    async with running(Relay(outbox, log, pool)):
        await eventually(lambda: none_waiting(outbox))
    assert await published(log, tenant) == [(str(entity_id), version) for version in (1, 2, 3)]


async def test_several_processes_relay_each_event_once_and_in_order(
    collections: Collections, log: PostgresEventLog, pool: asyncpg.Pool, tenant: str
) -> None:
    relays = [Relay(MongoOutbox(collections), log, pool) for _ in range(3)]
    stores = [MongoCatalogStore(collections, relay) for relay in relays]
    entities = [uuid4() for _ in range(8)]

    async def write(entity_id: UUID) -> None:
        for sequence in range(1, 10):
            appended = await stores[sequence % 3].append(change(tenant, sequence, entity_id))
            assert appended.position is not None

    async with running(*relays):
        await asyncio.gather(*(write(entity_id) for entity_id in entities))
        await eventually(lambda: none_waiting(MongoOutbox(collections)))
    found = await published(log, tenant)
    assert len(found) == 72
    for entity_id in entities:
        assert [version for key, version in found if key == str(entity_id)] == list(range(1, 10))


async def test_a_writer_publishes_what_others_left_behind_of_the_same_entity(
    collections: Collections,
    outbox: MongoOutbox,
    log: PostgresEventLog,
    pool: asyncpg.Pool,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More than a page of it: its own event is not announced before it is in the log."""
    monkeypatch.setattr(relaying, "PAGE", 4)
    monkeypatch.setattr(relaying, "LEFT_BEHIND", timedelta(days=1))  # no sweep comes to help
    entity_id, other = uuid4(), uuid4()
    dead = MongoCatalogStore(collections, Dead(outbox, log, pool))
    for sequence in range(1, 12):
        await dead.append(change(tenant, sequence, entity_id))
    relay = Relay(outbox, log, pool)
    store = MongoCatalogStore(collections, relay)
    async with running(relay):
        appended = await asyncio.gather(
            store.append(change(tenant, 12, entity_id)), store.append(change(tenant, 1, other))
        )
        assert all(each.position is not None for each in appended)
        found = await published(log, tenant)
    assert [version for key, version in found if key == str(entity_id)] == list(range(1, 13))
    assert (str(other), 1) in found


async def test_without_the_log_changes_are_stored_and_relayed_when_it_is_back(
    collections: Collections, outbox: MongoOutbox, log: PostgresEventLog, pool: asyncpg.Pool, tenant: str
) -> None:
    class Away(PostgresEventLog):
        away = True

        async def publish(self, transaction: Any, *events: Event) -> None:
            if self.away:
                raise Unavailable("injected")
            await super().publish(transaction, *events)

    entity_id, away = uuid4(), Away(pool)
    relay = Relay(outbox, away, pool)
    store = MongoCatalogStore(collections, relay)
    async with running(relay):
        for sequence in range(1, 6):
            appended = await store.append(change(tenant, sequence, entity_id))
            assert appended.position is None
        away.away = False
        await eventually(lambda: none_waiting(outbox))
        after = await store.append(change(tenant, 6, entity_id))
        assert after.position is not None
    assert await published(log, tenant) == [(str(entity_id), version) for version in range(1, 7)]


async def test_a_store_that_hangs_for_a_while_loses_nothing_that_it_acknowledged(
    mongodb: Any, collections: Collections, log: PostgresEventLog, pool: asyncpg.Pool, tenant: str
) -> None:
    if mongodb.control is None:
        pytest.skip("a server given by address is not ours to stop")
    entities = [uuid4() for _ in range(4)]
    acknowledged: dict[UUID, int] = dict.fromkeys(entities, 0)
    refused = 0
    name = collections.changes.database.name
    # it has to be opened within that, too, on a machine however busy
    settings = StoreSettings.model_validate({"mongodb": {"url": mongodb.uri, "database": name, "timeout_seconds": 1}})
    async with open_mongodb(settings.mongodb) as impatient:
        relay = Relay(MongoOutbox(impatient), log, pool)
        store = MongoCatalogStore(impatient, relay)

        async def write(entity_id: UUID) -> None:
            nonlocal refused
            while refused < 8 or acknowledged[entity_id] < resumed_at + 5:
                try:
                    current = await store.current(tenant, entity_id)
                    sequence = current.sequence + 1 if current else 1
                    await store.append(change(tenant, sequence, entity_id))
                    acknowledged[entity_id] = sequence
                except Unavailable:
                    refused += 1
                except SequenceTaken:
                    continue  # an insert that was given up arrived after all

        resumed_at = 10**9
        async with running(relay):
            writers = asyncio.gather(*(write(entity_id) for entity_id in entities))
            await eventually(lambda: min(acknowledged.values()) >= 5)
            mongodb.control.pause()
            try:
                await eventually(lambda: refused >= 8)
            finally:
                mongodb.control.resume()
            resumed_at = max(acknowledged.values())
            await writers
            await eventually(lambda: none_waiting(MongoOutbox(collections)))
    found = await published(log, tenant)
    for entity_id in entities:
        last = await MongoCatalogStore(collections, relay).current(tenant, entity_id)
        assert last is not None
        assert last.sequence >= acknowledged[entity_id]
        assert [version for key, version in found if key == str(entity_id)] == list(range(1, last.sequence + 1))


def waiting(entity: str, sequence: int, since: datetime) -> Waiting:
    data = DatasetChanged(
        dataset_id=UUID(int=1), version=sequence, kind="k", namespace="n", name="a", dataset=None, changed_at=AT
    )
    event = make_event(data, key=entity, tenant="t", source="test")
    return Waiting(f"{entity}:{sequence}", entity, sequence, since, event)


def test_nothing_is_published_that_the_first_look_did_not_see() -> None:
    """The scan passed the place of 2, then 2 and 3 were inserted: 3 without 2 is no order."""
    page = [waiting("a", 1, AT), waiting("a", 3, AT)]
    assert [each.sequence for each in publishable(page, {"a": 1})] == [1]


def test_order_is_by_time_as_far_as_clocks_let_sequences_be_in_order() -> None:
    second = timedelta(seconds=1)
    page = [
        waiting("a", 1, AT + 5 * second),
        waiting("b", 1, AT + 6 * second),
        waiting("a", 2, AT),  # by a clock that is behind
        waiting("b", 2, AT + 9 * second),
        waiting("a", 3, AT + 8 * second),
    ]
    found = [each.change_id for each in publishable(page, {"a": 3, "b": 2})]
    assert found == ["a:1", "a:2", "b:1", "a:3", "b:2"]


class Replayed(MongoOutbox):
    """Reads that are a moment old, as after an election: what was settled since waits again."""

    old: list[Waiting]

    async def waiting(self, entities: Collection[str], limit: int) -> list[Waiting]:
        return self.old


async def test_a_stale_read_of_the_outbox_repeats_nothing(
    collections: Collections, outbox: MongoOutbox, log: PostgresEventLog, pool: asyncpg.Pool, tenant: str
) -> None:
    entity_id = uuid4()
    dead = MongoCatalogStore(collections, Dead(outbox, log, pool))
    first = await dead.append(change(tenant, 1, entity_id))
    stale = Replayed(collections)
    stale.old = await outbox.waiting([f"{tenant}/{entity_id}"], 10)
    async with running(Relay(outbox, log, pool)):
        await eventually(lambda: none_waiting(outbox))
    relay = Relay(stale, log, pool)
    async with running(relay):
        await MongoCatalogStore(collections, relay).append(replace(first, sequence=2))
    assert (await published(log, tenant)).count((str(entity_id), 1)) == 1
