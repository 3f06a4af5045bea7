"""Commits when the database goes away in the middle: injected, since no client can be that precise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from lakegate_catalog.iceberg.commits import Commits
from lakegate_catalog.iceberg.dialect import BadRequest, CommitStateUnknown
from lakegate_catalog.iceberg.metadata import Warehouse
from lakegate_catalog.iceberg.namespaces import Namespaces
from lakegate_catalog.iceberg.requests import CommitTable, CreateTable
from lakegate_catalog.iceberg.tables import Tables
from lakegate_catalog.settings import MetadataSettings, WarehouseSettings
from lakegate_catalog.store.entities import Entities
from lakegate_catalog.store.port import Change
from lakegate_catalog.store.postgres import PostgresCatalogStore
from lakegate_chassis.eventlog import PostgresEventLog
from lakegate_chassis.objectstore import ObjectStoreSettings
from lakegate_chassis.problems import Unavailable
from lakegate_contracts.names import TableName

from .conftest import SCHEMA, snapshot

FLIGHTS = TableName("travel", "flights")


class Losing(PostgresCatalogStore):
    """Loses the connection at the append: before it reached the server, or after it was stored."""

    lose = ""

    async def append(self, change: Change) -> Change:
        if self.lose == "before":
            raise Unavailable("injected")
        appended = await super().append(change)
        if self.lose == "after":
            raise Unavailable("injected")
        return appended


@pytest.fixture
async def tables(pool: asyncpg.Pool, warehouse: Path, tenant: str) -> Tables:
    entities = Entities(Losing(pool, PostgresEventLog(pool)))
    made = Tables(
        entities,
        Namespaces(entities),
        Warehouse(WarehouseSettings(location=f"file://{warehouse}"), ObjectStoreSettings(), 1_000_000),
    )
    await made.namespaces.create(tenant, "travel", {})
    body = CreateTable.model_validate({"name": "flights", "schema": SCHEMA})
    await made.create(tenant, FLIGHTS, made.stage(tenant, "travel", body), "ann")
    return made


@pytest.mark.parametrize(("lose", "stored"), [("before", None), ("after", 11)])
async def test_an_unknown_outcome_is_said_and_the_metadata_file_is_kept(
    tables: Tables, tenant: str, lose: str, stored: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables.store, "lose", lose)
    at = (await tables.current(tenant, FLIGHTS)).state["location"]  # type: ignore[index]
    request = CommitTable.model_validate(snapshot(at, 11, 1))
    with pytest.raises(CommitStateUnknown):
        await Commits(tables, MetadataSettings()).commit(tenant, FLIGHTS, request, "ann")
    monkeypatch.setattr(tables.store, "lose", "")
    assert await current_snapshot(tables, tenant) == stored
    # the client looks, and commits again only what is not there
    if stored is None:
        await Commits(tables, MetadataSettings()).commit(tenant, FLIGHTS, request, "ann")
        assert await current_snapshot(tables, tenant) == 11


async def test_a_place_that_could_be_another_tenants_is_never_used(tables: Tables) -> None:
    body = CreateTable.model_validate({"name": "flights", "schema": SCHEMA})
    for tenant in ("..", "a/b", "", ".hidden", "a b"):
        with pytest.raises(BadRequest, match="can't name a folder"):
            tables.stage(tenant, "travel", body)


async def current_snapshot(tables: Tables, tenant: str) -> Any:
    # through a cache of its own: what counts is the file
    fresh = Warehouse(tables.warehouse.settings, ObjectStoreSettings(), 0)
    loaded = await Tables(tables.entities, tables.namespaces, fresh).load(tenant, FLIGHTS)
    _, metadata = await fresh.parse(loaded.document.location)
    return metadata.current_snapshot_id
