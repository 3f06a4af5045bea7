"""What the endpoint for engines does in a store, on a server of every kind: clients of S3 see no difference."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from obstore.exceptions import AlreadyExistsError, PreconditionError

from lakegate_catalog.files.dialect import S3Error
from lakegate_catalog.files.objects import READ_BYTES, Objects
from lakegate_catalog.iceberg.metadata import Warehouse
from lakegate_catalog.settings import WarehouseSettings
from lakegate_chassis.objectstore import PIECE_BYTES, ObjectStoreSettings, open_store

LARGE = bytes(range(256)) * (READ_BYTES // 256) + b"the rest"


async def body(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.fixture
def place(object_store: Any) -> tuple[str, ObjectStoreSettings]:
    settings = ObjectStoreSettings.model_validate({**object_store.objects(), "retry_seconds": 1})
    return object_store.location(f"files-{uuid4().hex[:8]}"), settings


@pytest.fixture
def objects(place: tuple[str, ObjectStoreSettings]) -> Objects:
    return Objects(open_store(*place))


async def read(objects: Objects, key: str, wanted: Any = None, **conditions: str) -> tuple[bytes, int, int]:
    """The bytes, and the place that the answer's head names for them."""
    asked = {"if_match": None, "if_none_match": None, **conditions}
    described, pieces = await objects.open(key, wanted, **asked)
    return b"".join([piece async for piece in pieces]), described.start, described.end


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        (None, 0, len(LARGE)),
        ((5, 9), 5, 10),
        ((READ_BYTES - 2, READ_BYTES + 3), READ_BYTES - 2, READ_BYTES + 4),
        ((READ_BYTES, None), READ_BYTES, len(LARGE)),
        ((None, 8), len(LARGE) - 8, len(LARGE)),
        ((None, READ_BYTES + 4), 4, len(LARGE)),
        ((None, 2 * len(LARGE)), 0, len(LARGE)),
    ],
)
async def test_every_range_of_a_file_can_be_had(objects: Objects, wanted: Any, start: int, end: int) -> None:
    await objects.write("large", body(LARGE), length=len(LARGE), create=False)
    assert await read(objects, "large", wanted) == (LARGE[start:end], start, end)


async def test_a_range_that_can_not_be_had_is_refused_and_an_empty_file_is_read(objects: Objects) -> None:
    await objects.write("empty", body(), length=0, create=False)
    await objects.write("small", body(b"12345"), length=5, create=False)
    assert await read(objects, "empty") == (b"", 0, 0)
    assert await read(objects, "small", (None, 100)) == (b"12345", 0, 5)
    with pytest.raises(S3Error) as refused:
        await read(objects, "small", (5, 9))
    assert refused.value.code == "InvalidRange"
    with pytest.raises(FileNotFoundError):
        await read(objects, "none", (None, 3))


async def test_a_file_is_made_once_and_read_as_the_version_that_was_asked_for(objects: Objects) -> None:
    etag = await objects.write("a", body(b"first"), length=5, create=True)
    with pytest.raises(AlreadyExistsError):
        await objects.write("a", body(b"other"), length=5, create=True)
    assert (await read(objects, "a", if_match=etag))[0] == b"first"
    await objects.write("a", body(b"other"), length=5, create=False)
    with pytest.raises(PreconditionError):
        await read(objects, "a", if_match=etag)


async def test_a_body_of_unknown_length_is_put_in_parts(objects: Objects) -> None:
    pieces = [bytes([number]) * (1 << 20) for number in range((PIECE_BYTES >> 20) + 1)]
    await objects.write("streamed", body(*pieces), length=None, create=False)
    described = await objects.describe("streamed", None)
    assert described.size == len(pieces) << 20
    assert (await read(objects, "streamed", (PIECE_BYTES - 1, PIECE_BYTES)))[0] == bytes([7, 8])


async def test_a_folder_is_listed_in_order_and_from_a_key_on(objects: Objects) -> None:
    for name in ("c", "a", "b/x", "b/y"):
        await objects.write(f"in/{name}", body(b"1"), length=1, create=False)
    listed = [item async for item in objects.list("in")]
    assert [item.key for item in listed] == ["in/a", "in/b/x", "in/b/y", "in/c"]
    assert listed[0].etag == (await objects.describe("in/a", None)).etag
    assert [item.key async for item in objects.list("in", after="in/b/x")] == ["in/b/y", "in/c"]


async def test_metadata_is_deleted_although_a_file_of_it_is_gone(
    place: tuple[str, ObjectStoreSettings], objects: Objects
) -> None:
    location, settings = place
    warehouse = Warehouse(WarehouseSettings(location=location), settings, 1 << 20)
    for name in ("a", "b"):
        await objects.write(name, body(b"1"), length=1, create=False)
    await warehouse.delete([f"{location}/{name}" for name in ("gone", "a", "gone too", "b")])
    assert [item.key async for item in objects.list("")] == []
    await objects.delete("gone")
