"""Multipart uploads of engines, on a store of this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from obstore.store import LocalStore

from lakegate_catalog.files.dialect import S3Error
from lakegate_catalog.files.objects import Objects
from lakegate_catalog.files.uploads import Uploads, parse_parts
from lakegate_chassis.objectstore import PIECE_BYTES

KEY = "acme/travel/flights-1/data/a.parquet"


async def body(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(LocalStore(tmp_path))


@pytest.fixture
def uploads(objects: Objects) -> Uploads:
    return Uploads(objects)


async def put(uploads: Uploads, upload_id: str, number: int, content: bytes, *, key: str = KEY) -> str:
    return (await uploads.put_part("acme", key, upload_id, number, body(content), len(content))).strip('"')


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("sizes", [(10,), (10, 20, 5), (PIECE_BYTES + 1, 3)])
async def test_parts_in_any_order_become_one_file(
    uploads: Uploads, objects: Objects, tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    upload_id = uploads.begin()
    contents = [bytes([number]) * size for number, size in enumerate(sizes)]
    etags = {
        number: await put(uploads, upload_id, number, content)
        for number, content in reversed([*enumerate(contents, 1)])
    }
    await uploads.complete("acme", KEY, upload_id, sorted(etags.items()))
    assert (tmp_path / KEY).read_bytes() == b"".join(contents)
    assert files(tmp_path) == [KEY]


async def test_parts_that_are_not_what_was_uploaded_are_refused(uploads: Uploads, tmp_path: Path) -> None:
    upload_id = uploads.begin()
    first, second = [await put(uploads, upload_id, number, b"x" * number) for number in (1, 2)]
    for parts, code in (
        ([(1, "other")], "InvalidPart"),
        ([(3, first)], "InvalidPart"),
        ([(2, second), (1, first)], "InvalidPartOrder"),
        ([(1, first), (1, first)], "InvalidPartOrder"),
        ([], "InvalidPartOrder"),
    ):
        with pytest.raises(S3Error) as refused:
            await uploads.complete("acme", KEY, upload_id, parts)
        assert refused.value.code == code
    assert not (tmp_path / KEY).exists()


async def test_an_upload_belongs_to_its_key_and_tenant(uploads: Uploads) -> None:
    upload_id = uploads.begin()
    etag = await put(uploads, upload_id, 1, b"x")
    for tenant, key, id in (("acme", f"{KEY}2", upload_id), ("other", KEY, upload_id), ("acme", KEY, "../x")):
        with pytest.raises(S3Error) as refused:
            await uploads.complete(tenant, key, id, [(1, etag)])
        assert refused.value.code == "NoSuchUpload"


async def test_an_upload_that_is_given_up_or_forgotten_leaves_nothing(uploads: Uploads, tmp_path: Path) -> None:
    aborted, forgotten = uploads.begin(), uploads.begin()
    for upload_id in (aborted, forgotten):
        await put(uploads, upload_id, 1, b"x")
    await uploads.abort("acme", KEY, aborted)
    assert len(files(tmp_path)) == 1
    now = datetime.now(UTC)
    assert await uploads.sweep_once(now - timedelta(hours=1)) == 0
    assert await uploads.sweep_once(now + timedelta(hours=1)) == 1
    assert files(tmp_path) == []


async def test_a_body_that_turns_out_wrong_leaves_no_file(objects: Objects, tmp_path: Path) -> None:
    async def wrong(size: int) -> AsyncIterator[bytes]:
        yield b"x" * size
        raise S3Error(400, "XAmzContentSHA256Mismatch", "wrong")

    for size in (10, 3 * PIECE_BYTES):
        with pytest.raises(S3Error, match="wrong"):
            await objects.write(KEY, wrong(size), length=size, create=False)
    assert files(tmp_path) == []


def test_the_list_of_parts_is_read_as_clients_write_it() -> None:
    written = b"""<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
        <Part><PartNumber>1</PartNumber><ETag>"a-1"</ETag></Part>
        <Part><ETag>&quot;b&quot;</ETag><PartNumber> 2 </PartNumber></Part></CompleteMultipartUpload>"""
    assert parse_parts(written) == [(1, "a-1"), (2, "b")]
    with pytest.raises(S3Error):
        parse_parts(b"<Part><ETag>x</ETag></Part>")
