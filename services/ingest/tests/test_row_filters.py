"""What a row filter finds: the same rows, whoever wrote or deleted them."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from duckdb_extensions import import_extension
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.expressions.parser import parse
from pyiceberg.expressions.visitors import bind
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DecimalType, DoubleType, LongType, NestedField, TimestampType, UUIDType

from lakegate_contracts.identity import Principal
from lakegate_ingest.tables.comparing import prunable

ODD = b"""n,u,d
1,9c12d441-03fe-4693-9a96-a0705ddf69c1,1.5
2,,NaN
3,1c12d441-03fe-4693-9a96-a0705ddf69c1,-0.0
4,,0.0
5,,1e300
6,,
"""
BAD_ROW = b"seven,,0\n"


def attached(catalog: Any, token: str) -> duckdb.DuckDBPyConnection:
    """DuckDB as an engine of the catalog."""
    lake = duckdb.connect()
    for extension in ("avro", "httpfs", "iceberg"):
        import_extension(extension)
        lake.execute(f"LOAD {extension}")
    lake.execute(f"CREATE SECRET lakegate (TYPE ICEBERG, TOKEN '{token}')")
    lake.execute(f"ATTACH 'lakehouse' AS lake (TYPE ICEBERG, ENDPOINT '{catalog.url}/iceberg', SECRET lakegate)")
    return lake


@pytest.fixture(params=["written by DuckDB", "written by Arrow"])
async def odd(request: pytest.FixtureRequest, api: Any, catalog: Any, identity: Any) -> Any:
    """A table with a uuid and a double; where a row is bad, its files have statistics by Arrow."""
    principal = Principal(tenant=api.tenant, subject="ana", scopes=("datasets:write", "datasets:read"))
    token = identity.signer.mint(principal, "catalog", lifetime_seconds=600)
    schema = Schema(NestedField(1, "n", LongType()), NestedField(2, "u", UUIDType()), NestedField(3, "d", DoubleType()))

    def make() -> None:
        iceberg = RestCatalog("lake", uri=f"{catalog.url}/iceberg", token=token)
        iceberg.create_namespace("odd")
        iceberg.create_table("odd.values", schema)

    await asyncio.to_thread(make)
    answer = await api.load("odd.values", ODD + (BAD_ROW if request.param == "written by Arrow" else b""))
    assert answer.json()["rows_written"] == 6, answer.text
    return api


@pytest.mark.parametrize(
    ("filter_", "found"),
    [
        ("u is null", [2, 4, 5, 6]),
        ("u is not null and d != 1.5", [3]),
        ("d is nan", [2]),
        ("d is nan or d > 1e301", [2]),
        ("d != 1.5", [2, 3, 4, 5]),
        ("not (d = 1.5)", [2, 3, 4, 5]),
        ("not (d > 1)", [3, 4]),
        ("d = 0", [3, 4]),
        ("d in (0, 1)", [3, 4]),
        ("d in (0.0, 1.5)", [1, 3, 4]),
        ("d not in (0.0, 1.5)", [2, 5]),
        ("d >= 1e300", [5]),
        ("d in (15e-1, 2.5)", [1]),
        ("d in (1E+300, 7)", [5]),
        ("n < 2e0 or n >= .6e1", [1, 6]),
        ("n in (1, 2.5, 3.0)", [1, 3]),
        ("n not in (1, 2.5, +3e0)", [2, 4, 5, 6]),
        ("n not in (2.5, 7.5) and n not in (-.5, 1)", [2, 3, 4, 5, 6]),
        ("d in (1, 15e-1, -7.25)", [1]),
        ("d < 1e400", [1, 3, 4, 5]),
        ("d > 1e400 or d = 1e400", []),
        ("n > -9223372036854775809 and n in (9223372036854775808, 2)", [2]),
    ],
)
async def test_rows_are_found_whoever_wrote_their_file(odd: Any, filter_: str, found: list[int]) -> None:
    assert sorted(row["n"] for row in await odd.rows("odd.values", columns="n", filter=filter_)) == found


async def test_a_value_that_a_column_can_not_have_is_compared_as_in_sql(api: Any, catalog: Any, identity: Any) -> None:
    principal = Principal(tenant=api.tenant, subject="ana", scopes=("datasets:write", "datasets:read"))
    token = identity.signer.mint(principal, "catalog", lifetime_seconds=600)
    most = 2**31 - 1
    kinds = pa.schema({"n": pa.int64(), "i": pa.int32(), "f": pa.float32(), "p": pa.decimal128(4, 2)})
    floats = [0.1, None, float("inf"), float("nan")]
    data = {"n": [1, 2, 3, 4], "i": [most, None, 5, -most - 1], "f": floats, "p": [Decimal("1.50"), None, None, None]}

    def make() -> None:
        lake = RestCatalog("lake", uri=f"{catalog.url}/iceberg", token=token)
        lake.create_namespace("odd")
        lake.create_table("odd.narrow", kinds).append(pa.table(data, kinds))

    await asyncio.to_thread(make)
    for filter_, found in (
        ("i < 3000000000", [1, 3, 4]),
        ("i != 3000000000", [1, 3, 4]),
        ("i > -3000000000 and i <= 5", [3, 4]),
        ("i >= 3000000000 or i = -3000000000", []),
        ("i in (3000000000, 5)", [3]),
        ("i not in (3000000000, 5)", [1, 4]),
        ("i not in (3000000000)", [1, 3, 4]),
        ("f = 0.1", [1]),
        ("f <= 0.1", [1]),
        ("f in (0.1, 1e300)", [1]),
        ("f < 1e300", [1]),
        ("f > 1e300", [3]),
        ("f > -1e300", [1, 3]),
        ("f = 'Infinity'", [3]),
        ("f != 1e300", [1, 3, 4]),
        ("p in (1.505, 1.5, 12345)", [1]),
    ):
        assert sorted(row["n"] for row in await api.rows("odd.narrow", columns="n", filter=filter_)) == found, filter_
    for filter_ in ("i like '1%'", "p not like '1%'"):
        answer = await api.client.get("/v1/tables/odd/narrow/rows", params={"filter": filter_})
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/bad-row-filter")
        assert "text only" in answer.json()["detail"]


async def test_a_partition_may_be_null(api: Any, catalog: Any, identity: Any) -> None:
    principal = Principal(tenant=api.tenant, subject="ana", scopes=("datasets:write", "datasets:read"))
    token = identity.signer.mint(principal, "catalog", lifetime_seconds=600)
    data = pa.table({"n": [1, 2, 3], "p": [10, None, 30], "d": [date(2024, 1, 1), date(2024, 5, 1), None]})

    def make() -> None:
        lake = RestCatalog("lake", uri=f"{catalog.url}/iceberg", token=token)
        lake.create_namespace("odd")
        table = lake.create_table("odd.parts", data.schema)
        with table.update_spec() as update:
            update.add_field("p", IdentityTransform())
            update.add_field("d", IdentityTransform())
        table.append(data)

    await asyncio.to_thread(make)
    for filter_, found in (
        ("p > 5", [1, 3]),
        ("p <= 10 or d >= '2024-05-01'", [1, 2]),
        ("p is null and d > '2000-01-01'", [2]),
        ("not (p >= 30)", [1]),
    ):
        assert sorted(row["n"] for row in await api.rows("odd.parts", columns="n", filter=filter_)) == found, filter_
    answer = await api.client.get("/v1/tables/odd/parts/rows", params={"filter": "d > 19000"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/bad-row-filter")


async def test_an_exponent_in_a_text_or_a_name_is_none(api: Any) -> None:
    await api.load("travel.texts", b"a,b1e5\n1e3,7\nx'1e3,8\n2,9\nx,10\n")
    assert [row["b1e5"] for row in await api.rows("travel.texts", filter="a = '1e3' and b1e5 < 1e1")] == [7]
    assert [row["b1e5"] for row in await api.rows("travel.texts", filter="\"a\" = 'x''1e3'")] == [8]


async def test_rows_that_an_engine_deleted_by_position_are_gone(odd: Any, catalog: Any, identity: Any) -> None:
    principal = Principal(tenant=odd.tenant, subject="ana", scopes=("datasets:write", "datasets:read"))
    token = identity.signer.mint(principal, "catalog", lifetime_seconds=600)
    many = b"n,u,d\n" + b"".join(b"%d,,%d\n" % (number, number) for number in range(100, 200_100))
    assert (await odd.load("odd.values", many)).status_code == 201

    def delete() -> None:
        with attached(catalog, token) as lake:
            lake.execute("DELETE FROM lake.odd.values WHERE n = 3 OR n % 1000 = 100 OR n BETWEEN 150_000 AND 190_000")
            lake.execute("DELETE FROM lake.odd.values WHERE n = 5")

    await asyncio.to_thread(delete)
    left = [1, 2, 4, 6] + [n for n in range(100, 200_100) if n % 1000 != 100 and not 150_000 <= n <= 190_000]
    assert sorted(row["n"] for row in await odd.rows("odd.values", columns="n")) == left
    found = await odd.rows("odd.values", filter="u = '9c12d441-03fe-4693-9a96-a0705ddf69c1' or n > 200000 or n = 3")
    assert sorted(row["n"] for row in found) == [1, *range(200_001, 200_100)]
    assert len(await odd.rows("odd.values", filter="n >= 101", limit=5)) == 5


async def test_a_snapshot_is_filtered_by_the_columns_that_it_had(api: Any, catalog: Any, identity: Any) -> None:
    answer = await api.load("travel.swapped", b"a,b,gone\n1,100,x\n2,200,y\n")
    snapshot = answer.json()["snapshot_id"]
    principal = Principal(tenant=api.tenant, subject="ana", scopes=("datasets:write", "datasets:read"))
    token = identity.signer.mint(principal, "catalog", lifetime_seconds=600)

    def change() -> None:
        table = RestCatalog("lake", uri=f"{catalog.url}/iceberg", token=token).load_table("travel.swapped")
        for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
            with table.update_schema() as update:
                update.rename_column(old, new)
        with table.update_schema() as update:
            update.delete_column("gone")

    await asyncio.to_thread(change)
    await api.load("travel.swapped", b"a,b,gone\n300,3,7\n")

    async def found(filter_: str, **more: Any) -> list[tuple[int, int]]:
        rows = await api.rows("travel.swapped", filter=filter_, **more)
        return sorted((row["a"], row["b"]) for row in rows)

    assert await found("a = 1", snapshot=snapshot) == [(1, 100)]
    assert await found("a > 50", snapshot=snapshot) == []
    assert await found("gone = 'y'", snapshot=snapshot) == [(2, 200)]
    assert await found("gone = 7") == [(300, 3)]
    assert await found("a > 50") == [(100, 1), (200, 2), (300, 3)]


async def test_a_null_is_the_same_in_every_file(api: Any) -> None:
    await api.load("travel.nulls", b"a\n1\n")
    await api.load("travel.nulls", b"a,c\n5,\n6,1.5\n7,2\n")
    for filter_, found in (
        ("c != 1.5", [7]),
        ("c not in (1.5, 9.0)", [7]),
        ("not (c > 1.7)", [6]),
        ("not (c is null)", [6, 7]),
        ("c is null", [1, 5]),
        ("c is null or c > 1.7", [1, 5, 7]),
    ):
        assert sorted(row["a"] for row in await api.rows("travel.nulls", filter=filter_)) == found, filter_


async def test_nested_columns_and_names_with_points_are_filtered(api: Any, catalog: Any, identity: Any) -> None:
    principal = Principal(tenant=api.tenant, subject="ana", scopes=("datasets:write", "datasets:read"))
    token = identity.signer.mint(principal, "catalog", lifetime_seconds=600)
    rows = [
        {"n": 1, "l": [1], "m": None, "s": {"x": 5, "y": {"z": "a"}}},
        {"n": 2, "l": None, "m": {"k": 1}, "s": {"x": None, "y": None}},
        {"n": 3, "l": [], "m": {}, "s": None},
    ]
    kinds = {"l": pa.list_(pa.int64()), "m": pa.map_(pa.string(), pa.int64())}
    kinds["s"] = pa.struct([("x", pa.int64()), ("y", pa.struct([("z", pa.string())]))])
    data = pa.Table.from_pylist(rows, pa.schema([("n", pa.int64()), *kinds.items()]))

    def make() -> None:
        iceberg = RestCatalog("lake", uri=f"{catalog.url}/iceberg", token=token)
        iceberg.create_namespace("deep")
        iceberg.create_table("deep.values", data.schema).append(data)

    await asyncio.to_thread(make)
    for filter_, found in (
        ("l is null", [2]),
        ("l is not null", [1, 3]),
        ("m is null", [1]),
        ("s is null", [3]),
        ("s.x = 5", [1]),
        ("s.x is null and n < 3", [2]),
        ("s.y.z = 'a' or m is not null", [1, 2, 3]),
    ):
        assert sorted(row["n"] for row in await api.rows("deep.values", columns="n", filter=filter_)) == found, filter_
    assert (await api.rows("deep.values", columns="l", filter="s.x = 5")) == [{"l": [1]}]
    await api.load("deep.points", b"a.b,n\n1,1\n2,2\n")
    answer = await api.client.get("/v1/tables/deep/points/rows", params={"filter": "a.b = 2"})
    assert [line["n"] for line in map(json.loads, answer.text.splitlines())] == [2]


async def test_rows_of_files_without_any_of_the_columns_are_there(api: Any, catalog: Any, identity: Any) -> None:
    await api.load("travel.later", b"a,t\n1,x\n2,y\n3,z\n")
    await api.load("travel.later", b"a,n\n4,5\n")
    assert sorted(row["n"] or 0 for row in await api.rows("travel.later", columns="n")) == [0, 0, 0, 5]
    assert await api.rows("travel.later", columns="n", filter="n is null") == [{"n": None}] * 3
    assert await api.rows("travel.later", columns="n", filter="n > 1") == [{"n": 5}]
    assert len(await api.rows("travel.later", columns="n", limit=2)) == 2
    principal = Principal(tenant=api.tenant, subject="ana", scopes=("datasets:write", "datasets:read"))
    token = identity.signer.mint(principal, "catalog", lifetime_seconds=600)

    def delete() -> None:
        with attached(catalog, token) as lake:
            lake.execute("DELETE FROM lake.travel.later WHERE a = 2")

    await asyncio.to_thread(delete)
    assert sorted(row["n"] or 0 for row in await api.rows("travel.later", columns="n")) == [0, 0, 5]


async def test_rows_are_found_in_files_that_have_a_column_in_another_type(
    api: Any, catalog: Any, identity: Any
) -> None:
    principal = Principal(tenant=api.tenant, subject="ana", scopes=("datasets:write", "datasets:read"))
    token = identity.signer.mint(principal, "catalog", lifetime_seconds=600)
    most = 2**31 - 1

    def make() -> None:
        lake = RestCatalog("lake", uri=f"{catalog.url}/iceberg", token=token)
        lake.create_namespace("odd")
        kinds = {"i": pa.int32(), "d": pa.decimal128(4, 2), "f": pa.float32()}
        table = lake.create_table("odd.widened", pa.schema(kinds))
        old = {"i": [most, 5], "d": [Decimal("1.10"), Decimal("2.20")], "f": [0.5, 1.5]}
        table.append(pa.table(old, pa.schema(kinds)))
        with table.update_schema() as update:
            update.update_column("i", LongType())
            update.update_column("d", DecimalType(10, 2))
            update.update_column("f", DoubleType())

    await asyncio.to_thread(make)
    for filter_, found in (
        ("i not in (3000000000, 5)", [most]),
        ("i < 3000000000", [5, most]),
        ("d != 12345.67", [5, most]),
        ("d in (12345.67, 1.1)", [most]),
        ("f = 0.5", [most]),
    ):
        assert sorted(row["i"] for row in await api.rows("odd.widened", columns="i", filter=filter_)) == found, filter_


def test_a_file_of_nanoseconds_is_not_asked_for_a_year_that_they_have_not() -> None:
    schema = Schema(NestedField(1, "at", TimestampType()), NestedField(2, "n", LongType()))
    bound = bind(schema, parse("at < '9999-12-31T00:00:00' and n > 3"), case_sensitive=True)
    stored = pa.schema([("at", pa.timestamp("ns")), ("n", pa.int64())])
    assert prunable(bound, stored, schema) == bind(schema, parse("n > 3"), case_sensitive=True)
    stored = pa.schema([("at", pa.timestamp("us")), ("n", pa.int32())])
    assert prunable(bound, stored, schema) == bind(schema, parse("at < '9999-12-31T00:00:00'"), case_sensitive=True)
