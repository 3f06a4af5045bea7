"""An s3:// warehouse whose files are in GCS or Azure: engines read and write them through the gateway, as S3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import obstore
import pyarrow as pa
import pytest
from engines import duck, made_key, pyiceberg
from obstore.store import from_url
from suites import Suite, start_suite, until

FLIGHTS = 20_000
WRITE = ("datasets:read@travel.*", "datasets:write@travel.*")


@pytest.fixture(scope="module")
def place(foreign_store: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str]:
    """A client of the store alone, and the URL of the warehouse in it."""
    location = foreign_store.location(f"e2e/{tmp_path_factory.mktemp('place').name}")
    options = dict(foreign_store.objects()["options"])
    client = {"allow_http": options.pop("allow_http", "") == "true"}
    return from_url(location, client_options=client, **options), location


@pytest.fixture(scope="module")
def lake(foreign_store: Any, place: tuple[Any, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in foreign_store.settings("CATALOG").items():
            environment.setenv(name, value)
        environment.setenv("CATALOG_OBJECTS__URL", place[1])
        environment.setenv("CATALOG_WAREHOUSE__LOCATION", "s3://lake/warehouse")
        suite = start_suite(tmp_path_factory.mktemp("suite"))
    rows = "".join(f"{number},{'UA' if number % 3 else 'B6'}\n" for number in range(FLIGHTS))
    with suite.client() as admin:
        answer = admin.post("/v1/loads/travel/flights", content=f"flight,carrier\n{rows}", params={"name": "a.csv"})
        assert answer.status_code == 201, answer.text
    yield suite
    suite.stop()


def keys(place: tuple[Any, str], folder: str) -> list[str]:
    return [item["path"] for page in obstore.list(place[0], folder) for item in page]


def test_both_engines_read_and_write_files_that_are_in_the_store(lake: Suite, place: tuple[Any, str]) -> None:
    key = made_key(lake, *WRITE)["key"]
    catalog = pyiceberg(lake, key)
    table = catalog.load_table("travel.flights")
    assert table.metadata.location.startswith("s3://lake/warehouse/")
    scan = table.scan(row_filter="carrier = 'B6'", selected_fields=("flight",))
    assert scan.to_arrow().num_rows == len(range(0, FLIGHTS, 3))
    # uncompressed, and so of several parts
    values = pa.table({"value": pa.array(range(2_000_000), pa.int64())})
    properties = {"write.parquet.compression-codec": "uncompressed", "write.parquet.dict-size-bytes": "1"}
    catalog.create_table("travel.large", schema=values.schema, properties=properties).append(values)
    with duck(lake, key) as connection:
        assert connection.execute("SELECT sum(value) FROM lake.travel.large").fetchall() == [(sum(range(2_000_000)),)]
        connection.execute("CREATE TABLE lake.travel.made AS SELECT range AS id FROM range(1000)")
    assert catalog.load_table("travel.made").scan().to_arrow().num_rows == 1000
    files = [name for name in keys(place, "default/travel") if name.endswith(".parquet")]
    assert len(files) == 3


def test_a_file_goes_straight_to_the_store_and_a_purged_table_leaves_nothing_there(
    lake: Suite, place: tuple[Any, str]
) -> None:
    with lake.client() as admin, httpx.Client(timeout=30) as anybody:
        upload = admin.post("/v1/uploads/presign", json={"file_name": "direct.csv"}).json()
        sent = anybody.request(upload["method"], upload["url"], headers=upload["headers"], content=b"id\n1\n2\n")
        assert sent.status_code in (200, 201), sent.text
        loaded = admin.post("/v1/loads/direct/sent", params={"source": upload["upload_id"]})
        assert loaded.status_code == 201, loaded.text
        rows = admin.get("/v1/tables/direct/sent/rows")
        assert [json.loads(line) for line in rows.text.splitlines()] == [{"id": 1}, {"id": 2}]
        assert keys(place, "default/direct")
        table = "/iceberg/v1/default/namespaces/direct/tables/sent"
        assert admin.delete(table, params={"purgeRequested": "true"}).status_code == 204
    until(lambda: keys(place, "default/direct") == [])
