"""Uploads by presigned URL: handed out, taken by a load, received as its body, and deleted again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import ParamSpec, TypeVar
from uuid import UUID, uuid4

import asyncpg

from lakegate_chassis.logs import log
from lakegate_chassis.postgres import connection as acquire
from lakegate_chassis.postgres import tenant_transaction
from lakegate_contracts.identity import Principal, Scope
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.errors import BodyTooLarge, StoreRequired, StoreUnavailable, UploadMissing, UploadNotFound
from lakegate_ingest.metrics import UPLOADS_SWEPT
from lakegate_ingest.settings import BodySettings, UploadSettings
from lakegate_ingest.spool.remote import RemoteSpool
from lakegate_ingest.spool.sinks import checked_name
from lakegate_ingest.uploads import queries
from lakegate_ingest.uploads.queries import UploadRow
from lakegate_ingest.uploads.schemas import DownloadedFile, DownloadPage, Upload, UploadRequest

SWEPT_AT_ONCE = 50
# The store looks at a URL's end when a request begins; the body may take its time.
LATE = timedelta(hours=1)
# Each look lists all uploads in the object store.
STRAY_LOOK_SECONDS = 600.0

P = ParamSpec("P")
T = TypeVar("T")


class Uploads:
    """Without an object store nothing can be handed out."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        warehouse: Warehouse,
        settings: UploadSettings,
        body: BodySettings,
        executor: Executor,
    ) -> None:
        self._pool = pool
        self._warehouse = warehouse
        self._remote = RemoteSpool(warehouse.store) if warehouse.store is not None else None
        self._settings = settings
        self._body = body
        self._executor = executor

    def store(self) -> RemoteSpool:
        """Raises StoreRequired."""
        if self._remote is None:
            raise StoreRequired("The warehouse is a local folder: there is no object store to send files to.")
        return self._remote

    async def presign(self, principal: Principal, request: UploadRequest) -> Upload:
        """Raises StoreRequired, BodyTooLarge, BadFileName."""
        store = self.store()
        if request.size_bytes is not None and request.size_bytes > self._body.max_bytes:
            raise BodyTooLarge(
                f"A load takes files of {self._body.max_bytes:,} bytes at most.", limit_bytes=self._body.max_bytes
            )
        upload_id = uuid4()
        now = datetime.now(UTC)
        lifetime = timedelta(seconds=self._settings.url_seconds)
        kept_until = now + timedelta(hours=self._settings.kept_hours)
        row = UploadRow(
            upload_id, principal.tenant, principal.subject, checked_name(request.file_name, self._body.max_name_chars),
            request.content_type, request.size_bytes, principal.scopes,
        )  # fmt: skip
        url = await self._in_thread(store.sign, "PUT", store.upload_key(principal.tenant, upload_id), lifetime)
        async with tenant_transaction(self._pool, principal.tenant) as connection:
            await queries.insert_upload(connection, row, now + lifetime, kept_until)
        return Upload(
            upload_id=upload_id,
            url=url,
            headers=store.upload_headers(),
            expires_at=now + lifetime,
            kept_until=kept_until,
            max_bytes=self._body.max_bytes,
            load=f"/v1/loads/{{namespace}}/{{table}}?source={upload_id}",
        )

    async def downloads(self, files: list[tuple[str, int]]) -> DownloadPage:
        """(URL in the warehouse, rows) as presigned URLs. Raises StoreRequired."""
        store = self.store()
        lifetime = timedelta(seconds=self._settings.url_seconds)
        expires_at = datetime.now(UTC) + lifetime
        items = [
            DownloadedFile(url=await self._in_thread(store.sign, "GET", self._warehouse.key(url), lifetime), rows=rows)
            for url, rows in files
        ]
        return DownloadPage(items=items, expires_at=expires_at)

    async def take(self, principal: Principal, upload_id: UUID, namespace: str) -> UploadRow:
        """An upload of the caller's whose file is there, for a table of `namespace`.

        Keys that one person made share a subject. So who asked for the URL must have had the right to load it there,
        too: else what was sent for one namespace would be had from another. Raises UploadNotFound, UploadMissing,
        BodyTooLarge.
        """
        store = self.store()
        async with tenant_transaction(self._pool, principal.tenant) as connection:
            row = await queries.get_upload(connection, upload_id)
            if row is None or row.subject != principal.subject or not _was_for(row, namespace):
                raise UploadNotFound(
                    f"You have no upload {upload_id} for a table of {namespace}, or its time is over. Ask for another "
                    "URL with the key that loads it."
                )
            # as long as a load may live
            await queries.keep(connection, upload_id, datetime.now(UTC) + timedelta(hours=24))
        try:
            size = await self._in_thread(store.size, store.upload_key(row.tenant, upload_id))
        except FileNotFoundError as error:
            raise UploadMissing(
                "Nothing has been uploaded to this URL yet. Send the file there first, then load it."
            ) from error
        if size > self._body.max_bytes:
            raise BodyTooLarge(
                f"The file has {size:,} bytes, and a load takes {self._body.max_bytes:,} at most.",
                limit_bytes=self._body.max_bytes,
            )
        if row.size_bytes not in (None, size):
            raise UploadMissing(f"The file has {size:,} bytes, and {row.size_bytes:,} were announced. Upload it again.")
        return replace(row, size_bytes=size)

    async def row(self, tenant: str, upload_id: UUID) -> UploadRow:
        """Raises UploadNotFound."""
        async with tenant_transaction(self._pool, tenant) as connection:
            row = await queries.get_upload(connection, upload_id)
        if row is None:
            raise UploadNotFound(f"The upload {upload_id} is gone.")
        return row

    async def body(self, row: UploadRow) -> AsyncIterator[bytes]:
        """Raises UploadMissing, StoreUnavailable."""
        store = self.store()
        try:
            async for piece in store.pieces(store.upload_key(row.tenant, row.upload_id)):
                yield piece
        except FileNotFoundError as error:
            raise UploadMissing("The uploaded file is gone. Upload it again, and load it then.") from error

    async def done(self, tenant: str, upload_id: UUID) -> None:
        """Its load has completed."""
        async with tenant_transaction(self._pool, tenant) as connection:
            await queries.expire_now(connection, upload_id)

    async def sweep(self, every_seconds: float) -> None:
        """Delete what was loaded, and what nobody loaded in time; runs until cancelled.

        What is sent by a URL whose file was loaded already is deleted once the URL has ended.
        """
        loop = asyncio.get_running_loop()
        next_stray_look = 0.0
        while True:
            await self.sweep_once()
            if loop.time() >= next_stray_look:
                next_stray_look = loop.time() + STRAY_LOOK_SECONDS
                await self.remove_strays()
            await asyncio.sleep(every_seconds)

    async def sweep_all(self) -> int:
        """Until nothing is due; each is put off as it is taken, so this ends."""
        total = 0
        while swept := await self.sweep_once():
            total += swept
        return total

    async def sweep_once(self) -> int:
        """A number at a time; how many were due."""
        if self._remote is None:
            return 0
        async with acquire(self._pool) as connection:
            due = await queries.due(connection, SWEPT_AT_ONCE)
        for upload_id, tenant in due:
            try:
                await self._in_thread(self._remote.remove_upload, tenant, upload_id)
            except StoreUnavailable:
                log.warning("upload_kept", upload_id=str(upload_id), reason="object store unavailable")
                continue  # put off by an hour when it was taken
            async with tenant_transaction(self._pool, tenant) as connection:
                last = await queries.delete_upload(connection, upload_id, LATE)
            if last:
                UPLOADS_SWEPT.inc()
        return len(due)

    async def remove_strays(self) -> int:
        """Files without an expiry, as of a request that took longer than LATE; how many. A page of them at a time."""
        if self._remote is None:
            return 0
        removed = 0
        pages = self._remote.uploads()
        try:
            while (page := await self._in_thread(next, pages, None)) is not None:
                async with acquire(self._pool) as connection:
                    awaited = await queries.awaited(connection, list(page))
                for upload_id in page.keys() - awaited:
                    await self._in_thread(self._remote.remove_upload, page[upload_id], upload_id)
                    UPLOADS_SWEPT.inc()
                    removed += 1
        except StoreUnavailable:
            log.warning("stray_uploads_wait", reason="object store unavailable", removed=removed)
        return removed

    async def _in_thread(self, run: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(run, *arguments, **named))


def _was_for(row: UploadRow, namespace: str) -> bool:
    asked = Principal(tenant=row.tenant, subject=row.subject, scopes=row.scopes) if row.scopes is not None else None
    return asked is None or asked.allows(Scope.LOADS_WRITE, namespace)
