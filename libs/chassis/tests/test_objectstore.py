"""What the suite asks of an object store, on a server of every kind that is supported."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import AzureStore

from lakegate_chassis.objectstore import PIECE_BYTES, ObjectStoreSettings, open_store

LIFETIME = timedelta(minutes=5)


@pytest.fixture
def store(object_store: Any) -> Any:
    settings = ObjectStoreSettings.model_validate({**object_store.objects(), "retry_seconds": 1})
    return open_store(object_store.location(f"chassis-{uuid4().hex[:8]}"), settings)


def keys(store: Any, folder: str) -> list[str]:
    return [item["path"] for page in obstore.list(store, folder) for item in page]


def test_what_was_put_is_read_whole_and_in_ranges(store: Any) -> None:
    obstore.put(store, "a/b c+é.parquet", b"hello world", use_multipart=False)
    assert bytes(obstore.get(store, "a/b c+é.parquet").bytes()) == b"hello world"
    assert bytes(obstore.get_range(store, "a/b c+é.parquet", start=6, end=11)) == b"world"
    found = obstore.head(store, "a/b c+é.parquet")
    assert (found["size"], found["path"]) == (11, "a/b c+é.parquet")
    with pytest.raises(FileNotFoundError):
        obstore.head(store, "a/none")


def test_a_conditional_put_has_one_winner(store: Any) -> None:
    obstore.put(store, "metadata.json", b"first", mode="create", use_multipart=False)
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "metadata.json", b"second", mode="create", use_multipart=False)
    assert bytes(obstore.get(store, "metadata.json").bytes()) == b"first"


def test_a_read_of_another_version_is_refused(store: Any) -> None:
    obstore.put(store, "a", b"first", use_multipart=False)
    before = obstore.head(store, "a")["e_tag"]
    assert bytes(obstore.get(store, "a", options={"if_match": before}).bytes()) == b"first"
    obstore.put(store, "a", b"other", use_multipart=False)
    with pytest.raises(PreconditionError):
        obstore.get(store, "a", options={"if_match": before})


def test_a_folder_is_listed_in_order_and_no_other(store: Any) -> None:
    for name in ("c", "a", "b/x", "b/y"):
        obstore.put(store, f"in/{name}", b"1", use_multipart=False)
    obstore.put(store, "in-more/x", b"1", use_multipart=False)
    assert keys(store, "in") == ["in/a", "in/b/x", "in/b/y", "in/c"]
    assert keys(store, "none") == []


def test_files_of_several_parts_arrive_whole_whether_their_length_is_known_or_not(store: Any, tmp_path: Any) -> None:
    content = bytes(range(256)) * (PIECE_BYTES // 256) + b"the rest"
    file = tmp_path / "large"
    file.write_bytes(content)
    with file.open("rb") as opened:
        obstore.put(store, "known", opened, chunk_size=PIECE_BYTES, max_concurrency=2)
    pieces = (content[start : start + (1 << 20)] for start in range(0, len(content), 1 << 20))
    obstore.put(store, "unknown", pieces, chunk_size=PIECE_BYTES, max_concurrency=2)
    for key in ("known", "unknown"):
        assert obstore.head(store, key)["size"] == len(content)
        assert bytes(obstore.get_range(store, key, start=PIECE_BYTES - 2, end=PIECE_BYTES + 8)) == content[-10:]


def test_an_upload_in_parts_that_breaks_off_leaves_no_file(store: Any) -> None:
    def breaking() -> Iterator[bytes]:
        yield bytes(PIECE_BYTES + 1)
        raise ConnectionResetError("the client has gone")

    with pytest.raises(Exception, match="the client has gone"):
        obstore.put(store, "broken", breaking(), chunk_size=PIECE_BYTES)
    assert keys(store, "") == []


def test_what_is_deleted_or_copied_is_as_it_was_asked(store: Any) -> None:
    for name in ("a", "b", "c"):
        obstore.put(store, name, name.encode(), use_multipart=False)
    obstore.copy(store, "a", "d")
    obstore.delete(store, ["a", "b"])
    assert keys(store, "") == ["c", "d"]
    assert bytes(obstore.get(store, "d").bytes()) == b"a"


def test_whoever_has_a_signed_url_does_that_and_nothing_else(store: Any, object_store: Any) -> None:
    headers = {"x-ms-blob-type": "BlockBlob"} if isinstance(store, AzureStore) else {}
    with httpx.Client(trust_env=False, timeout=30) as anybody:
        url = obstore.sign(store, "PUT", "sent", LIFETIME)
        assert anybody.put(url, content=b"sent by anybody", headers=headers).status_code in (200, 201)
        reading = obstore.sign(store, "GET", "sent", LIFETIME)
        assert anybody.get(reading).content == b"sent by anybody"
        assert anybody.get(reading.replace("sent", "other")).status_code in (403, 404)
        if object_store.checks_signatures:
            assert anybody.put(reading, content=b"other", headers=headers).status_code == 403
            assert anybody.get(url).status_code == 403
            assert anybody.get(reading.replace("sent", "other")).status_code == 403
