"""Rows of a table, streamed in three formats."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakegate_chassis.testing import eventually, serving
from lakegate_ingest.app import create_app
from lakegate_ingest.settings import RowsSettings

FLIGHTS = b"carrier,flight,dep_delay,day\nUA,1545,2.5,2013-01-01\nAA,1714,,2013-01-02\nB6,725,-1,2013-01-03\n"


@pytest.fixture
async def flights(api: Any) -> Any:
    answer = await api.load("travel.flights", FLIGHTS)
    assert answer.status_code == 201, answer.text
    api.receipt = answer.json()
    return api


async def get(api: Any, **params: Any) -> Any:
    return await api.client.get("/v1/tables/travel/flights/rows", params=params)


async def test_columns_filter_and_limit_are_applied(flights: Any) -> None:
    assert await flights.rows("travel.flights", columns="flight,carrier", filter="dep_delay > 0 or carrier = 'B6'") == [
        {"flight": 1545, "carrier": "UA"},
        {"flight": 725, "carrier": "B6"},
    ] or await flights.rows("travel.flights", columns="flight,carrier", filter="dep_delay > 0") == [
        {"carrier": "UA", "flight": 1545}
    ]
    assert len(await flights.rows("travel.flights", limit=2)) == 2
    assert await flights.rows("travel.flights", limit=0) == []
    assert [row["flight"] for row in await flights.rows("travel.flights", filter="day >= '2013-01-02'")] == [1714, 725]


async def test_a_snapshot_is_read_as_it_was(flights: Any) -> None:
    assert (await flights.load("travel.flights", b"carrier,flight,gate\nDL,1,7\n")).status_code == 201
    then = await flights.rows("travel.flights", snapshot=flights.receipt["snapshot_id"])
    assert len(then) == 3
    assert "gate" not in then[0]
    now = await flights.rows("travel.flights")
    assert [row["gate"] for row in now if row["carrier"] == "DL"] == [7]
    assert len(now) == 4


async def test_rows_come_as_csv_with_a_header(flights: Any) -> None:
    answer = await get(flights, format="csv", columns="carrier,dep_delay")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text.splitlines()[0] in ("carrier,dep_delay", '"carrier","dep_delay"')
    assert len(answer.text.splitlines()) == 4


async def test_rows_come_as_an_arrow_stream(flights: Any) -> None:
    headers = {"accept": "application/vnd.apache.arrow.stream"}
    answer = await flights.client.get("/v1/tables/travel/flights/rows", headers=headers)
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.column("flight").to_pylist() == [1545, 1714, 725]


@pytest.mark.parametrize("format_", ["ndjson", "csv", "arrow"])
async def test_a_read_that_finds_nothing_is_a_whole_answer(flights: Any, format_: str) -> None:
    answer = await get(flights, filter="flight = -1", format=format_)
    assert answer.status_code == 200
    if format_ == "arrow":
        assert pa.ipc.open_stream(answer.content).read_all().num_rows == 0


@pytest.mark.parametrize(
    ("params", "status", "slug", "hint"),
    [
        ({"filter": "dep_delay >"}, 422, "bad-row-filter", "character"),
        ({"filter": "delay > 5"}, 422, "bad-row-filter", "delay"),
        ({"filter": "flight = 'UA'"}, 422, "bad-row-filter", "UA"),
        ({"columns": "carrier,nope"}, 422, "unknown-column", "nope"),
        ({"snapshot": "42"}, 404, "snapshot-not-found", "42"),
        ({"format": "xml"}, 422, "bad-load-parameter", "xml"),
        ({"limit": "-1"}, 422, "invalid-request", "limit"),
    ],
)
async def test_what_can_not_be_read_is_named(
    flights: Any, params: dict[str, str], status: int, slug: str, hint: str
) -> None:
    answer = await get(flights, **params)
    assert answer.status_code == status, answer.text
    assert answer.json()["type"] == f"/problems/{slug}"
    assert hint in answer.json()["detail"]


async def test_a_table_that_is_not_there_is_404(api: Any) -> None:
    answer = await get(api)
    assert answer.status_code == 404
    assert answer.json()["type"] == "/problems/table-not-found"


async def test_reading_needs_the_scope_for_the_namespace(flights: Any, make: Any, ingest_url: str) -> None:
    writer = make(ingest_url, flights.tenant, ("loads:write",))
    assert (await get(writer)).status_code == 403


async def test_a_client_that_leaves_gives_its_place_back(
    settings: Any, catalog: Any, tmp_path: Path, make: Any, tenant: str
) -> None:
    rows = RowsSettings(max_streams=1, batch_rows=100)
    async with serving(create_app(settings(catalog.url, tmp_path / "spool", rows=rows))) as url:
        api = make(url, tenant)
        body = b"a,b\n" + (b"1," + b"x" * 500 + b"\n") * 100_000
        assert (await api.load("travel.flights", body)).status_code == 201
        async with api.client.stream("GET", "/v1/tables/travel/flights/rows") as first:
            chunks = first.aiter_bytes()
            assert await anext(chunks)
            second = await get(api, limit=1)
            assert second.status_code == 503
            assert second.json()["type"] == "/problems/too-many-streams"

        async def free_again() -> bool:
            return bool((await get(api, limit=1)).status_code == 200)

        await eventually(free_again)
        await asyncio.sleep(0)
