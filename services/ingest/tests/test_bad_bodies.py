"""Bodies that can't be taken: each gets a problem that says what to do, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from lakegate_chassis.testing import eventually, serving
from lakegate_ingest.app import create_app
from lakegate_ingest.settings import BodySettings, EngineSettings, SpoolSettings

ROWS = b"a,b\n" + b"1,x\n" * 1000
KIB = 1024
MIB = KIB * KIB


@pytest.fixture
def window_seconds() -> float:
    """Of the minimum rate. No client of a test is too slow for it, however busy the machine."""
    return 15


@pytest.fixture
async def small(
    settings: Any, catalog: Any, tmp_path: Path, make: Any, tenant: str, window_seconds: float
) -> AsyncIterator[Any]:
    """An ingest with small limits; `small.spool` is its spool folder."""
    body = BodySettings(
        max_bytes=2 * MIB, max_decoded_bytes=96 * MIB, max_ratio=300, max_files=2, min_bytes_per_second=100_000,
        rate_window_seconds=window_seconds, discard_bytes=8 * MIB, discard_seconds=2,
    )  # fmt: skip
    spool = tmp_path / "small-spool"
    async with serving(create_app(settings(catalog.url, spool, body=body))) as url:
        made = make(url, tenant)
        made.url, made.spool = url, spool
        yield made
        await made.client.aclose()


def folders(spool: Path) -> list[str]:
    return [entry.name for entry in spool.glob("*-*") if entry.is_dir()]


def problem(answer: Any, status: int, slug: str) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["type"] == f"/problems/{slug}"
    assert body["trace_id"] == answer.headers["x-request-id"]
    return str(body["detail"])


async def raw_request(
    api: Any, path: str, headers: dict[str, str]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in {**api.identity.headers(api.tenant), **headers}.items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("early", [False, True])
async def test_a_file_that_is_cut_off_in_a_quoted_field_is_refused_with_the_line(
    settings: Any, catalog: Any, tmp_path: Path, make: Any, tenant: str, early: bool
) -> None:
    engine = EngineSettings(early_bytes=1 << 20 if early else 1 << 30, early_bytes_per_second=0)
    body = b"a,b\n" + b'1,"some text that fills it"\n' * 300_000 + b'2,"cut o'
    async with serving(create_app(settings(catalog.url, tmp_path / "spool-open", engine=engine))) as url:
        api = make(url, tenant)
        refused = await api.load("shop.orders", body)
        mended = await api.load("shop.orders", body + b'ff"\n3,"y"z\n')
        await api.client.aclose()
    assert "line 300002 " in problem(refused, 422, "unclosed-quote")
    assert mended.status_code == 201, mended.text
    assert (mended.json()["rows_written"], mended.json()["quarantine"]["rows"]) == (300_001, 1)


async def test_a_truncated_gzip_is_refused_and_says_that_it_was_cut_off(small: Any) -> None:
    answer = await small.load("shop.orders", gzip.compress(ROWS)[:-12], content_encoding="gzip")
    assert "cut off" in problem(answer, 422, "corrupt-encoding")
    assert folders(small.spool) == []


async def test_a_damaged_gzip_and_one_that_is_none_are_refused(small: Any) -> None:
    packed = bytearray(gzip.compress(ROWS))
    packed[20] ^= 0xFF
    problem(await small.load("shop.orders", bytes(packed), content_encoding="gzip"), 422, "corrupt-encoding")
    problem(await small.load("shop.orders", ROWS, content_encoding="gzip"), 422, "corrupt-encoding")


async def test_a_truncated_zstd_is_refused(small: Any) -> None:
    answer = await small.load("shop.orders", zstandard.compress(ROWS)[:-5], content_encoding="zstd")
    assert "cut off" in problem(answer, 422, "corrupt-encoding")


async def test_a_gzip_bomb_is_stopped_by_its_ratio(small: Any) -> None:
    answer = await small.load("shop.orders", gzip.compress(b"1,x\n" * (22 * MIB)), content_encoding="gzip")
    assert "zip bomb" in problem(answer, 413, "decompression-bomb")
    assert answer.json()["limit_ratio"] == 300


async def test_a_zstd_bomb_is_stopped_as_well(small: Any) -> None:
    bomb = zstandard.ZstdCompressor(level=3).compress(b"1,x\n" * (40 * MIB))
    problem(await small.load("shop.orders", bomb, content_encoding="zstd"), 413, "decompression-bomb")


async def test_what_decompresses_to_more_than_the_limit_is_refused(small: Any) -> None:
    line = b"".join(b"%d,%s\n" % (n, b"x" * 250) for n in range(1000))
    packed = gzip.compress(line * 420)
    assert 2 * MIB > len(packed) > len(line) * 1400 / 300
    problem(await small.load("shop.orders", packed, content_encoding="gzip"), 413, "decompression-bomb")
    assert folders(small.spool) == []


async def test_a_content_encoding_nobody_reads_is_named(small: Any) -> None:
    answer = await small.load("shop.orders", ROWS, content_encoding="br")
    assert "gzip" in problem(answer, 415, "unsupported-encoding")


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_compressed_body_is_loaded_and_hashed_as_it_was_sent(api: Any, encoding: str) -> None:
    packed = gzip.compress(ROWS) if encoding == "gzip" else zstandard.compress(ROWS)
    answer = await api.load("shop.orders", packed, content_encoding=encoding)
    assert answer.status_code == 201, answer.text
    assert answer.json()["rows_written"] == 1000
    assert answer.json()["files"][0]["size_bytes"] == len(packed)


async def test_a_gzip_file_without_content_encoding_is_found_out(api: Any) -> None:
    members = gzip.compress(ROWS) + gzip.compress(b"2,y\n")
    answer = await api.load("shop.orders", members, params={"name": "orders.csv.gz"})
    assert answer.status_code == 201, answer.text
    assert answer.json()["rows_written"] == 1001


async def test_several_files_of_a_multipart_body_are_one_load(api: Any) -> None:
    files = [("f", ("one.csv", b"a,b\n1,x\n")), ("f", ("two.csv", b"a,b\n2,y\n3,z\n"))]
    answer = await api.client.post("/v1/loads/shop/orders", files=files)
    assert answer.status_code == 201, answer.text
    receipt = answer.json()
    assert [file["name"] for file in receipt["files"]] == ["one.csv", "two.csv"]
    assert receipt["rows_written"] == 3
    assert len(await api.rows("shop.orders")) == 3


async def test_too_many_files_are_refused(small: Any) -> None:
    files = [("f", (f"{n}.csv", ROWS)) for n in range(3)]
    answer = await small.client.post("/v1/loads/shop/orders", files=files)
    problem(answer, 413, "too-many-files")
    assert folders(small.spool) == []


@pytest.mark.parametrize(
    "body",
    [
        b"--X\r\nContent-Disposition: form-data; name=f; filename=a.csv\r\n\r\na,b\n1,x\n",
        b"--X\r\nContent-Disposition: form-data; name=comment\r\n\r\nhello\r\n--X--\r\n",
        b"--X--\r\n",
        b"nothing of the kind",
    ],
    ids=["cut off", "a field that is no file", "no part", "no boundary line"],
)
async def test_a_bad_multipart_body_is_refused(small: Any, body: bytes) -> None:
    answer = await small.load("shop.orders", body, content_type="multipart/form-data; boundary=X")
    problem(answer, 422, "bad-multipart")
    assert folders(small.spool) == []


@pytest.mark.parametrize(("body", "slug"), [(b"", "empty-body"), (b"a\0,\0b\0\n\0", "not-text")])
async def test_which_of_several_files_can_not_be_read_is_named(api: Any, body: bytes, slug: str) -> None:
    files = [("f", ("first.csv", b"a\n1\n")), ("f", ("second.csv", body))]
    answer = await api.client.post("/v1/loads/shop/orders", files=files)
    assert "'second.csv'" in problem(answer, 422, slug)


async def test_a_file_name_never_becomes_a_path(api: Any) -> None:
    files = [("f", ("../../../etc/passwd.csv", b"a\n1\n"))]
    receipt = (await api.client.post("/v1/loads/shop/orders", files=files)).json()
    assert receipt["files"][0]["name"] == "passwd.csv"


async def test_a_table_s_name_is_told_as_such_and_makes_a_file_name(api: Any) -> None:
    seen = problem(await api.client.post("/v1/loads/h/%E2%80%8B", content=ROWS), 422, "bad-table-name")
    assert "\\u200b" in seen
    answer = await api.client.post("/v1/loads/h/%D9%86%E2%80%8C%D9%81", content=ROWS)
    assert (answer.status_code, answer.json()["files"][0]["name"]) == (201, "h.\u0646_\u0641"), answer.text
    for path in ("/v1/loads/h%ff/t", "/v1/loads/h%fe/t", "/v1/loads/h/t?name=%ff"):
        problem(await api.client.post(path, content=ROWS), 400, "invalid-http")


async def test_a_file_name_that_is_too_long_is_refused(small: Any) -> None:
    problem(await small.load("shop.orders", ROWS, params={"name": "x" * 300}), 422, "bad-file-name")


async def test_a_body_that_names_too_large_a_length_is_refused_before_it_is_read(small: Any) -> None:
    reader, writer = await raw_request(small, "/v1/loads/shop/orders", {"Content-Length": str(3 * MIB)})
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")
    writer.close()


async def test_expect_continue_is_answered_with_the_refusal_and_not_with_100(small: Any) -> None:
    headers = {"Content-Length": str(3 * MIB), "Expect": "100-continue"}
    reader, writer = await raw_request(small, "/v1/loads/shop/orders", headers)
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"100 Continue" not in answer
    writer.close()


async def test_a_chunked_body_over_the_limit_gets_its_answer_while_it_still_sends(small: Any) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"1,x\n" * 16384

    reader, writer = await raw_request(small, "/v1/loads/shop/orders", {"Transfer-Encoding": "chunked"})
    sending = asyncio.create_task(_send_chunks(writer, endless()))
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()
    sending.cancel()
    writer.close()
    await eventually(lambda: folders(small.spool) == [])


async def _send_chunks(writer: asyncio.StreamWriter, chunks: AsyncIterator[bytes]) -> None:
    async for chunk in chunks:
        writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        await writer.drain()


async def test_a_client_that_hangs_up_half_way_leaves_a_failed_load_and_no_file(small: Any) -> None:
    _, writer = await raw_request(small, "/v1/loads/shop/orders", {"Content-Length": str(MIB)})
    writer.write(ROWS)
    await writer.drain()
    await eventually(lambda: folders(small.spool))
    writer.close()

    async def failed() -> Any:
        loads = (await small.client.get("/v1/loads")).json()["items"]
        return loads and loads[0]["state"] == "failed" and loads[0]

    load = await eventually(failed)
    assert load["problem"]["type"] == "/problems/client-closed"
    await eventually(lambda: folders(small.spool) == [])


@pytest.mark.parametrize("window_seconds", [0.3])
async def test_a_client_slower_than_the_minimum_rate_is_told_so(small: Any) -> None:
    reader, writer = await raw_request(small, "/v1/loads/shop/orders", {"Content-Length": str(MIB)})
    writer.write(b"a,b\n")
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"/problems/upload-too-slow" in answer
    writer.close()
    await eventually(lambda: folders(small.spool) == [])


async def test_a_spool_at_its_quota_refuses_before_reading(
    settings: Any, catalog: Any, tmp_path: Path, make: Any, tenant: str
) -> None:
    small = SpoolSettings(dir=tmp_path / "s", quota_bytes=1000)
    app = create_app(settings(catalog.url, tmp_path / "s", spool=small))
    async with serving(app) as url:
        answer = await make(url, tenant).load("shop.orders", ROWS)
        problem(answer, 503, "spool-busy")
        assert answer.headers["retry-after"]

        async def chunked() -> AsyncIterator[bytes]:
            yield ROWS

        problem(await make(url, tenant).load("shop.orders", chunked()), 507, "spool-full")


async def test_a_full_disk_in_the_spool_is_507_and_nothing_is_committed(
    settings: Any, catalog: Any, disk_of: Callable[[int], Path], make: Any, tenant: str
) -> None:
    spool = disk_of(2) / "spool"
    async with serving(create_app(settings(catalog.url, spool))) as url:
        api = make(url, tenant)
        answer = await api.load("shop.orders", ROWS * 1000)
        assert "Nothing was loaded" in problem(answer, 507, "spool-full")
        assert folders(spool) == []
        missing = await api.client.get("/v1/tables/shop/orders/rows")
        problem(missing, 404, "table-not-found")
        answer = await api.load("shop.orders", ROWS)
        assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    "disposition",
    [
        "filename*=idna''a.csv",
        "filename*=undefined''a.csv",
        "filename*=utf-8%00''a.csv",
        "filename*=a.csv; filename*0=b.csv",
        "name*=utf-7''%2B2AA-",
    ],
)
async def test_parameters_of_a_part_that_can_not_be_read_are_named(small: Any, disposition: str) -> None:
    body = f"--X\r\nContent-Disposition: form-data; {disposition}\r\n\r\na,b\n1,x\n\r\n--X--\r\n".encode()
    answer = await small.load("shop.orders", body, content_type="multipart/form-data; boundary=X")
    assert "Content-Disposition" in problem(answer, 422, "bad-multipart")
    assert folders(small.spool) == []


@pytest.mark.parametrize(
    ("content_type", "slug"),
    [
        ("multipart/form-data; boundary*=a; boundary*0=b", "bad-multipart"),
        ("multipart/form-data; boundary*=utf-8''%E2%82%AC", "bad-multipart"),
        ("text/csv; charset*=a; charset*0=b", "bad-load-parameter"),
        ("text/csv; charset*=undefined''utf-8", "bad-load-parameter"),
    ],
)
async def test_parameters_of_a_content_type_that_can_not_be_read_are_named(
    small: Any, content_type: str, slug: str
) -> None:
    plain = await small.load("shop.orders", ROWS, content_type=content_type)
    keyed = await small.load("shop.orders", ROWS, content_type=content_type, idempotency_key="k1")
    assert "Content-Type" in problem(plain, 422, slug)
    assert keyed.status_code == 422, keyed.text
    assert folders(small.spool) == []


async def test_a_parameter_sent_twice_counts_as_it_stands_first(api: Any) -> None:
    twice = "text/csv; charset=latin-1; charset*=utf-8''utf-8"
    answer = await api.load("shop.orders", b"a\n\xe9\n", content_type=twice, idempotency_key="k1")
    assert answer.status_code == 201, answer.text
    assert (await api.rows("shop.orders"))[0]["a"] == "é"


async def test_a_part_names_its_file_as_rfc_2231_has_it(api: Any) -> None:
    head = "--X\r\nContent-Disposition: form-data; name=f; filename*=utf-8''%C3%A9t%C3%A9%20%201.csv\r\n\r\n"
    body = f"{head}a,b\n1,x\n\r\n--X--\r\n".encode()
    answer = await api.load("shop.orders", body, content_type="multipart/form-data; boundary=X")
    assert answer.json()["files"][0]["name"] == "été  1.csv"


@pytest.mark.parametrize("charset", ["utf-16", "utf-32"])
async def test_a_charset_that_needs_a_byte_order_mark_is_refused_without_one(api: Any, charset: str) -> None:
    answer = await api.load("shop.orders", ROWS, content_type=f"text/csv; charset={charset}")
    assert "BOM" in problem(answer, 422, "invalid-encoding")


@pytest.mark.parametrize("charset", ["utf-16-le", "utf-16-be", "utf-32-le"])
async def test_text_in_wide_characters_is_read_when_its_charset_is_named(api: Any, charset: str) -> None:
    body = "a,b\n1,é\n".encode(charset)
    assert charset in problem(await api.load("shop.orders", body), 422, "not-text")
    answer = await api.load("shop.orders", body, content_type=f"text/csv; charset={charset}")
    assert answer.status_code == 201, answer.text
    assert (await api.rows("shop.orders"))[0]["b"] == "é"


@pytest.mark.parametrize("name", ["/", ".", "..", " "])
async def test_a_name_without_a_file_in_it_is_refused(api: Any, name: str) -> None:
    answer = await api.load("shop.orders", ROWS, params={"name": name})
    assert "?name=" in problem(answer, 422, "bad-file-name")


async def test_a_part_with_an_empty_file_name_is_refused(api: Any) -> None:
    body = b'--X\r\nContent-Disposition: form-data; name=f; filename=""\r\n\r\na,b\n1,x\n\r\n--X--\r\n'
    answer = await api.load("shop.orders", body, content_type="multipart/form-data; boundary=X")
    problem(answer, 422, "bad-file-name")


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/mixed; boundary=X",
        "text/html; charset=utf-8",
        "image/png",
        "Application/XML",
        "application/atom+xml",
        "application/pdf",
        "application/zip",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ],
)
async def test_a_type_that_is_another_format_is_refused_and_the_formats_are_named(
    small: Any, content_type: str
) -> None:
    answer = await small.load("shop.orders", ROWS, content_type=content_type)
    assert "text/csv" in problem(answer, 415, "unsupported-media-type")
    assert folders(small.spool) == []
    answer = await small.client.post("/v1/loads/shop/orders", files=[("f", ("a.csv", ROWS, content_type))])
    assert "text/csv" in problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "application/vnd.ms-excel",
        "text/plain; charset=utf-8",
        "application/gzip",
        "",
    ],
)
async def test_a_type_that_says_nothing_of_the_format_is_taken(api: Any, content_type: str) -> None:
    whole = await api.load("shop.orders", ROWS, content_type=content_type)
    part = await api.client.post("/v1/loads/shop/orders", files=[("f", ("a.csv", ROWS, content_type))])
    assert (whole.status_code, part.status_code) == (201, 201), whole.text + part.text


async def test_the_format_parameter_counts_for_more_than_a_wrong_type(small: Any) -> None:
    answer = await small.load("shop.orders", ROWS, params={"format": "csv"}, content_type="text/html")
    assert answer.status_code == 201, answer.text
    answer = await small.load("shop.orders", ROWS, params={"format": "csv"}, content_type="multipart/mixed; boundary=X")
    problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("header", "body", "status"),
    [
        ("Content-Transfer-Encoding: base64", b"YSxiCjEseAo=", 415),
        ("Content-Transfer-Encoding: quoted-printable", b"a,b\n1,x=\n\n", 415),
        ("Content-Transfer-Encoding: Binary", b"a,b\n1,x\n", 201),
        ("Content-Encoding: br", b"a,b\n1,x\n", 415),
        ("Content-Encoding: gzip", gzip.compress(b"a,b\n1,x\n"), 201),
    ],
)
async def test_a_part_that_is_coded_is_decoded_or_refused(api: Any, header: str, body: bytes, status: int) -> None:
    head = f"--X\r\nContent-Disposition: form-data; name=f; filename=a.csv\r\n{header}\r\n\r\n".encode()
    whole = head + body + b"\r\n--X--\r\n"
    answer = await api.load("shop.orders", whole, content_type="multipart/form-data; boundary=X")
    if status == 415:
        problem(answer, 415, "unsupported-encoding")
    else:
        assert (answer.status_code, answer.json()["rows_written"]) == (201, 1), answer.text


@pytest.mark.parametrize("preamble", [b"This is a multi-part message.\r\n", b"--\r\n--X1 is not it\r\n", b"\r\n"])
async def test_what_stands_before_the_first_boundary_is_ignored(api: Any, preamble: bytes) -> None:
    head = b"--XY\r\nContent-Disposition: form-data; name=f; filename=a.csv\r\n\r\n"
    body = preamble + head + b"a,b\n1,x\n" + b"\r\n--XY--\r\nepilogue"
    answer = await api.load("shop.orders", body, content_type="multipart/form-data; boundary=XY")
    assert (answer.status_code, answer.json()["rows_written"]) == (201, 1), answer.text


async def test_a_body_without_its_boundary_is_refused_before_all_of_it_is_kept(small: Any) -> None:
    answer = await small.load("shop.orders", ROWS * 100, content_type="multipart/form-data; boundary=X")
    assert "8,192 bytes" in problem(answer, 422, "bad-multipart")


async def test_a_zstd_file_that_begins_with_a_skippable_frame_is_found_out(api: Any) -> None:
    skippable = b"\x5a\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"seek"
    answer = await api.load("shop.orders", skippable + zstandard.compress(ROWS))
    assert answer.status_code == 201, answer.text
    assert answer.json()["rows_written"] == 1000
