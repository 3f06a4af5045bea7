"""A file in, a snapshot out, rows back."""

from __future__ import annotations

import asyncio
from typing import Any

FLIGHTS = b"carrier,flight,dep_delay\nUA,1545,2.5\nAA,1714,\nB6,725,-1\n"


async def test_a_csv_becomes_a_snapshot_whose_rows_read_back(api: Any) -> None:
    answer = await api.load("travel.flights", FLIGHTS, params={"name": "flights.csv"}, content_type="text/csv")
    assert answer.status_code == 201, answer.text
    receipt = answer.json()
    assert receipt["rows_in"] == receipt["rows_written"] == 3
    assert receipt["quarantine"]["rows"] == 0
    assert receipt["snapshot_id"]
    assert receipt["catalog_version"]
    assert receipt["consistency_token"]
    assert receipt["files"][0]["name"] == "flights.csv"
    assert receipt["files"][0]["size_bytes"] == len(FLIGHTS)
    assert answer.headers["location"] == f"/v1/loads/{receipt['load_id']}"
    rows = await api.rows("travel.flights")
    assert [row["flight"] for row in rows] == [1545, 1714, 725]
    assert rows[1]["dep_delay"] is None


async def test_two_loads_to_one_table_at_once_both_commit(api: Any) -> None:
    first = await api.load("travel.flights", FLIGHTS)
    assert first.status_code == 201, first.text
    answers = await asyncio.gather(*(api.load("travel.flights", FLIGHTS) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.json()["snapshot_id"] for answer in answers}) == 4
    assert len(await api.rows("travel.flights")) == 15


async def test_two_first_loads_with_different_columns_both_land_in_one_table(api: Any) -> None:
    one, other = await asyncio.gather(
        api.load("travel.flights", b"a,b\n1,x\n"), api.load("travel.flights", b"b,c\ny,2.5\n")
    )
    assert (one.status_code, other.status_code) == (201, 201), one.text + other.text
    rows = sorted(await api.rows("travel.flights"), key=lambda row: row["b"])
    assert rows == [{"a": 1, "b": "x", "c": None}, {"a": None, "b": "y", "c": 2.5}]
