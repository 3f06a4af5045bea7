"""Rows out of a table: found through the catalog as the caller, streamed no faster than the client reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import pyarrow as pa

from lakegate_chassis.logs import log
from lakegate_contracts.names import TableName
from lakegate_ingest.commit.catalog import Catalog, NoSuchTable
from lakegate_ingest.commit.files import TenantFiles
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.errors import TableFileMissing, TableNotFound, TooManyStreams
from lakegate_ingest.metrics import ROW_STREAMS
from lakegate_ingest.settings import RowsSettings
from lakegate_ingest.tables.formats import Encoder, RowFormat
from lakegate_ingest.tables.scan import RowQuery, Scan


class RowService:
    """Bounded downloads: each has at most one batch in a thread and one on its way to the client."""

    def __init__(self, catalog: Catalog, settings: RowsSettings, warehouse: Warehouse) -> None:
        self._catalog = catalog
        self._warehouse = warehouse
        self._settings = settings
        self._open = 0
        self._threads = ThreadPoolExecutor(settings.max_streams, "rows")

    async def open(
        self, tenant: str, table: TableName, delegation: str, query: RowQuery, format_: RowFormat
    ) -> AsyncIterator[bytes]:
        """The stream, once its first bytes are known; what is wrong with the query is raised here."""
        if self._open >= self._settings.max_streams:
            raise TooManyStreams(f"{self._open} downloads are running, which is the limit. Try again shortly.")
        self._open += 1
        ROW_STREAMS.inc()
        begun = False
        try:
            try:
                loaded = await self._catalog.load(tenant, table, delegation)
            except NoSuchTable as error:
                raise TableNotFound(f"No table is named {table}. GET /v1/datasets lists what there is.") from error
            loop = asyncio.get_running_loop()

            def plan() -> tuple[Iterator[bytes], bytes]:
                files = TenantFiles(self._warehouse, tenant)
                scan = Scan(loaded.metadata, files, query, batch_rows=self._settings.batch_rows)
                chunks = _encoded(scan, format_)
                return chunks, next(chunks)

            with _told(tenant, table, query):
                chunks, first = await loop.run_in_executor(self._threads, plan)
            begun = True
            return self._stream(chunks, first, _told(tenant, table, query))
        finally:
            if not begun:
                self._close()

    async def _stream(
        self, chunks: Iterator[bytes], first: bytes, told: AbstractContextManager[None]
    ) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        chunk: bytes | None = first
        try:
            with told:
                while chunk is not None:
                    yield chunk
                    chunk = await loop.run_in_executor(self._threads, next, chunks, None)
        finally:
            self._close()

    def _close(self) -> None:
        self._open -= 1
        ROW_STREAMS.dec()


@contextmanager
def _told(tenant: str, table: TableName, query: RowQuery) -> Iterator[None]:
    """Whoever keeps the warehouse has to hear that a file of it is gone, even if the reader takes another snapshot."""
    try:
        yield
    except TableFileMissing as error:
        log.error(
            "table_file_missing",
            tenant=tenant, table=str(table), snapshot_id=query.snapshot_id, reason=error.detail,
        )  # fmt: skip
        raise


def _encoded(scan: Scan, format_: RowFormat) -> Iterator[bytes]:
    """Never an empty chunk but perhaps the first, which comes together with the first batch."""
    encoder = Encoder(format_, scan.schema)
    batches: Iterator[pa.RecordBatch] = scan.batches()
    first = next(batches, None)
    yield encoder.start() + (encoder.batch(first) if first is not None else b"")
    for batch in batches:
        yield encoder.batch(batch)
    yield encoder.end()
