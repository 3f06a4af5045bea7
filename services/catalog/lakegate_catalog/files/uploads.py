"""Multipart uploads: each part is an object of its own until the upload is completed, on whatever store.

Stores have multipart uploads of their own, but not with parts that come through several replicas in any order. A file
of one part, as most are, is copied within the store; more are read and written again, which costs their time twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from lakegate_catalog.files.dialect import S3Error, bad_request
from lakegate_catalog.files.objects import Listed, Objects
from lakegate_chassis.logs import log

# Beside the folders of tenants, whose names begin with a letter or a digit.
FOLDER = "_parts"
MAX_PARTS = 10_000
KEPT = timedelta(days=1)
SWEEP_SECONDS = 3600.0
# CompleteMultipartUpload: S3's own clients write nothing else into it.
_PART = re.compile(r"<Part>(.*?)</Part>", re.DOTALL)
_NUMBER = re.compile(r"<PartNumber>\s*(\d{1,5})\s*</PartNumber>")
_ETAG = re.compile(r"<ETag>\s*(?:&quot;|&#34;|\")?([^<&\"]*)(?:&quot;|&#34;|\")?\s*</ETag>")
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")


class Uploads:
    """An upload belongs to a tenant and a key; both are part of its folder's name, so that no other finds it."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def begin(self) -> str:
        """The id of a new upload; nothing is stored before its first part."""
        return uuid4().hex

    async def put_part(
        self, tenant: str, key: str, upload_id: str, number: int, body: AsyncIterator[bytes], length: int | None
    ) -> str:
        """Store a part, in place of one with that number; its ETag."""
        if not 1 <= number <= MAX_PARTS:
            raise bad_request(f"A part's number is 1 to {MAX_PARTS}.")
        part = f"{_folder(tenant, key, upload_id)}/{number:05d}"
        return await self._objects.write(part, body, length=length, create=False)

    async def complete(self, tenant: str, key: str, upload_id: str, asked: list[tuple[int, str]]) -> str:
        """Make the file of the parts that were asked for, and drop them; its ETag. Raises S3Error."""
        folder = _folder(tenant, key, upload_id)
        found = {int(part.key.rpartition("/")[2]): part async for part in self._objects.list(folder)}
        if not found:
            raise S3Error(404, "NoSuchUpload", "No such upload: completed or given up already, or older than a day.")
        parts = []
        for number, etag in asked:
            part = found.get(number)
            if part is None or part.etag.strip('"') != etag:
                raise S3Error(400, "InvalidPart", f"Part {number} was not uploaded, or is another one.")
            parts.append(part)
        if not parts or [number for number, _ in asked] != sorted({number for number, _ in asked}):
            raise S3Error(400, "InvalidPartOrder", "Parts are listed once each, in the order of their numbers.")
        if len(parts) == 1:
            etag = await self._objects.copy(parts[0].key, key)
        else:
            etag = await self._objects.write(key, self._joined(parts), length=None, create=False)
        await self._drop(found.values())
        return etag

    async def abort(self, tenant: str, key: str, upload_id: str) -> None:
        await self._drop([part async for part in self._objects.list(_folder(tenant, key, upload_id))])

    async def sweep(self) -> None:
        """Delete the parts of uploads that nobody completed within a day; runs until cancelled."""
        while True:
            dropped = await self.sweep_once()
            if dropped:
                log.info("upload_parts_swept", parts=dropped)
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep_once(self, oldest: datetime | None = None) -> int:
        """How many parts from before `oldest`, else of more than a day ago, there were."""
        oldest = oldest or datetime.now(UTC) - KEPT
        stale = [part async for part in self._objects.list(FOLDER) if part.modified_at < oldest]
        await self._drop(stale)
        return len(stale)

    async def _joined(self, parts: list[Listed]) -> AsyncIterator[bytes]:
        for part in parts:
            async for piece in self._objects.whole(part.key):
                yield piece

    async def _drop(self, parts: Iterable[Listed]) -> None:
        for part in parts:
            await self._objects.delete(part.key)


def parse_parts(body: bytes) -> list[tuple[int, str]]:
    """Number and ETag of each part of a CompleteMultipartUpload. Raises S3Error."""
    found = []
    for part in _PART.findall(body.decode("utf-8", "replace")):
        number, etag = _NUMBER.search(part), _ETAG.search(part)
        if number is None or etag is None:
            raise S3Error(400, "MalformedXML", "A part has no number or no ETag.")
        found.append((int(number[1]), etag[1]))
    return found


def _folder(tenant: str, key: str, upload_id: str) -> str:
    if not _UPLOAD_ID.fullmatch(upload_id):
        raise S3Error(404, "NoSuchUpload", "No upload has this id.")
    return f"{FOLDER}/{tenant}/{upload_id}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
