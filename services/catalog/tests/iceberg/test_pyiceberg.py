"""PyIceberg as a real client. It is synchronous, so its calls run in threads while the server runs in the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NamespaceNotEmptyError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform
from pyiceberg.types import DoubleType, LongType, StringType

FLIGHTS = pa.table({"flight": pa.array([1, 2, 3], pa.int64()), "carrier": ["UA", "AA", "B6"]})


@pytest.fixture
async def catalog(base_url: str, token: Callable[..., str]) -> RestCatalog:
    return await call(RestCatalog, "lakegate", uri=f"{base_url}/iceberg", token=token(), warehouse="lakehouse")


# Not the loop's own threads: the server uses those too, and waiting clients would leave it none.
CLIENTS = ThreadPoolExecutor(16, "pyiceberg")


async def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(CLIENTS, partial(function, *arguments, **named))


@pytest.fixture
async def flights(catalog: RestCatalog) -> Table:
    await call(catalog.create_namespace, "travel")
    return await call(catalog.create_table, "travel.flights", FLIGHTS.schema)


async def test_a_table_is_created_appended_to_and_read_back(catalog: RestCatalog, flights: Table) -> None:
    await call(flights.append, FLIGHTS)
    await call(flights.append, FLIGHTS)
    loaded = await call(catalog.load_table, "travel.flights")
    read = await call(lambda: loaded.scan(row_filter="flight > 1").to_arrow())
    assert sorted(read["flight"].to_pylist()) == [2, 2, 3, 3]
    assert len(loaded.metadata.snapshots) == 2
    assert len(loaded.metadata.metadata_log) == 2


async def test_a_column_added_by_a_client_is_there_for_the_next_one(catalog: RestCatalog, flights: Table) -> None:
    def add() -> None:
        with flights.update_schema() as update:
            update.add_column("delay", LongType(), doc="minutes")

    await call(add)
    loaded = await call(catalog.load_table, "travel.flights")
    assert [field.name for field in loaded.schema().fields] == ["flight", "carrier", "delay"]


async def test_a_staged_create_makes_the_table_with_its_first_rows(catalog: RestCatalog) -> None:
    await call(catalog.create_namespace, "travel")

    def create() -> None:
        with catalog.create_table_transaction("travel.planes", FLIGHTS.schema) as transaction:
            transaction.append(FLIGHTS)

    await call(create)
    loaded = await call(catalog.load_table, "travel.planes")
    assert (await call(lambda: loaded.scan().to_arrow())).num_rows == 3


async def test_a_staged_create_leaves_nothing_when_it_is_given_up(catalog: RestCatalog) -> None:
    await call(catalog.create_namespace, "travel")
    await call(catalog.create_table_transaction, "travel.planes", FLIGHTS.schema)
    assert not await call(catalog.table_exists, "travel.planes")
    assert await call(catalog.list_tables, "travel") == []


async def test_a_renamed_table_keeps_its_rows_and_loses_its_old_name(catalog: RestCatalog, flights: Table) -> None:
    await call(flights.append, FLIGHTS)
    await call(catalog.create_namespace, "archive")
    renamed = await call(catalog.rename_table, "travel.flights", "archive.flights_2013")
    assert (await call(lambda: renamed.scan().to_arrow())).num_rows == 3
    assert not await call(catalog.table_exists, "travel.flights")
    assert await call(catalog.list_tables, "archive") == [("archive", "flights_2013")]
    await call(catalog.create_table, "travel.flights", FLIGHTS.schema)


async def test_of_two_commits_on_one_base_exactly_one_wins(catalog: RestCatalog, flights: Table) -> None:
    rivals = [await call(catalog.load_table, "travel.flights") for _ in range(8)]

    def append(table: Table) -> bool:
        table.metadata.properties["commit.retry.num-retries"] = "0"
        try:
            table.append(FLIGHTS)
        except CommitFailedException:
            return False
        return True

    outcomes = await asyncio.gather(*(call(append, table) for table in rivals))
    loaded = await call(catalog.load_table, "travel.flights")
    assert outcomes.count(True) == 1
    assert len(loaded.metadata.snapshots) == 1


async def test_a_dropped_table_is_gone(catalog: RestCatalog, flights: Table) -> None:
    await call(catalog.drop_table, "travel.flights")
    with pytest.raises(NoSuchTableError):
        await call(catalog.load_table, "travel.flights")
    with pytest.raises(NoSuchTableError):
        await call(catalog.drop_table, "travel.flights")


async def test_namespaces_are_listed_by_level(catalog: RestCatalog) -> None:
    await call(catalog.create_namespace, ("travel", "eu"), {"owner": "ann"})
    await call(catalog.create_namespace, ("travel", "us"))
    assert await call(catalog.list_namespaces) == [("travel",)]
    assert await call(catalog.list_namespaces, "travel") == [("travel", "eu"), ("travel", "us")]
    assert await call(catalog.load_namespace_properties, ("travel", "eu")) == {"owner": "ann"}
    summary = await call(catalog.update_namespace_properties, ("travel", "eu"), {"owner", "none"}, {"team": "data"})
    assert (summary.removed, summary.updated, summary.missing) == (["owner"], ["team"], ["none"])
    assert await call(catalog.load_namespace_properties, ("travel", "eu")) == {"team": "data"}


async def test_only_an_empty_namespace_is_dropped(catalog: RestCatalog, flights: Table) -> None:
    with pytest.raises(NamespaceNotEmptyError):
        await call(catalog.drop_namespace, "travel")
    await call(catalog.drop_table, "travel.flights")
    await call(catalog.drop_namespace, "travel")
    assert not await call(catalog.namespace_exists, "travel")
    with pytest.raises(NoSuchNamespaceError):
        await call(catalog.list_tables, "travel")


async def test_names_that_are_taken_are_refused(catalog: RestCatalog, flights: Table) -> None:
    with pytest.raises(NamespaceAlreadyExistsError):
        await call(catalog.create_namespace, "travel")
    with pytest.raises(TableAlreadyExistsError):
        await call(catalog.create_table, "travel.flights", FLIGHTS.schema)
    await call(catalog.create_table, "travel.planes", FLIGHTS.schema)
    with pytest.raises(TableAlreadyExistsError):
        await call(catalog.rename_table, "travel.planes", "travel.flights")


async def test_long_lists_come_in_pages(base_url: str, token: Callable[..., str], catalog: RestCatalog) -> None:
    await call(catalog.create_namespace, "many")
    names = [f"t{number:02d}" for number in range(7)]
    for name in names:
        await call(catalog.create_table, f"many.{name}", FLIGHTS.schema)
    paged = await call(
        RestCatalog, "paged", uri=f"{base_url}/iceberg", token=token(), warehouse="lakehouse", **{"rest-page-size": "3"}
    )
    assert [name for _, name in await call(paged.list_tables, "many")] == names


async def test_a_registered_table_is_the_same_table(catalog: RestCatalog, flights: Table) -> None:
    await call(flights.append, FLIGHTS)
    location = (await call(catalog.load_table, "travel.flights")).metadata_location
    await call(catalog.drop_table, "travel.flights")
    registered = await call(catalog.register_table, "travel.again", location)
    assert (await call(lambda: registered.scan().to_arrow())).num_rows == 3


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_table_with_rows_lives_through_every_kind_of_change(catalog: RestCatalog, version: str) -> None:
    """What a client sends in earnest is never taken for what breaks a table."""
    rows = pa.table(
        {
            "id": pa.array([1, 2], pa.int32()),
            "name": ["a", "b"],
            "at": pa.array([0, 1], pa.timestamp("us")),
            "place": pa.array([{"x": 1.0, "y": "n"}] * 2, pa.struct([("x", pa.float32()), ("y", pa.string())])),
            "tags": pa.array([["t"], []], pa.list_(pa.string())),
        }
    )

    def live() -> Table:
        catalog.create_namespace("travel")
        table = catalog.create_table("travel.trips", rows.schema, properties={"format-version": version})
        table.append(rows)
        with table.update_schema() as schema:
            schema.update_column("id", LongType())
            schema.update_column(("place", "x"), DoubleType())
            schema.add_column(("place", "z"), StringType())
            schema.add_column("gone", StringType())
            schema.rename_column("name", "label")
        with table.update_spec() as spec:
            spec.add_field("at", DayTransform(), "day")
            spec.add_field("id", BucketTransform(4), "bucket")
        with table.update_spec() as spec:  # to write by those two takes one more package
            spec.remove_field("day").remove_field("bucket").add_field("label", IdentityTransform(), "part")
        with table.update_sort_order() as order:
            order.asc("label", IdentityTransform())
        with table.update_schema() as schema:
            schema.delete_column("gone")
        table.append(table.scan().to_arrow())
        with table.update_spec() as spec:
            spec.remove_field("part")
        with table.transaction() as transaction:
            with transaction.update_schema() as schema:
                schema.union_by_name(pa.schema([*table.schema().as_arrow(), pa.field("more", pa.int64())]))
            transaction.set_properties({"a": "b", "c": "d"})
            transaction.remove_properties("a")
        table.delete("id = 1")
        table.overwrite(table.scan().to_arrow())
        first = table.metadata.snapshots[0].snapshot_id
        with table.manage_snapshots() as snapshots:
            snapshots.create_tag(first, "first").create_branch(table.metadata.current_snapshot_id, "side")
        with table.manage_snapshots() as snapshots:
            snapshots.remove_tag("first")
        if version == "1":
            with table.transaction() as transaction:
                transaction.upgrade_table_version(2)
        table.maintenance.expire_snapshots().by_id(first).commit()
        table.append(table.scan().to_arrow())
        return catalog.load_table("travel.trips")

    table = await call(live)
    read = await call(lambda: table.scan().to_arrow())
    assert read["id"].to_pylist() == [2] * 4
    assert read.column_names == ["id", "label", "at", "place", "tags", "more"]
    assert table.metadata.format_version == 2
