"""What can't be loaded gets a problem that says what to do, and leaves nothing behind."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import socket
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from suites import Push, Suite, until

CONTINUE = "HTTP/1.1 100 Continue\r\n\r\n"


def parquet(rows: int) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": list(range(rows)), "b": ["x"] * rows}), buffer)
    return buffer.getvalue()


def bomb(megabytes: int) -> bytes:
    """A CSV of ones that gzip makes a thousand times smaller."""
    packer = zlib.compressobj(6, wbits=31)
    block = b"1\n" * 500_000
    return packer.compress(b"a\n") + b"".join(packer.compress(block) for _ in range(megabytes)) + packer.flush()


GOOD = b"a,b\n" + b"".join(b"%d,x\n" % number for number in range(2000))


@dataclass(frozen=True)
class Refusal:
    """A body, how it is sent, the status it gets, and a word that its problem must contain."""

    name: str
    body: bytes
    status: int
    says: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    # For a body that is too costly to make while tests are collected.
    make: Callable[[], bytes] | None = None


REFUSED = [
    Refusal("an empty body", b"", 422, "empty"),
    Refusal(
        "a binary file called CSV",
        b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 40,
        422,
        "not text",
        {"name": "data.csv"},
    ),
    Refusal("a PNG called CSV", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40, 422, "", {"name": "data.csv"}),
    Refusal("duplicate column names", b"a,b,a\n1,2,3\n", 422, "a"),
    Refusal("a truncated gzip", gzip.compress(GOOD)[:-40], 422, "cut", headers={"Content-Encoding": "gzip"}),
    Refusal("no gzip at all", GOOD, 422, "gzip", headers={"Content-Encoding": "gzip"}),
    Refusal("a zip bomb", b"", 413, "zip bomb", headers={"Content-Encoding": "gzip"}, make=lambda: bomb(140)),
    Refusal("a truncated Parquet", parquet(5000)[:-200], 422, "Parquet", {"format": "parquet"}),
    Refusal("no Parquet at all", GOOD, 422, "Parquet", {"format": "parquet"}),
    Refusal("an unknown encoding", GOOD, 415, "gzip", headers={"Content-Encoding": "br"}),
    Refusal("an unknown format", GOOD, 422, "format", {"format": "xlsx"}),
    Refusal("a mode that isn't there yet", GOOD, 422, "mode", {"mode": "upsert"}),
    Refusal("an unknown parameter", GOOD, 422, "delimeter", {"delimeter": ";"}),
]


@pytest.mark.parametrize("refusal", REFUSED, ids=lambda refusal: refusal.name)
def test_it_is_refused_with_a_problem_that_says_what_to_do(
    lake: httpx.Client, push: Push, table: str, refusal: Refusal
) -> None:
    body = refusal.make() if refusal.make else refusal.body
    answer = push(table, body, headers=refusal.headers, **refusal.query)

    assert answer.status_code == refusal.status, answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["type"].startswith("/problems/")
    assert problem["status"] == refusal.status
    assert re.fullmatch("[0-9a-f]{32}", problem["trace_id"])
    if not os.environ.get("E2E_URL"):
        # an ingress in front gives each request an id of its own
        assert problem["trace_id"] == answer.headers["X-Request-ID"]
    assert refusal.says.lower() in json.dumps(problem, ensure_ascii=False).lower()
    assert len(problem.get("detail", "")) > 20 or problem.get("errors")
    namespace, _, name = table.rpartition(".")
    assert lake.get(f"/v1/tables/{namespace}/{name}/rows").status_code == 404, "nothing may be left behind"


def test_every_problem_has_a_page(lake: httpx.Client, push: Push, table: str) -> None:
    problem = push(table, b"").json()

    page = lake.get(problem["type"])

    assert page.status_code == 200, page.text


def loaded(lake: httpx.Client, table: str) -> list[dict[str, Any]]:
    namespace, _, name = table.rpartition(".")
    answer = lake.get(f"/v1/tables/{namespace}/{name}/rows", params={"format": "ndjson"})
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_only_a_header_loads_no_row_and_says_so(push: Push, table: str) -> None:
    answer = push(table, b"a,b\n")

    if answer.is_success:
        assert answer.json()["rows_in"] == 0
    else:
        assert answer.status_code == 422
        assert "header" in answer.text.lower() or "row" in answer.text.lower()


def test_another_delimiter_is_found_by_looking(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, b"a;b\n1;x\n2;y\n", name="data.csv")

    assert loaded(lake, table) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_the_wrong_delimiter_given_on_purpose_loads_nothing_into_an_existing_table(push: Push, table: str) -> None:
    push(table, b"a,b\n1,x\n")

    answer = push(table, b"a,b\n2,y\n", delimiter=";", on_new_column="reject")

    assert answer.status_code == 422, answer.text
    assert "a,b" in answer.text or "delimiter" in answer.text


def test_a_byte_order_mark_is_no_part_of_the_first_column(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, b"\xef\xbb\xbfa,b\n1,x\n")

    assert loaded(lake, table) == [{"a": 1, "b": "x"}]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_read_by_its_mark_or_refused_by_name(
    lake: httpx.Client, push: Push, table: str, encoding: str
) -> None:
    mark = {"utf-16": b"", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}[encoding]
    answer = push(table, mark + "a,b\n1,Zürich\n".encode(encoding))

    if answer.is_success:
        assert loaded(lake, table) == [{"a": 1, "b": "Zürich"}]
    else:
        assert answer.status_code == 422
        assert "utf" in answer.text.lower()


def test_latin_1_is_never_taken_for_utf_8(lake: httpx.Client, push: Push, table: str) -> None:
    answer = push(table, "a,b\n1,Zürich\n2,Bern\n".encode("latin-1"))

    if answer.is_success:
        assert answer.json()["quarantine"]["rows"] == 1
        assert loaded(lake, table) == [{"a": 2, "b": "Bern"}]
    else:
        assert answer.status_code == 422
        assert "utf-8" in answer.text.lower()


def test_nan_and_infinity_are_numbers_of_a_double_column(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, b"a,x\n1,1.5\n")

    receipt = push(table, b"a,x\n2,NaN\n3,Infinity\n4,2.5\n").json()

    assert (receipt["rows_in"], receipt["rows_written"], receipt["quarantine"]["rows"]) == (3, 3, 0)
    namespace, _, name = table.rpartition(".")
    lines = lake.get(f"/v1/tables/{namespace}/{name}/rows", params={"format": "csv"}).text.splitlines()[1:]
    assert sorted(lines) == ["1,1.5", "2,nan", "3,inf", "4,2.5"]


def test_an_empty_column_name_is_refused(push: Push, table: str) -> None:
    answer = push(table, b"a,,c\n1,2,3\n")

    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "/problems/empty-column-name"


def test_a_long_line_does_not_take_the_rest_with_it(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, b"a,b\n1,x\n")
    answer = push(table, b"a,b\n2," + b"y" * 1_000_000 + b"\n3,z\n")

    assert answer.is_success, answer.text
    receipt = answer.json()
    assert receipt["rows_in"] == receipt["rows_written"] + receipt["quarantine"]["rows"] == 2


def test_several_files_in_one_request_are_one_load(lake: httpx.Client, table: str) -> None:
    namespace, _, name = table.rpartition(".")
    files = [("file", ("one.csv", b"a\n1\n", "text/csv")), ("file", ("two.csv", b"a\n2\n", "text/csv"))]

    answer = lake.post(f"/v1/loads/{namespace}/{name}", files=files)

    assert answer.status_code == 201, answer.text
    assert [file["name"] for file in answer.json()["files"]] == ["one.csv", "two.csv"]
    assert sorted(row["a"] for row in loaded(lake, table)) == [1, 2]


@pytest.mark.parametrize(
    ("format", "body"),
    [
        ("csv", b"a,b\n1,x\n"),
        ("tsv", b"a\tb\n1\tx\n"),
        ("ndjson", b'{"a": 1, "b": "x"}\n'),
        ("json", b'[{"a": 1, "b": "x"}]'),
        ("parquet", parquet(1)),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_every_format_loads(lake: httpx.Client, push: Push, table: str, format: str, body: bytes, packed: bool) -> None:
    headers = {"Content-Encoding": "gzip"} if packed else {}

    answer = push(table, gzip.compress(body) if packed else body, headers=headers, format=format)

    assert answer.status_code == 201, answer.text
    assert [row["b"] for row in loaded(lake, table)] == ["x"]


def test_a_declared_length_over_the_limit_is_refused_before_a_byte_is_read(suite: Suite, table: str) -> None:
    """413 by Content-Length alone: the body is never sent here."""
    place = urlsplit(suite.url)
    namespace, _, name = table.rpartition(".")
    head = (
        f"POST /v1/loads/{namespace}/{name} HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {suite.key}\r\n"
        f"Content-Type: text/csv\r\nContent-Length: {10**15}\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection((place.hostname or "", place.port or 80), timeout=30) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(65536).decode()
        # a proxy in between may say so by itself, before it has asked the gateway
        if answer.endswith(CONTINUE):
            answer = connection.recv(65536).decode()

    assert answer.removeprefix(CONTINUE).startswith("HTTP/1.1 413"), answer


def test_a_client_that_hangs_up_half_way_leaves_nothing(lake: httpx.Client, suite: Suite, table: str) -> None:
    place = urlsplit(suite.url)
    namespace, _, name = table.rpartition(".")
    head = (
        f"POST /v1/loads/{namespace}/{name} HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {suite.key}\r\n"
        f"Content-Type: text/csv\r\nContent-Length: 1000000\r\n\r\na,b\n1,x\n"
    )

    def states() -> list[str]:
        return [item["state"] for item in lake.get("/v1/loads", params={"table": table}).json()["items"]]

    with socket.create_connection((place.hostname or "", place.port or 80), timeout=30) as connection:
        connection.sendall(head.encode())
        until(lambda: states() == ["receiving"])  # a client gone before that has begun no load

    until(lambda: states() == ["failed"])
    assert lake.get(f"/v1/tables/{namespace}/{name}/rows").status_code == 404


@pytest.mark.parametrize("name", ["no-namespace", "a..b", "a.b/c"])
def test_a_table_that_can_not_be_named_is_refused(lake: httpx.Client, name: str) -> None:
    namespace, _, table = name.rpartition(".")

    answer = lake.post(f"/v1/loads/{namespace or '%20'}/{table.replace('/', '%2F')}", content=GOOD)

    assert answer.status_code in (404, 422), answer.text
