"""Rows of a table, streamed in three formats."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import LongType, NestedField

from lakegate_chassis.objectstore import ObjectStoreSettings
from lakegate_chassis.testing import eventually, serving
from lakegate_contracts.identity import Principal
from lakegate_ingest.app import create_app
from lakegate_ingest.commit.files import TableFiles
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.engine.pieces import PIECE_BYTES, read_batches
from lakegate_ingest.errors import FileOutsideTable
from lakegate_ingest.settings import RowsSettings
from lakegate_ingest.tables.formats import Encoder, RowFormat
from lakegate_ingest.tables.scan import RowQuery, Scan

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
    ]
    assert len(await flights.rows("travel.flights", limit=2)) == 2
    assert await flights.rows("travel.flights", limit=0) == []
    assert [row["flight"] for row in await flights.rows("travel.flights", filter="day >= '2013-01-02'")] == [1714, 725]


async def test_a_column_with_a_comma_or_a_quote_can_be_asked_for(api: Any) -> None:
    assert (await api.load("travel.odd", b'"a,b","c ""d""",e\n1,2,3\n')).status_code == 201
    for columns, names in (('"a,b",e', ["a,b", "e"]), ('e, "c ""d"""', ["e", 'c "d"']), ("e", ["e"])):
        [row] = await api.rows("travel.odd", columns=columns)
        assert set(row) == set(names)
    refused = await api.client.get("/v1/tables/travel/odd/rows", params={"columns": '"a,b'})
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/bad-load-parameter"), refused.text


async def test_a_snapshot_is_read_as_it_was(flights: Any) -> None:
    assert (await flights.load("travel.flights", b"carrier,flight,gate\nDL,1,7\n")).status_code == 201
    then = await flights.rows("travel.flights", snapshot=flights.receipt["snapshot_id"])
    assert len(then) == 3
    assert "gate" not in then[0]
    now = await flights.rows("travel.flights")
    assert [row["gate"] for row in now if row["carrier"] == "DL"] == [7]
    assert len(now) == 4


async def test_a_snapshot_whose_schema_somebody_removed_is_not_found_and_keeps_no_place(
    flights: Any, catalog: Any, identity: Any
) -> None:
    assert (await flights.load("travel.flights", b"carrier,gate\nDL,7\n")).status_code == 201
    principal = Principal(tenant=flights.tenant, subject="ana", scopes=("datasets:write", "datasets:read"))
    token = identity.signer.mint(principal, "catalog", lifetime_seconds=600)
    tables = f"{catalog.url}/iceberg/v1/{flights.tenant}/namespaces/travel"
    async with httpx.AsyncClient(trust_env=False, headers={"authorization": f"Bearer {token}"}, timeout=30) as client:
        loaded = (await client.get(f"{tables}/tables/flights")).json()
        # the catalog refuses such a commit; a file that another one wrote may say so
        metadata = loaded["metadata"] | {
            "schemas": [each for each in loaded["metadata"]["schemas"] if each["schema-id"]]
        }
        written = Path(urlsplit(loaded["metadata-location"]).path).with_name("elsewhere.metadata.json")
        written.write_text(json.dumps(metadata))
        assert (await client.delete(f"{tables}/tables/flights")).status_code == 204
        body = {"name": "flights", "metadata-location": written.as_uri()}
        assert (await client.post(f"{tables}/register", json=body)).status_code == 200
    for _ in range(RowsSettings().max_streams + 1):
        answer = await get(flights, snapshot=flights.receipt["snapshot_id"])
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/snapshot-not-found"), answer.text
    assert "schema 0" in answer.json()["detail"]
    assert len(await flights.rows("travel.flights")) == 4


async def test_no_tenant_takes_the_downloads_of_all_nor_waits_without_end(
    settings: Any, catalog: Any, tmp_path: Path, make: Any, tenant: str
) -> None:
    rows = RowsSettings(max_streams=2, max_streams_per_tenant=1, batch_rows=100)
    async with serving(create_app(settings(catalog.url, tmp_path / "spool", rows=rows))) as url:
        api, other = make(url, tenant), make(url, f"{tenant}o")
        body = b"a,b\n" + (b"1," + b"x" * 500 + b"\n") * 100_000
        for one in (api, other):
            assert (await one.load("travel.flights", body)).status_code == 201
        rejects = (await api.load("travel.flights", b"a,b\nbad,x\n")).json()["quarantine"]["href"]
        async with api.client.stream("GET", "/v1/tables/travel/flights/rows") as first:
            chunks = first.aiter_bytes()  # let go, it would close the download
            assert await anext(chunks)
            second = await get(api, limit=1)
            assert (second.status_code, second.json()["type"]) == (503, "/problems/too-many-streams")
            assert "Your tenant has 1" in second.json()["detail"]
            third = await api.client.get(rejects, headers={"accept": "application/x-ndjson"})
            assert (third.status_code, third.json()["type"]) == (503, "/problems/too-many-streams")
            assert (await get(other, limit=1)).status_code == 200
    late = RowsSettings(max_streams=1, begin_seconds=1e-9)
    async with serving(create_app(settings(catalog.url, tmp_path / "late", rows=late))) as url:
        for _ in range(2):
            answer = await get(make(url, tenant))
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/rows-late"), answer.text


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
        ({"filter": "dep_delay >"}, 422, "bad-row-filter", "from character 1 on: dep_delay >. Write it like"),
        ({"filter": "flight = 1 or"}, 422, "bad-row-filter", "breaks off at its end. Write it like"),
        ({"filter": "delay > 5"}, 422, "bad-row-filter", "delay"),
        ({"filter": "flight = 'UA'"}, 422, "bad-row-filter", "UA"),
        ({"columns": "carrier,nope"}, 422, "unknown-column", "nope"),
        ({"snapshot": "42"}, 404, "snapshot-not-found", "42"),
        ({"format": "xml"}, 422, "bad-load-parameter", "xml"),
        ({"limit": "-1"}, 422, "invalid-request", "limit"),
        ({"limit": str(10**25)}, 422, "invalid-request", "limit"),
        ({"filter": "flight = 1544.5"}, 422, "bad-row-filter", "whole numbers"),
        ({"filter": "flight > 1.5 and carrier = 'UA'"}, 422, "bad-row-filter", "1.5"),
        ({"filter": "flight not in (2.5, 'x') or carrier = 'AA'"}, 422, "bad-row-filter", "can't be read"),
        ({"filter": "flight in ('UA', '1.5')"}, 422, "bad-row-filter", "UA"),
        ({"filter": "flight = '1544.5'"}, 422, "bad-row-filter", "1544.5"),
        ({"filter": "flight = 'inf'"}, 422, "bad-row-filter", "inf"),
        ({"filter": "flight = 1 and true"}, 422, "bad-row-filter", "no values alone"),
        ({"filter": "not true"}, 422, "bad-row-filter", "no values alone"),
    ],
)
async def test_what_can_not_be_read_is_named(
    flights: Any, params: dict[str, str], status: int, slug: str, hint: str
) -> None:
    answer = await get(flights, **params)
    assert answer.status_code == status, answer.text
    assert answer.json()["type"] == f"/problems/{slug}"
    assert hint in answer.json()["detail"]


async def test_a_whole_number_may_be_written_with_a_point(flights: Any) -> None:
    assert [row["carrier"] for row in await flights.rows("travel.flights", filter="flight = 1545.0")] == ["UA"]
    assert [row["carrier"] for row in await flights.rows("travel.flights", filter="dep_delay = 2.5")] == ["UA"]


async def test_a_time_may_be_written_as_rows_show_it(api: Any) -> None:
    table = pa.table(
        {
            "n": [1, 2],
            "at": pa.array([datetime(2013, 1, 1, 5, tzinfo=UTC), datetime(2013, 1, 1, 6, 0, 0, 250000, tzinfo=UTC)]),
            "local": pa.array([datetime(2013, 1, 1, 5), datetime(2013, 1, 1, 6)]),
        }
    )
    file = BytesIO()
    pq.write_table(table, file)
    answer = await api.load("travel.flights", file.getvalue(), format="parquet")
    assert answer.status_code == 201, answer.text
    rows = await api.rows("travel.flights")
    csv = [line.split(",") for line in (await get(api, format="csv")).text.splitlines()[1:]]
    for column, shown in (("at", (rows[1]["at"], csv[1][1])), ("local", (rows[1]["local"], csv[1][2]))):
        for time in (*shown, rows[1]["at"].replace("Z", "+00:00") if column == "at" else shown[0]):
            for compared, found in (("=", [2]), ("<", [1]), ("in", [2])):
                value = f"('{time}')" if compared == "in" else f"'{time}'"
                assert [
                    row["n"] for row in await api.rows("travel.flights", filter=f"{column} {compared} {value}")
                ] == found, (column, compared, time)
    for wrong in ("local > '2013-01-01T05:00:00Z'", "at > 'yesterday Z'", "at > '2013-01-01T05:00:00'"):
        refused = await get(api, filter=wrong)
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/bad-row-filter"), wrong


ORDER = UUID("9c12d441-03fe-4693-9a96-a0705ddf69c1")
OTHER = UUID("1c12d441-03fe-4693-9a96-a0705ddf69c1")


@pytest.fixture
async def orders(api: Any) -> Any:
    table = pa.table(
        {
            "id": pa.array([ORDER.bytes, OTHER.bytes, None], pa.uuid()),
            "price": pa.array([Decimal("1.50"), Decimal("2.00"), Decimal("-3.25")], pa.decimal128(10, 2)),
            "n": [1, 2, 3],
        }
    )
    file = BytesIO()
    pq.write_table(table, file)
    answer = await api.load("shop.orders", file.getvalue(), format="parquet")
    assert answer.status_code == 201, answer.text
    return api


@pytest.mark.parametrize(
    ("filter_", "found"),
    [
        (f"id = '{ORDER}'", [1]),
        (f"id != '{ORDER}' and n > 0", [2]),
        (f"id > '{OTHER}'", [1]),
        (f"id in ('{ORDER}', '{OTHER}')", [1, 2]),
        (f"id is null or id = '{OTHER}'", [2, 3]),
        ("price > 1.5", [2]),
        ("price >= 1.500", [1, 2]),
        ("price = '1.5'", [1]),
        ("price = 2", [2]),
        ("price in (1.5, 2.0)", [1, 2]),
        ("price < 0", [3]),
    ],
)
async def test_uuids_and_decimals_are_compared(orders: Any, filter_: str, found: list[int]) -> None:
    assert [row["n"] for row in await orders.rows("shop.orders", columns="n", filter=filter_)] == found


@pytest.mark.parametrize(
    ("filter_", "hint"),
    [
        ("price = 1.505", "2 decimal places"),
        ("price > 123456789.5", "10 digits"),
        ("price > 99999999999", "10 digits"),
        ("id = 'nothing'", "filter"),
    ],
)
async def test_what_a_decimal_or_a_uuid_can_not_be_is_named(orders: Any, filter_: str, hint: str) -> None:
    answer = await orders.client.get("/v1/tables/shop/orders/rows", params={"filter": filter_})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/bad-row-filter"), answer.text
    assert hint in answer.json()["detail"]


def test_a_uuid_is_text_in_every_text_format() -> None:
    value = UUID("9c12d441-03fe-4693-9a96-a0705ddf69c1")
    column = pa.array([value.bytes, None], pa.uuid())
    batch = pa.record_batch([column], names=["id"])
    csv, ndjson = (Encoder(kind, batch.schema).batch(batch) for kind in (RowFormat.CSV, RowFormat.NDJSON))
    assert csv.decode().splitlines() == [f'"{value}"', ""]
    assert ndjson.decode().splitlines() == [f'{{"id":"{value}"}}', '{"id":null}']


def test_no_number_is_lost_where_a_format_has_none_for_it() -> None:
    small = Decimal("-0.0000000001")
    batch = pa.record_batch(
        {
            "d": pa.array([small, None], pa.decimal128(38, 10)),
            "e": pa.array([Decimal("0.50"), None], pa.decimal128(9, 2)),
            "f": pa.array([float("nan"), 1.5]),
            "g": pa.array([float("-inf"), None], pa.float32()),
            "s": pa.array([[float("inf"), 1.0], None], pa.list_(pa.float64())),
        }
    )
    csv, ndjson = (Encoder(kind, batch.schema).batch(batch) for kind in (RowFormat.CSV, RowFormat.NDJSON))
    assert [json.loads(line) for line in ndjson.splitlines()] == [
        {"d": f"{small:f}", "e": "0.50", "f": "NaN", "g": "-Infinity", "s": ["Infinity", 1.0]},
        {"d": None, "e": None, "f": 1.5, "g": None, "s": None},
    ]
    assert csv.decode().splitlines() == ['"-0.0000000001",0.50,nan,-inf,"[""Infinity"",1.0]"', ",,1.5,,"]


@pytest.mark.parametrize("nested", ["no", "list", "struct", "map"])
def test_text_that_is_none_is_told_as_far_as_it_can_be(nested: str) -> None:
    raw = pa.array([b"a\xffb", b"ok"], pa.binary())
    texts: Any = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    offsets = pa.array([0, 1, 2], pa.int32())
    made: dict[str, Any] = {
        "no": lambda: (texts, "a\ufffdb", "ok"),
        "list": lambda: (pa.ListArray.from_arrays(offsets, texts), ["a\ufffdb"], ["ok"]),
        "struct": lambda: (pa.StructArray.from_arrays([texts], ["t"]), {"t": "a\ufffdb"}, {"t": "ok"}),
        "map": lambda: (pa.MapArray.from_arrays(offsets, ["k", "k"], texts), [["k", "a\ufffdb"]], [["k", "ok"]]),
    }
    column, *values = made[nested]()
    batch = pa.record_batch([column], names=["s"])
    ndjson, csv = (Encoder(kind, batch.schema).batch(batch) for kind in (RowFormat.NDJSON, RowFormat.CSV))
    assert [json.loads(line)["s"] for line in ndjson.splitlines()] == values
    assert "a\ufffdb" in csv.decode()


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


@pytest.mark.parametrize("column", ["text", "list", "map", "struct"])
def test_one_text_that_all_rows_name_is_not_in_memory_for_each(tmp_path: Path, column: str) -> None:
    text = "x" * 1_000_000
    values: Any = {"text": text, "list": [text, None], "map": [("k", text)], "struct": {"a": text}}[column]
    kinds = {"map": pa.map_(pa.string(), pa.string())}
    row = pa.table({"n": [1], "v": pa.array([values], kinds.get(column))})
    path = tmp_path / "large.parquet"
    pq.write_table(pa.concat_tables([row] * 200), path)
    assert path.stat().st_size < 100_000
    before, found = pa.total_allocated_bytes(), 0
    with path.open("rb") as source:
        file = pq.ParquetFile(source)
        for batch in read_batches(file, source, [0], ["v"], 8192):
            assert batch.to_pylist() == [{"v": values}] * batch.num_rows
            assert pa.total_allocated_bytes() - before < 5 * PIECE_BYTES
            found += batch.num_rows
    assert found == 200


async def test_a_download_holds_few_bytes_of_large_rows_at_once(
    api: Any, catalog: Any, warehouse: Path, identity: Any
) -> None:
    file = BytesIO()
    pq.write_table(pa.table({"s": ["x" * 1_000_000] * 60}), file)
    answer = await api.load("travel.flights", file.getvalue(), format="parquet")
    assert answer.status_code == 201, answer.text
    principal = Principal(tenant=api.tenant, subject="ana", scopes=("datasets:read",))
    token = identity.signer.mint(principal, "catalog", lifetime_seconds=600)

    def sizes(limit: int | None) -> list[tuple[int, int]]:
        table = RestCatalog("lake", uri=f"{catalog.url}/iceberg", token=token).load_table("travel.flights")
        store = Warehouse(f"file://{warehouse}", ObjectStoreSettings())
        files = TableFiles(store, api.tenant, table.metadata.location)
        scan = Scan(table.metadata, files, RowQuery(None, None, limit, None), batch_rows=8192)
        return [(batch.num_rows, batch.nbytes) for batch in scan.batches() if batch is not None]

    found = await asyncio.to_thread(sizes, None)
    assert sum(rows for rows, _ in found) == 60
    assert max(size for _, size in found) <= PIECE_BYTES
    assert [rows for rows, _ in await asyncio.to_thread(sizes, 3)] == [3]


def opened(warehouse: Path, tenant: str, *paths: str) -> list[bool]:
    """Which of these paths may be opened for the tenant's table `a/t`."""
    files = TableFiles(Warehouse(f"file://{warehouse}", ObjectStoreSettings()), tenant, f"{warehouse}/{tenant}/a/t")
    found = []
    for path in paths:
        try:
            files.check(path)
        except FileOutsideTable:
            found.append(False)
        else:
            found.append(True)
    return found


def test_only_files_of_the_table_are_opened(tmp_path: Path) -> None:
    inside = [
        f"file://{tmp_path}/acme/a/t/x.parquet",
        f"{tmp_path}/acme/a/t/x.parquet",
        f"file:{tmp_path}/acme/a/t/data/x.parquet",
    ]
    assert opened(tmp_path, "acme", *inside) == [True] * 3
    outside = [
        "file:///etc/passwd", "/etc/passwd", "etc/passwd", f"{tmp_path}/other/a/t/x", f"{tmp_path}/acme2/a/t/x",
        f"file://{tmp_path}/acme/a/t/../u/x", f"file://{tmp_path}/acme/a/t/%2e%2e/u/x", f"{tmp_path}/acme/a/t/./x",
        f"{tmp_path}/acme/a/t/%252e%252e/%2e%2e/x", f"{tmp_path}/acme/a/t//x", f"{tmp_path}/acme/a/u/x",
        f"{tmp_path}/acme/b/t/x", f"{tmp_path}/acme/a/t2/x", f"file://localhost{tmp_path}/acme/a/t/x",
        f"{tmp_path}/acme/a/t", f"s3://{tmp_path}/acme/a/t/x", "http://127.0.0.1/x", f"{tmp_path}/acme/a/t/x?y",
        f"//host{tmp_path}/acme/a/t/x", "",
    ]  # fmt: skip
    assert opened(tmp_path, "acme", *outside) == [False] * len(outside)


def test_a_location_may_end_with_a_slash(tmp_path: Path) -> None:
    files = TableFiles(Warehouse(f"file://{tmp_path}", ObjectStoreSettings()), "acme", f"file://{tmp_path}/acme/a/t/")
    files.check(f"file://{tmp_path}/acme/a/t/data/x.parquet")
    with pytest.raises(FileOutsideTable):
        files.check(f"file://{tmp_path}/acme/a/t2/x.parquet")


@pytest.mark.parametrize("place", ["other/a/t", "acme", "acme/_quarantine/t", "acme/%5Fquarantine/t", "acme/../b/t"])
def test_a_table_elsewhere_has_no_files(tmp_path: Path, place: str) -> None:
    with pytest.raises(FileOutsideTable):
        TableFiles(Warehouse(f"file://{tmp_path}", ObjectStoreSettings()), "acme", f"file://{tmp_path}/{place}")


@pytest.mark.parametrize("where", ["the host", "another tenant", "another table"])
async def test_rows_of_a_file_elsewhere_that_a_client_added_are_not_given(
    flights: Any, catalog: Any, warehouse: Path, tmp_path: Path, identity: Any, where: str
) -> None:
    folders = {
        "the host": tmp_path,
        "another tenant": warehouse / "another" / "t",
        "another table": warehouse / flights.tenant / "private" / "t",
    }
    secret = folders[where] / "secret.parquet"
    secret.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"carrier": ["secret"], "flight": [1], "dep_delay": [1.5], "day": [date(2020, 1, 1)]})
    pq.write_table(table, secret)
    principal = Principal(tenant=flights.tenant, subject="ana", scopes=("datasets:write", "datasets:read"))
    token = identity.signer.mint(principal, "catalog", lifetime_seconds=600)

    def add() -> None:
        iceberg = RestCatalog("lake", uri=f"{catalog.url}/iceberg", token=token)
        iceberg.load_table("travel.flights").add_files([f"file://{secret}"])

    await asyncio.to_thread(add)
    answer = await get(flights)
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "/problems/file-outside-table"
    assert "secret" not in answer.text.replace("secret.parquet", "")


def test_a_class_that_table_properties_name_is_never_loaded(warehouse: Path) -> None:
    metadata = new_table_metadata(
        Schema(NestedField(1, "a", LongType())), UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER,
        f"file://{warehouse}/acme/t", {"py-io-impl": "antigravity.Io", "s3.endpoint": "http://127.0.0.1:9"},
    )  # fmt: skip
    files = TableFiles(Warehouse(f"file://{warehouse}", ObjectStoreSettings()), "acme", metadata.location)
    assert list(Scan(metadata, files, RowQuery(None, None, None, None), batch_rows=10).batches()) == []
    assert files.properties == {}
    assert "antigravity" not in sys.modules
