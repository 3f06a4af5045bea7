"""The suite on an s3:// warehouse: engines read and write through the gateway, with keys for one table."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import duckdb
import httpx
import obstore
import pyarrow as pa
import pytest
from engines import duck, made_key, pyiceberg
from obstore.exceptions import AlreadyExistsError, GenericError, PermissionDeniedError
from obstore.store import S3Store
from suites import Suite, start_suite

FLIGHTS = 20_000
READ = ("datasets:read@travel.*",)
WRITE = ("datasets:read@travel.*", "datasets:write@travel.*")
DELEGATION = {"X-Iceberg-Access-Delegation": "vended-credentials"}


@pytest.fixture(scope="module")
def lake(s3: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    folder = tmp_path_factory.mktemp("suite")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3.settings("CATALOG").items():
            environment.setenv(name, value)
        environment.setenv("CATALOG_WAREHOUSE__LOCATION", f"s3://{s3.bucket}/e2e/{folder.name}-{id(folder):x}")
        suite = start_suite(folder)
    rows = "".join(f"{number},{'UA' if number % 3 else 'B6'},{number % 90}\n" for number in range(FLIGHTS))
    with suite.client() as admin:
        for table in ("travel/flights", "travel/weather", "payroll/salaries"):
            body = f"flight,carrier,dep_delay\n{rows if table == 'travel/flights' else rows[:100]}"
            answer = admin.post(f"/v1/loads/{table}", content=body, params={"name": "a.csv"})
            assert answer.status_code == 201, answer.text
    yield suite
    suite.stop()


@pytest.fixture(scope="module")
def reader(lake: Suite) -> str:
    return str(made_key(lake, *READ)["key"])


@pytest.fixture(scope="module")
def writer(lake: Suite) -> str:
    return str(made_key(lake, *WRITE)["key"])


def access(suite: Suite, key: str, table: str = "flights") -> tuple[dict[str, str], str]:
    """What a client is given with a table to reach its files, and where they are."""
    with suite.client(key) as client:
        answer = client.get(f"/iceberg/v1/default/namespaces/travel/tables/{table}", headers=DELEGATION)
    assert answer.status_code == 200, answer.text
    [credential] = answer.json()["storage-credentials"]
    config: dict[str, str] = credential["config"]
    return config, credential["prefix"]


def store(config: dict[str, str], bucket: str, **changed: str) -> S3Store:
    """An S3 client that knows nothing of us."""
    config = config | changed
    return S3Store(
        bucket,
        endpoint=config["s3.endpoint"],
        region=config["s3.region"],
        access_key_id=config["s3.access-key-id"],
        secret_access_key=config["s3.secret-access-key"],
        session_token=config["s3.session-token"],
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


def place(url: str) -> tuple[str, str]:
    """Bucket and key."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


def test_pyiceberg_reads_with_a_reader_s_key(lake: Suite, reader: str) -> None:
    table = pyiceberg(lake, reader).load_table("travel.flights")
    found = table.scan(row_filter="carrier = 'B6'", selected_fields=("flight",)).to_arrow()
    assert found.num_rows == len(range(0, FLIGHTS, 3))


def test_duckdb_reads_with_a_reader_s_key(lake: Suite, reader: str) -> None:
    with duck(lake, reader) as connection:
        query = "SELECT count(*), sum(flight) FROM lake.travel.flights WHERE dep_delay < 90"
        assert connection.execute(query).fetchall() == [(FLIGHTS, sum(range(FLIGHTS)))]


def test_both_engines_write_with_a_writer_s_key_and_read_each_other(lake: Suite, writer: str) -> None:
    with duck(lake, writer) as connection:
        connection.execute("CREATE TABLE lake.travel.made AS SELECT range AS id, 'duck' AS maker FROM range(1000)")
        table = pyiceberg(lake, writer).load_table("travel.made")
        table.append(pa.table({"id": pa.array([-1], pa.int64()), "maker": ["pyiceberg"]}))
        found = connection.execute("SELECT maker, count(*) FROM lake.travel.made GROUP BY 1 ORDER BY 1").fetchall()
    assert found == [("duck", 1000), ("pyiceberg", 1)]
    assert table.refresh().scan().to_arrow().num_rows == 1001


def test_a_file_of_several_parts_arrives_whole(lake: Suite, writer: str) -> None:
    """PyIceberg uploads in parts of some megabytes, which the catalog puts together."""
    catalog = pyiceberg(lake, writer)
    values = pa.table({"value": pa.array(range(3_000_000), pa.int64())})
    properties = {"write.parquet.compression-codec": "uncompressed", "write.parquet.dict-size-bytes": "1"}
    table = catalog.create_table("travel.large", schema=values.schema, properties=properties)
    table.append(values)
    [file] = table.inspect.files().to_pylist()
    assert file["file_size_in_bytes"] > 20_000_000
    with duck(lake, writer) as connection:
        total = sum(range(3_000_000))
        assert connection.execute("SELECT sum(value) FROM lake.travel.large").fetchall() == [(total,)]


def test_pyiceberg_deletes_a_file_of_the_table_and_of_no_other(lake: Suite, writer: str) -> None:
    catalog = pyiceberg(lake, writer)
    table, other = catalog.load_table("travel.flights"), f"{access(lake, writer, 'weather')[1]}/data/x.txt"
    mine = f"{table.location()}/data/junk/a.txt"
    with table.io.new_output(mine).create() as file:
        file.write(b"a")
    table.io.delete(mine)
    assert not table.io.new_input(mine).exists()
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        table.io.delete(other)


def test_a_reader_cannot_write(lake: Suite, reader: str) -> None:
    table = pyiceberg(lake, reader).load_table("travel.flights")
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        table.append(table.scan(limit=1).to_arrow())
    with duck(lake, reader) as connection, pytest.raises(duckdb.Error, match="These keys only read"):
        connection.execute("INSERT INTO lake.travel.flights SELECT * FROM lake.travel.flights LIMIT 1")


def test_a_key_for_another_namespace_gets_neither_table_nor_keys(lake: Suite) -> None:
    payroll = made_key(lake, "datasets:read@payroll")["key"]
    with lake.client(payroll) as client:
        for path in ("", "/credentials"):
            answer = client.get(f"/iceberg/v1/default/namespaces/travel/tables/flights{path}", headers=DELEGATION)
            assert answer.status_code == 403, answer.text
    with duck(lake, payroll) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM lake.payroll.salaries").fetchall() == [(True,)]
        with pytest.raises(duckdb.Error, match="datasets:read"):
            connection.execute("SELECT * FROM lake.travel.flights")


def test_a_producer_that_may_not_read_gets_no_keys(lake: Suite) -> None:
    producer = made_key(lake, "loads:write@travel.*")["key"]
    with lake.client(producer) as client:
        answer = client.get("/iceberg/v1/default/namespaces/travel/tables/flights", headers=DELEGATION)
    assert answer.status_code == 403


def test_keys_of_one_table_open_nothing_of_another(lake: Suite, writer: str) -> None:
    config, own = access(lake, writer)
    _, other = access(lake, writer, "weather")
    bucket, own_key = place(own)
    other_key = place(other)[1]
    client = store(config, bucket)
    inside = [item["path"] for page in obstore.list(client, own_key) for item in page]
    assert inside
    assert obstore.head(client, inside[0])["size"] > 0
    elsewhere = [f"{other_key}/data/x.parquet", f"{own_key}-more/x", own_key.rpartition("/")[0] + "/x", "x"]
    for key in elsewhere:
        with pytest.raises(PermissionDeniedError):
            obstore.get(client, key)
        with pytest.raises(PermissionDeniedError):
            obstore.put(client, key, b"x", use_multipart=False)
        with pytest.raises(GenericError, match="AccessDenied"):
            obstore.list(client, key.rpartition("/")[0]).collect()
    with pytest.raises(PermissionDeniedError):
        obstore.get(store(config, "another-bucket"), inside[0])


def test_what_the_keys_say_cannot_be_changed(lake: Suite, reader: str, writer: str) -> None:
    config, location = access(lake, reader)
    writers, _ = access(lake, writer)
    bucket, key = place(location)
    file = next(item["path"] for page in obstore.list(store(config, bucket), key) for item in page)
    for changed in (
        {"s3.secret-access-key": "0" * 64},
        {"s3.access-key-id": writers["s3.access-key-id"]},
        {"s3.session-token": writers["s3.session-token"]},
        {"s3.session-token": "nonsense"},
        {"s3.access-key-id": "LGx"},
    ):
        with pytest.raises(PermissionDeniedError):
            obstore.get(store(config, bucket, **changed), file)


def test_table_metadata_is_written_by_the_catalog_alone(lake: Suite, writer: str) -> None:
    config, location = access(lake, writer)
    bucket, key = place(location)
    client = store(config, bucket)
    with pytest.raises(PermissionDeniedError, match="by the catalog alone"):
        obstore.put(client, f"{key}/metadata/00009-x.metadata.json", b"{}", use_multipart=False)
    obstore.put(client, f"{key}/data/mine.parquet", b"mine", mode="create", use_multipart=False)
    with pytest.raises(AlreadyExistsError):
        obstore.put(client, f"{key}/data/mine.parquet", b"other", mode="create", use_multipart=False)
    assert bytes(obstore.get(client, f"{key}/data/mine.parquet").bytes()) == b"mine"
    assert bytes(obstore.get_range(client, f"{key}/data/mine.parquet", start=1, end=3)) == b"in"


def test_keys_end_with_the_api_key_that_they_were_handed_out_to(lake: Suite) -> None:
    made = made_key(lake, *READ)
    config, location = access(lake, made["key"])
    bucket, key = place(location)
    client = store(config, bucket)
    file = next(item["path"] for page in obstore.list(client, key) for item in page)
    obstore.head(client, file)
    with lake.client() as admin:
        assert admin.delete(f"/v1/keys/{made['id']}").status_code == 204
    with pytest.raises(PermissionDeniedError):
        obstore.get(client, file)


def test_unsigned_and_bearer_requests_get_nothing_of_the_store(lake: Suite, reader: str) -> None:
    _, location = access(lake, reader)
    bucket, key = place(location)
    with httpx.Client(base_url=lake.url, timeout=30) as anybody:
        for path in (f"/{bucket}/{key}", f"/files/{bucket}/{key}"):
            for headers in ({}, {"authorization": f"Bearer {reader}"}):
                assert anybody.get(path, headers=headers).status_code == 404


def test_no_administrator_s_key_reaches_a_client(lake: Suite, s3: Any, reader: str) -> None:
    with lake.client(reader) as client:
        said = client.get("/iceberg/v1/config").text
        said += client.get("/iceberg/v1/default/namespaces/travel/tables/flights", headers=DELEGATION).text
        said += client.get("/iceberg/v1/default/namespaces/travel/tables/flights/credentials").text
    assert s3.secret_key not in said
    assert s3.access_key not in said


def test_the_command_line_asks_in_sql(lake: Suite) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lakegate", "sql", "SELECT count(*) AS n FROM travel.flights", "--json"],
        env=lake.environment | {"LAKEGATE_URL": lake.url, "LAKEGATE_KEY": lake.key},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == [{"n": FLIGHTS}]


def test_a_file_goes_straight_to_the_store_and_is_loaded_from_there(lake: Suite) -> None:
    producer = made_key(lake, "loads:write@travel.*")["key"]
    with lake.client(producer) as client, httpx.Client(timeout=30) as anybody:
        upload = client.post("/v1/uploads/presign", json={"file_name": "direct.csv"}).json()
        assert anybody.put(upload["url"], content=b"id\n1\n2\n").status_code == 200
        loaded = client.post("/v1/loads/travel/direct", params={"source": upload["upload_id"]})
    assert loaded.status_code == 201, loaded.text
    assert loaded.json()["rows_written"] == 2
