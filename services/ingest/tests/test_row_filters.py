"""What a row filter finds: the same rows, whoever wrote or deleted them."""

from __future__ import annotations

import asyncio
from typing import Any

import duckdb
import pytest
from duckdb_extensions import import_extension
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, LongType, NestedField, UUIDType

from lakegate_contracts.identity import Principal

ODD = b"""n,u,d
1,9c12d441-03fe-4693-9a96-a0705ddf69c1,1.5
2,,NaN
3,1c12d441-03fe-4693-9a96-a0705ddf69c1,-0.0
4,,0.0
5,,1e300
6,,
"""
BAD_ROW = b"seven,,0\n"


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
        ("d in (1E+300, 15e-1)", [1, 5]),
        ("n < 2e0 or n >= .6e1", [1, 6]),
    ],
)
async def test_rows_are_found_whoever_wrote_their_file(odd: Any, filter_: str, found: list[int]) -> None:
    assert sorted(row["n"] for row in await odd.rows("odd.values", columns="n", filter=filter_)) == found


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
        with duckdb.connect() as lake:
            for extension in ("avro", "httpfs", "iceberg"):
                import_extension(extension)
                lake.execute(f"LOAD {extension}")
            lake.execute(f"CREATE SECRET lakegate (TYPE ICEBERG, TOKEN '{token}')")
            lake.execute(
                f"ATTACH 'lakehouse' AS lake (TYPE ICEBERG, ENDPOINT '{catalog.url}/iceberg', SECRET lakegate)"
            )
            lake.execute("DELETE FROM lake.odd.values WHERE n = 3 OR n % 1000 = 100 OR n BETWEEN 150_000 AND 190_000")
            lake.execute("DELETE FROM lake.odd.values WHERE n = 5")

    await asyncio.to_thread(delete)
    left = [1, 2, 4, 6] + [n for n in range(100, 200_100) if n % 1000 != 100 and not 150_000 <= n <= 190_000]
    assert sorted(row["n"] for row in await odd.rows("odd.values", columns="n")) == left
    found = await odd.rows("odd.values", filter="u = '9c12d441-03fe-4693-9a96-a0705ddf69c1' or n > 200000 or n = 3")
    assert sorted(row["n"] for row in found) == [1, *range(200_001, 200_100)]
    assert len(await odd.rows("odd.values", filter="n >= 101", limit=5)) == 5
