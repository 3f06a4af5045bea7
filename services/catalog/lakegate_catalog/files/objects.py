"""What the endpoint does in the store: read in pieces, write, list, delete. Keys are relative to the warehouse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import obstore
import obstore.exceptions
from obstore.store import AzureStore

from lakegate_catalog.files.dialect import S3Error
from lakegate_chassis.objectstore import PIECE_BYTES

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# What a reader holds: small, since there may be many of them.
READ_BYTES = 4 << 20
# A body of unknown hash is put in parts as it comes, two at once: 16 MB an upload.
PARTS_AT_ONCE = 2


@dataclass(frozen=True)
class Described:
    """An object's head. `start` and `end` (exclusive) are what is to be sent of it."""

    size: int
    etag: str
    modified_at: datetime
    start: int
    end: int


@dataclass(frozen=True)
class Listed:
    key: str
    size: int
    etag: str
    modified_at: datetime


class Objects:
    """Raises FileNotFoundError and obstore's errors, which `dialect` translates."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def describe(self, key: str, wanted: tuple[int | None, int | None] | None) -> Described:
        """`wanted` is a Range: (first, last), (first, None) or (None, length of the end). Raises S3Error for none."""
        meta = await obstore.head_async(self._store, key)
        size = meta["size"]
        start, end = _resolve(wanted, size)
        return Described(size, meta["e_tag"] or "", meta["last_modified"], start, end)

    async def open(
        self, key: str, wanted: tuple[int | None, int | None] | None, *, if_match: str | None, if_none_match: str | None
    ) -> tuple[Described, AsyncIterator[bytes]]:
        """What is there, and its bytes: one request for what fits in a piece, as most reads of Parquet do."""
        conditions = {"if_match": if_match, "if_none_match": if_none_match}
        options: Any = {name: value for name, value in conditions.items() if value is not None}
        first, last = wanted or (0, None)
        if first is None:
            options["range"] = {"suffix": min(last or 0, READ_BYTES)}
        else:
            options["range"] = (first, first + READ_BYTES if last is None else min(last + 1, first + READ_BYTES))
        # Azure gives no end of a file: it is asked for by its place
        by_place = isinstance(self._store, AzureStore) or (last or 0) > READ_BYTES
        if first is None and by_place:
            described = await self.describe(key, wanted)
            return described, self._pieces(key, described, described.start)
        try:
            result = await obstore.get_async(self._store, key, options=options)
        except (obstore.exceptions.GenericError, ValueError):
            # a range that can't be had of an empty file, or at all: the head tells
            described = await self.describe(key, wanted)
            if described.start < described.end:
                raise
            return described, self._pieces(key, described, described.start)
        meta = result.meta
        start, end = _resolve(wanted, meta["size"])
        described = Described(meta["size"], meta["e_tag"] or "", meta["last_modified"], start, end)
        piece = bytes(await result.bytes_async())
        return described, self._from(piece, key, described)

    async def _from(self, piece: bytes, key: str, described: Described) -> AsyncIterator[bytes]:
        yield piece
        async for following in self._pieces(key, described, described.start + len(piece)):
            yield following

    async def _pieces(self, key: str, described: Described, begin: int) -> AsyncIterator[bytes]:
        """A request for every piece: none waits for a slow client, and none sees another version of the file."""
        for start in range(begin, described.end, READ_BYTES):
            options: Any = {"range": (start, min(start + READ_BYTES, described.end))}
            if described.etag:
                options["if_match"] = described.etag
            result = await obstore.get_async(self._store, key, options=options)
            yield bytes(await result.bytes_async())

    async def whole(self, key: str) -> AsyncIterator[bytes]:
        described = await self.describe(key, None)
        async for piece in self._pieces(key, described, 0):
            yield piece

    async def write(self, key: str, body: AsyncIterator[bytes], *, length: int | None, create: bool) -> str:
        """Put the body at the key, all or nothing; its ETag. With `create` only where nothing is.

        A body of one piece at most is held until its end, and so nothing is sent of one that turns out wrong; of a
        longer one the parts are, and dropped again.
        """
        mode: Any = "create" if create else "overwrite"
        if length is not None and length <= PIECE_BYTES:
            content = b"".join([piece async for piece in body])
            result = await obstore.put_async(self._store, key, content, mode=mode, use_multipart=False)
        elif create:
            raise S3Error(501, "NotImplemented", f"If-None-Match is possible up to {PIECE_BYTES} bytes.")
        else:
            result = await obstore.put_async(
                self._store, key, body, chunk_size=PIECE_BYTES, max_concurrency=PARTS_AT_ONCE
            )
        return result["e_tag"] or ""

    async def delete(self, key: str) -> None:
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return  # S3 says nothing either

    async def copy(self, source: str, key: str) -> str:
        """Within the store; the new ETag."""
        await obstore.copy_async(self._store, source, key)
        return (await obstore.head_async(self._store, key))["e_tag"] or ""

    async def list(self, folder: str, *, after: str | None = None) -> AsyncIterator[Listed]:
        """Everything below a folder, in order where the store has one (S3, GCS and Azure do)."""
        async for batch in obstore.list(self._store, folder, offset=after, chunk_size=1000):
            for item in batch:
                # Azurite does not know where to begin, nor may Azure, by the version of its API
                if after is None or item["path"] > after:
                    yield Listed(item["path"], item["size"], _quoted(item["e_tag"]), item["last_modified"])


def _quoted(etag: str | None) -> str:
    """As in a head: Azure's lists have them bare."""
    return f'"{etag}"' if etag and not etag.endswith('"') else etag or ""


def _resolve(wanted: tuple[int | None, int | None] | None, size: int) -> tuple[int, int]:
    if wanted is None:
        return 0, size
    first, last = wanted
    if first is None:
        return max(0, size - (last or 0)), size
    if first >= size:
        raise S3Error(416, "InvalidRange", f"The file has {size} bytes.")
    return first, size if last is None else min(last + 1, size)
