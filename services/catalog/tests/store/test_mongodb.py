"""What is MongoDB's own: concerns, indexes, marks on documents, errors of the driver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from bson import errors as bson_errors
from pydantic import SecretStr, ValidationError
from pymongo import errors

from lakegate_catalog.settings import MongoSettings
from lakegate_catalog.store.mongodb import errors as sorted_errors
from lakegate_catalog.store.mongodb.adapter import (
    CHANGE_INDEXES,
    CLAIM_INDEXES,
    Collections,
    MongoCatalogStore,
    MongoOutbox,
    open_mongodb,
)
from lakegate_catalog.store.mongodb.documents import beginning_with, change_id
from lakegate_catalog.store.mongodb.relay import Relay
from lakegate_catalog.store.port import Change, Claim, Name, Space
from lakegate_chassis.problems import InvalidRequest, TooLarge, Unavailable

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


@pytest.fixture(scope="module")
async def collections(mongodb: Any) -> AsyncIterator[Collections]:
    settings = MongoSettings(url=SecretStr(mongodb.uri), database=f"lakegate_test_{uuid4().hex[:8]}")
    async with open_mongodb(settings) as opened:
        yield opened
        await opened.changes.database.client.drop_database(settings.database)


@pytest.fixture
def documents(collections: Collections) -> MongoCatalogStore:
    """A store without a log behind it: for changes without events."""
    unused: Any = None
    return MongoCatalogStore(collections, Relay(MongoOutbox(collections), unused, unused))


async def named(store: MongoCatalogStore, tenant: str, key: str, versions: int = 1) -> Change:
    made = Change(tenant, uuid4(), 1, "changed", Space.DATASET, key, {"version": 1}, AT)
    await store.claim(tenant, Claim(Name(Space.DATASET, key, ""), made.entity_id, 1, AT))
    await store.append(made)
    for version in range(2, versions + 1):
        made = await store.append(replace(made, sequence=version, state={"version": version}))
    return made


async def test_writes_wait_for_a_majorities_journals_whatever_the_url_says(mongodb: Any) -> None:
    weaker = f"{mongodb.uri}/?w=1&journal=false&readPreference=secondary&readConcernLevel=local&retryWrites=false"
    async with open_mongodb(MongoSettings(url=SecretStr(weaker), database="lakegate_test_concerns")) as opened:
        for collection in (opened.changes, opened.claims):
            assert collection.write_concern.document == {"w": "majority", "j": True}
            assert collection.read_concern.level == "majority"
            assert collection.read_preference.name == "Primary"
            assert collection.database.client.options.retry_writes


async def test_the_declared_indexes_are_there_however_often_it_starts(mongodb: Any, collections: Collections) -> None:
    again = MongoSettings(url=SecretStr(mongodb.uri), database=collections.changes.database.name)
    async with open_mongodb(again):
        pass
    for collection, declared in ((collections.changes, CHANGE_INDEXES), (collections.claims, CLAIM_INDEXES)):
        there = await collection.index_information()
        assert set(there) == {"_id_", *(index.document["name"] for index in declared)}


def test_no_index_asks_for_what_a_stand_in_would_ignore() -> None:
    for index in (*CHANGE_INDEXES, *CLAIM_INDEXES):
        assert set(index.document) <= {"key", "name", "sparse"}


@pytest.mark.parametrize("ignored", [{"partialFilterExpression": {"a": 1}}, {"expireAfterSeconds": 1}])
async def test_a_stand_in_refuses_what_it_would_ignore(
    mongodb: Any, collections: Collections, ignored: dict[str, Any]
) -> None:
    if mongodb.genuine:
        pytest.skip("a real MongoDB does what it accepts")
    with pytest.raises(errors.OperationFailure, match="stand-in"):
        await collections.changes.database["guarded"].create_index("a", **ignored)
    with pytest.raises(errors.OperationFailure, match="stand-in"):
        await collections.changes.database.create_collection("validated", validator={"$jsonSchema": {}})


async def test_a_state_may_be_any_json_and_times_keep_their_microseconds(
    documents: MongoCatalogStore, tenant: str
) -> None:
    state = {"a.b": 1, "$set": {"": [None, True, 2**63 - 1, -0.5]}, "é🛩": {"$x.y": "z"}, "n": {}}
    made = Change(tenant, uuid4(), 1, "changed", Space.DATASET, "k", state, AT)
    await documents.append(made)
    assert await documents.current(tenant, made.entity_id) == made


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ({"a\0b": 1}, InvalidRequest),
        ({"a": 2**64}, InvalidRequest),
        ({"a": "\ud800"}, InvalidRequest),
        ({"a": "x" * 17_000_000}, TooLarge),
    ],
    ids=["NUL in a field's name", "large integer", "lone surrogate", "17 MB"],
)
async def test_what_no_document_can_hold_is_the_callers_to_change(
    documents: MongoCatalogStore, tenant: str, state: dict[str, Any], problem: type[Exception]
) -> None:
    with pytest.raises(problem):
        await documents.append(Change(tenant, uuid4(), 1, "changed", Space.DATASET, "k", state, AT))


async def test_the_highest_sequence_wins_over_marks_that_a_crash_left_wrong(
    documents: MongoCatalogStore, collections: Collections, tenant: str
) -> None:
    made = await named(documents, tenant, "a", versions=3)
    marked = {"latest_of": f"{tenant}/{made.entity_id}"}
    assert await collections.changes.count_documents(marked) == 1
    for sequence in (1, 2):  # outdated, and the mark still there
        await collections.changes.update_one({"_id": change_id(tenant, made.entity_id, sequence)}, {"$set": marked})
    assert await documents.listed(tenant, Space.DATASET) == [made]
    await collections.changes.update_many(marked, {"$unset": {"latest_of": ""}})
    assert await documents.listed(tenant, Space.DATASET) == [made]
    # the next change puts it right
    await documents.append(replace(made, sequence=4))
    assert await collections.changes.count_documents(marked) == 1


async def test_sequences_are_in_order_beyond_one_digit(documents: MongoCatalogStore, tenant: str) -> None:
    made = await named(documents, tenant, "a", versions=12)
    history = [change.sequence for change in await documents.history(tenant, made.entity_id)]
    assert history == list(range(12, 0, -1))
    below = await documents.history(tenant, made.entity_id, before=10**12, limit=1)
    assert [change.sequence for change in below] == [12]


async def test_dead_claims_do_not_shorten_a_list(documents: MongoCatalogStore, tenant: str) -> None:
    for number in range(40):
        claim = Claim(Name(Space.DATASET, f"dead{number:02}", ""), uuid4(), 1, AT)
        await documents.claim(tenant, claim)
    made = await named(documents, tenant, "z")
    assert await documents.listed(tenant, Space.DATASET, limit=1) == [made]
    batches = [batch async for batch in documents.everything(Space.DATASET, batch=7)]
    assert made in [change for batch in batches for change in batch]


@pytest.mark.parametrize("nobody", ["*", ""])
async def test_nothing_is_written_for_nobodys_tenant(documents: MongoCatalogStore, nobody: str) -> None:
    with pytest.raises(ValueError, match="nobody's tenant"):
        await documents.append(Change(nobody, uuid4(), 1, "changed", Space.DATASET, "k", {}, AT))
    with pytest.raises(ValueError, match="nobody's tenant"):
        await documents.claim(nobody, Claim(Name(Space.DATASET, "k", ""), uuid4(), 1, AT))


async def test_a_tenant_whose_name_looks_like_anothers_key_sees_nothing_of_it(
    documents: MongoCatalogStore, tenant: str
) -> None:
    await named(documents, tenant, "dataset/x")
    other = f"{tenant}/dataset"
    assert await documents.named(other, Name(Space.DATASET, "x", "")) is None
    assert await documents.listed(other, Space.DATASET) == []
    mine = Claim(Name(Space.DATASET, "x", ""), uuid4(), 1, AT)
    assert await documents.claim(other, mine) == mine


@pytest.mark.parametrize("prefix", ["", "a", "a.", "é", "\ud7ff", "z\U0010ffff", "\U0010ffff"])
def test_a_prefix_is_a_range(prefix: str) -> None:
    condition = beginning_with(prefix)

    def meets(key: str) -> bool:
        return key >= condition["$gte"] and ("$lt" not in condition or key < condition["$lt"])

    assert meets(prefix)
    assert meets(f"{prefix}\U0010ffff\U0010ffff")
    for key in ("", "A", "a", "a.", "a/", "b", "é", "ê", "\ud7ff", "\ue000", "z", "z\U0010ffff", "{"):
        if prefix.strip("\U0010ffff") == prefix:
            assert meets(key) == key.startswith(prefix)


async def test_a_server_that_hangs_is_unavailable_within_the_time_limit(tenant: str) -> None:
    async def never(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = MongoSettings(url=SecretStr(f"mongodb://127.0.0.1:{port}"), timeout_seconds=0.3)
    try:
        async with asyncio.timeout(10):
            with pytest.raises(Unavailable):
                async with open_mongodb(settings):
                    pass
    finally:
        server.close()


def subclasses(parent: type[Exception]) -> Iterator[type[Exception]]:
    for child in parent.__subclasses__():
        yield child
        yield from subclasses(child)


@pytest.mark.parametrize("parent", [errors.PyMongoError, bson_errors.BSONError])
def test_every_error_of_the_driver_is_sorted(parent: type[Exception]) -> None:
    kinds = (
        *sorted_errors.UNREACHABLE,
        *sorted_errors.TOO_LARGE,
        *sorted_errors.UNSTORABLE,
        *sorted_errors.OURS,
    )
    # without GridFS, which the catalog does not use, and what the driver keeps to itself
    public = [error for error in subclasses(parent) if error.__module__ in ("pymongo.errors", "bson.errors")]
    assert len(public) > 3
    unsorted = [error.__name__ for error in public if not issubclass(error, kinds)]
    assert unsorted == []


@pytest.mark.parametrize(
    "error",
    [
        errors.ServerSelectionTimeoutError("nobody there"),
        errors.NotPrimaryError("stepped down"),
        errors.NetworkTimeout("slow"),
        errors.WaitQueueTimeoutError("busy"),
        errors.WTimeoutError("no majority in time", 64),
        errors.ExecutionTimeout("slow", 50),
        errors.OperationFailure("password changed", 18),
        errors.OperationFailure("shutting down", 11600),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_store_that_is_away_is_unavailable(error: Exception) -> None:
    with pytest.raises(Unavailable), sorted_errors.translated():
        raise error


def test_our_own_mistakes_stay_what_they_are() -> None:
    with pytest.raises(errors.OperationFailure), sorted_errors.translated():
        raise errors.OperationFailure("unknown operator: $sett", 9)


@pytest.mark.parametrize("settings", [{"url": "http://x"}, {"database": "a/b"}, {"timeout_seconds": 0}])
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MongoSettings.model_validate(settings)
