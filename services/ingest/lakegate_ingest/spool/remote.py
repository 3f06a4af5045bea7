"""The spool in the object store: received files that another replica can go on with, and uploads by presigned URL.

Beside the tenants' folders, whose names begin with a letter or a digit: `_spool/<tenant>/<load>/<file>` and
`_uploads/<tenant>/<upload>`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import obstore
from obstore.store import AzureStore

from lakegate_chassis.objectstore import PIECE_BYTES
from lakegate_ingest.commit.objects import delete_keys, store_errors
from lakegate_ingest.engine import Arrival

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SPOOL = "_spool"
UPLOADS = "_uploads"
READ_BYTES = 1 << 20
PARTS_AT_ONCE = 2
# A folder is younger than this while its load may still be on the way into the database, or just out of it.
STRAY_AGE = timedelta(minutes=10)


class Aborted(Exception):
    """The body that was being uploaded will not be complete."""


def arriving(path: Path, arrival: Arrival) -> Iterator[bytes]:
    """A file that is uploaded while it is written. Blocks until there is more.

    Raises Aborted, upon which the store drops the parts that it has.
    """
    with path.open("rb") as file:
        at, whole = 0, False
        while not whole:
            whole = arrival.finished  # before its size: what there is then is all
            size = arrival.wait_past(at)
            if arrival.aborted:
                raise Aborted
            while at < size:
                piece = file.read(min(READ_BYTES, size - at))
                at += len(piece)
                yield piece


@dataclass(frozen=True)
class RemoteSpool:
    """Methods without `async` block: call them in a thread. All raise StoreUnavailable."""

    store: ObjectStore

    def key(self, tenant: str, load_id: UUID, name: str) -> str:
        return f"{SPOOL}/{tenant}/{load_id}/{name}"

    def upload_key(self, tenant: str, upload_id: UUID) -> str:
        return f"{UPLOADS}/{tenant}/{upload_id}"

    def put(self, key: str, file: Path | Iterator[bytes]) -> None:
        """Store a file, or what an iterator brings, in parts; all or nothing."""
        source: Any = file
        with store_errors():
            if isinstance(file, Path):
                with file.open("rb") as opened:
                    obstore.put(self.store, key, opened, chunk_size=PIECE_BYTES, max_concurrency=PARTS_AT_ONCE)
            else:
                obstore.put(self.store, key, source, chunk_size=PIECE_BYTES, max_concurrency=PARTS_AT_ONCE)

    def size(self, key: str) -> int:
        """In bytes. Raises FileNotFoundError."""
        with store_errors():
            return obstore.head(self.store, key)["size"]

    def fetch(self, key: str, path: Path, grow: Callable[[int], None]) -> None:
        """Copy a file to the local disk; `grow` hears of every piece before it is written. Raises FileNotFoundError."""
        size = self.size(key)
        with path.open("wb") as file:
            for start in range(0, size, PIECE_BYTES):
                with store_errors():
                    piece = obstore.get_range(self.store, key, start=start, end=min(start + PIECE_BYTES, size))
                grow(len(piece))
                file.write(piece)

    async def pieces(self, key: str) -> AsyncIterator[bytes]:
        """A file as a body. Raises FileNotFoundError."""
        with store_errors():
            size = (await obstore.head_async(self.store, key))["size"]
        for start in range(0, size, PIECE_BYTES):
            with store_errors():
                end = min(start + PIECE_BYTES, size)
                piece = bytes(await obstore.get_range_async(self.store, key, start=start, end=end))
            for begin in range(0, len(piece), READ_BYTES):
                yield piece[begin : begin + READ_BYTES]

    def remove(self, tenant: str, load_id: UUID) -> None:
        """Everything of a load."""
        delete_keys(self.store, self._listed(f"{SPOOL}/{tenant}/{load_id}"))

    def remove_upload(self, tenant: str, upload_id: UUID) -> None:
        delete_keys(self.store, [self.upload_key(tenant, upload_id)])

    def sign(self, method: str, key: str, lifetime: timedelta) -> str:
        """A URL that lets whoever has it do this to that key, for so long."""
        known: Any = method
        signer: Any = self.store
        with store_errors():
            return str(obstore.sign(signer, known, key, lifetime))

    def upload_headers(self) -> dict[str, str]:
        """What a PUT to a signed URL has to say besides: Azure takes none that does not name the kind of blob."""
        return {"x-ms-blob-type": "BlockBlob"} if isinstance(self.store, AzureStore) else {}

    def strays(self) -> dict[UUID, str]:
        """Loads that have files here which are not quite new, with their tenants."""
        oldest = datetime.now(UTC) - STRAY_AGE
        found: dict[UUID, str] = {}
        with store_errors():
            for page in obstore.list(self.store, SPOOL):
                for item in page:
                    if item["last_modified"] < oldest:
                        _, tenant, load_id, _ = item["path"].split("/", 3)
                        found[UUID(load_id)] = tenant
        return found

    def uploads(self) -> Iterator[dict[UUID, str]]:
        """All uploads that have files here, with their tenants, in pages of the store."""
        with store_errors():
            for page in obstore.list(self.store, UPLOADS):
                parts = (item["path"].split("/", 2) for item in page)
                yield {UUID(upload_id): tenant for _, tenant, upload_id in parts}

    def _listed(self, folder: str) -> list[str]:
        with store_errors():
            return [item["path"] for page in obstore.list(self.store, folder) for item in page]
