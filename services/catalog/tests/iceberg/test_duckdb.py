"""DuckDB's iceberg extension as a real client, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import httpx
import pytest
from duckdb_extensions import import_extension

SCHEMA = {
    "type": "struct",
    "fields": [
        {"id": 1, "name": "flight", "type": "long", "required": False},
        {"id": 2, "name": "carrier", "type": "string", "required": False},
    ],
}
Query = Callable[[str], Any]


@pytest.fixture
def query(base_url: str, token: Callable[..., str]) -> Iterator[Query]:
    """Run SQL with the tenant's catalog attached as `lake`."""
    thread = ThreadPoolExecutor(1, "duckdb")
    connection = duckdb.connect()

    def attach() -> None:
        for extension in ("avro", "httpfs", "iceberg"):
            import_extension(extension)
            connection.execute(f"LOAD {extension}")
        connection.execute(f"CREATE SECRET lakegate (TYPE ICEBERG, TOKEN '{token()}')")
        connection.execute(f"ATTACH 'lakehouse' AS lake (TYPE ICEBERG, ENDPOINT '{base_url}/iceberg', SECRET lakegate)")

    attached = False

    def run(sql: str) -> Any:
        nonlocal attached
        if not attached:
            attach()
            attached = True
        return connection.execute(sql).fetchall()

    async def ask(sql: str) -> Any:
        return await asyncio.get_running_loop().run_in_executor(thread, run, sql)

    yield ask
    thread.shutdown()
    connection.close()


@pytest.fixture
async def flights(client: httpx.AsyncClient, iceberg: str) -> None:
    made = await client.post(f"{iceberg}/namespaces", json={"namespace": ["travel"]})
    assert made.status_code == 200
    table = await client.post(f"{iceberg}/namespaces/travel/tables", json={"name": "flights", "schema": SCHEMA})
    assert table.status_code == 200, table.text


@pytest.mark.usefixtures("flights")
async def test_rows_inserted_by_duckdb_are_read_by_duckdb(query: Query) -> None:
    await query("INSERT INTO lake.travel.flights VALUES (1, 'UA'), (2, 'AA')")
    await query("INSERT INTO lake.travel.flights VALUES (3, 'B6')")
    assert await query("SELECT carrier FROM lake.travel.flights ORDER BY flight") == [("UA",), ("AA",), ("B6",)]


@pytest.mark.usefixtures("flights")
async def test_duckdb_lists_what_is_there(query: Query) -> None:
    found = await query("SELECT schema, name FROM (SHOW ALL TABLES) WHERE database = 'lake'")
    assert found == [("travel", "flights")]


async def test_duckdb_makes_and_drops_schemas_and_tables(query: Query, client: httpx.AsyncClient, iceberg: str) -> None:
    await query("CREATE SCHEMA lake.shop")
    await query("CREATE TABLE lake.shop.orders (id BIGINT, city VARCHAR)")
    await query("INSERT INTO lake.shop.orders VALUES (1, 'Oslo')")
    assert await query("SELECT city FROM lake.shop.orders") == [("Oslo",)]
    loaded = await client.get(f"{iceberg}/namespaces/shop/tables/orders")
    assert [field["name"] for field in loaded.json()["metadata"]["schemas"][-1]["fields"]] == ["id", "city"]
    await query("DROP TABLE lake.shop.orders")
    assert (await client.head(f"{iceberg}/namespaces/shop/tables/orders")).status_code == 404
    await query("DROP SCHEMA lake.shop")
    assert (await client.head(f"{iceberg}/namespaces/shop")).status_code == 404


@pytest.mark.usefixtures("flights")
async def test_a_table_made_from_a_query_holds_its_rows(query: Query) -> None:
    await query("INSERT INTO lake.travel.flights VALUES (1, 'UA'), (2, 'AA')")
    await query("CREATE TABLE lake.travel.copy AS SELECT * FROM lake.travel.flights WHERE flight > 1")
    assert await query("SELECT carrier FROM lake.travel.copy") == [("AA",)]
