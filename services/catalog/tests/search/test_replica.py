"""The replica: it goes on where it was, is built anew when it has to be, and says when it is behind."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from lakegate_catalog.datasets.state import DatasetState, changed, dataset_name, write
from lakegate_catalog.errors import SearchBehind
from lakegate_catalog.search.index import Entry, IndexInUse, SearchIndex
from lakegate_catalog.search.query import Wanted, search
from lakegate_catalog.search.replica import SearchReplica
from lakegate_catalog.store.entities import Entities, first_change, next_change
from lakegate_catalog.store.port import Change
from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import PostgresEventLog, make_event
from lakegate_contracts.events import RunEventObserved

HEAP = 15_000_000


@pytest.fixture
def log(pool: asyncpg.Pool) -> PostgresEventLog:
    return PostgresEventLog(pool)


def replace_files(folder: Path, pattern: str) -> None:
    """Put new files in the place of the old ones, which the index of a moment ago may still have mapped."""
    for file in folder.glob(pattern):
        file.unlink()
        file.write_bytes(b"damaged")


@asynccontextmanager
async def running(folder: Path, entities: Entities, log: PostgresEventLog) -> AsyncIterator[SearchReplica]:
    index = SearchIndex(folder, HEAP)
    replica = SearchReplica(index, entities.store, log, 0.01)
    background = Background()
    background.start("search_replica", replica.run)
    try:
        yield replica
    finally:
        await background.stop(5)
        await asyncio.to_thread(index.close)


async def add(entities: Entities, tenant: str, name: str) -> Change:
    now = datetime.now(UTC)
    state = DatasetState(id=uuid4(), namespace="n", name=name, kind="file", created_at=now, updated_at=now)
    first = first_change(tenant, state.id, dataset_name("n", name), "created", now)
    first = replace(first, state=write(state), event=changed(state, 1, "created", now))
    return await entities.create(dataset_name("n", name), first)


def found(index: SearchIndex, tenant: str) -> list[str]:
    return [orjson.loads(body)["name"] for _, body in search(index, Wanted(tenant)).hits]


def names(replica: SearchReplica, tenant: str) -> list[str]:
    return sorted(found(replica.index, tenant))


async def test_it_is_built_from_the_store_and_goes_on_from_the_log(
    tmp_path: Path, entities: Entities, log: PostgresEventLog, tenant: str
) -> None:
    await add(entities, tenant, "before")
    async with running(tmp_path, entities, log) as replica:
        made = await add(entities, tenant, "after")
        await replica.reach(made.position or 0, 5)
        assert names(replica, tenant) == ["after", "before"]
    while_away = await add(entities, tenant, "while away")
    async with running(tmp_path, entities, log) as replica:
        assert replica.index.position is not None, "it was not built anew"
        await replica.reach(while_away.position or 0, 5)
        assert names(replica, tenant) == ["after", "before", "while away"]


@pytest.mark.parametrize("damage", ["meta.json", ".managed.json", "*.store", "everything"])
async def test_a_damaged_index_is_built_anew(
    tmp_path: Path, entities: Entities, log: PostgresEventLog, tenant: str, damage: str
) -> None:
    made = await add(entities, tenant, "one")
    async with running(tmp_path, entities, log) as replica:
        await replica.reach(made.position or 0, 5)
    replace_files(tmp_path, "v*/*" if damage == "everything" else f"v*/{damage}")
    async with running(tmp_path, entities, log) as replica:
        await replica.reach(made.position or 0, 5)
        assert names(replica, tenant) == ["one"]


async def test_an_index_ahead_of_the_log_belongs_to_another_database_and_is_built_anew(
    tmp_path: Path, entities: Entities, log: PostgresEventLog, tenant: str
) -> None:
    index = SearchIndex(tmp_path, HEAP)
    stranger = Entry(tenant, "x", 1, "n", {"name": "stranger", "kind": "file", "tags": [], "schema": {"fields": []}})
    index.apply([stranger], 10**12)
    index.close()
    made = await add(entities, tenant, "ours")
    async with running(tmp_path, entities, log) as replica:
        await replica.reach(made.position or 0, 5)
        assert names(replica, tenant) == ["ours"]


async def test_the_highest_version_wins_whatever_the_order(tmp_path: Path, tenant: str) -> None:
    def entry(version: int, name: str | None) -> Entry:
        body = name and {"name": name, "kind": "file", "tags": [], "schema": {"fields": []}}
        return Entry(tenant, str(UUID(int=1)), version, "n", body or None)

    index = SearchIndex(tmp_path, HEAP)
    index.apply([entry(3, "third"), entry(2, "second")], 5)
    index.apply([entry(1, "first")], 6)
    index.apply([entry(3, "third")], 7)
    assert found(index, tenant) == ["third"]
    index.apply([entry(4, None)], 8)
    assert search(index, Wanted(tenant)).total == 0
    index.close()


async def test_a_token_that_is_not_reached_in_time_is_an_answer_and_not_a_hang(
    tmp_path: Path, entities: Entities, log: PostgresEventLog
) -> None:
    async with running(tmp_path, entities, log) as replica:
        with pytest.raises(SearchBehind):
            await replica.reach(10**15, 0.2)


async def test_a_token_of_another_topics_event_is_reached(
    tmp_path: Path, entities: Entities, log: PostgresEventLog, tenant: str, pool: asyncpg.Pool
) -> None:
    made = await add(entities, tenant, "one")
    async with running(tmp_path, entities, log) as replica:
        await replica.reach(made.position or 0, 5)
        event = make_event(RunEventObserved(event={}), key="k", tenant=tenant, source="test")
        async with pool.acquire() as connection, connection.transaction():
            await log.publish(connection, event)
        await replica.reach(await log.head(), 5)


async def test_a_change_is_found_under_its_new_words_only(
    tmp_path: Path, entities: Entities, log: PostgresEventLog, tenant: str
) -> None:
    made = await add(entities, tenant, "one")
    async with running(tmp_path, entities, log) as replica:
        change = next_change(made, "described")
        state = DatasetState.model_validate(made.state).model_copy(update={"tags": ("gold",)})
        event = changed(state, change.sequence, change.kind, change.changed_at)
        done = await entities.store.append(replace(change, state=write(state), event=event))
        await replica.reach(done.position or 0, 5)
        assert search(replica.index, Wanted(tenant, "gold")).total == 1
        assert search(replica.index, Wanted(tenant, "one")).total == 1


async def test_an_index_folder_has_one_writer(tmp_path: Path) -> None:
    index = SearchIndex(tmp_path, HEAP)
    with pytest.raises(IndexInUse):
        SearchIndex(tmp_path, HEAP)
    index.close()
    SearchIndex(tmp_path, HEAP).close()


async def test_files_that_vanish_under_a_running_index_are_made_again(
    tmp_path: Path, entities: Entities, log: PostgresEventLog, tenant: str
) -> None:
    first = await add(entities, tenant, "first")
    async with running(tmp_path, entities, log) as replica:
        await replica.reach(first.position or 0, 5)
        await asyncio.to_thread(shutil.rmtree, tmp_path)
        second = await add(entities, tenant, "second")
        await replica.reach(second.position or 0, 10)
        assert names(replica, tenant) == ["first", "second"]


async def test_a_state_that_cannot_be_read_is_left_out_and_the_others_are_found(
    tmp_path: Path, entities: Entities, log: PostgresEventLog, tenant: str
) -> None:
    now = datetime.now(UTC)
    strange = first_change(tenant, uuid4(), dataset_name("n", "strange"), "created", now)
    await entities.create(dataset_name("n", "strange"), replace(strange, state={"from": "a later release"}))
    made = await add(entities, tenant, "plain")
    async with running(tmp_path, entities, log) as replica:
        await replica.reach(made.position or 0, 5)
        assert names(replica, tenant) == ["plain"]
