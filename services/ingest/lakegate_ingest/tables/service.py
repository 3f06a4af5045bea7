"""Rows out of a table: found through the catalog as the caller, streamed no faster than the client reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from pyiceberg.table.metadata import TableMetadata

from lakegate_chassis.logs import log
from lakegate_contracts.names import TableName
from lakegate_ingest.commit.catalog import Catalog, NoSuchTable
from lakegate_ingest.commit.files import TableFiles
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.errors import RowsLate, TableDamaged, TableNotFound
from lakegate_ingest.metrics import ROW_STREAMS
from lakegate_ingest.places import Places
from lakegate_ingest.settings import RowsSettings
from lakegate_ingest.tables.formats import Encoder, RowFormat
from lakegate_ingest.tables.scan import RowQuery, Scan


class RowService:
    """Bounded downloads: each has at most one batch in a thread and one on its way to the client."""

    def __init__(self, catalog: Catalog, settings: RowsSettings, warehouse: Warehouse) -> None:
        self._catalog = catalog
        self._warehouse = warehouse
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.max_streams, "rows")
        self._places = Places(
            settings.max_streams, settings.max_streams_per_tenant, ROW_STREAMS, kind="downloads of rows"
        )

    async def open(
        self, tenant: str, table: TableName, delegation: str, query: RowQuery, format_: RowFormat
    ) -> AsyncIterator[bytes]:
        """The stream, once its first bytes are known; what is wrong with the query is raised here.

        Raises TooManyStreams, RowsLate.
        """
        seconds = self._settings.begin_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._places.begun(tenant, self._stream(tenant, table, delegation, query, format_))
        except TimeoutError as error:
            raise RowsLate(
                f"In {seconds:g} seconds no row was found that the filter wants, or the warehouse is very slow. "
                "Narrow the filter, name fewer columns, or try again later."
            ) from error

    async def _stream(
        self, tenant: str, table: TableName, delegation: str, query: RowQuery, format_: RowFormat
    ) -> AsyncGenerator[bytes, None]:
        try:
            loaded = await self._catalog.load(tenant, table, delegation)
        except NoSuchTable as error:
            raise TableNotFound(f"No table is named {table}. GET /v1/datasets lists what there is.") from error
        files = TableFiles(self._warehouse, tenant, loaded.metadata.location)
        chunks = _encoded(loaded.metadata, files, query, format_, self._settings.batch_rows)
        loop = asyncio.get_running_loop()
        with _told(tenant, table, query):
            while (chunk := await loop.run_in_executor(self._threads, next, chunks, None)) is not None:
                if chunk:
                    yield chunk


@contextmanager
def _told(tenant: str, table: TableName, query: RowQuery) -> Iterator[None]:
    """Whoever keeps the warehouse has to hear that a file of it is gone or damaged, even if the reader takes another
    snapshot."""
    try:
        yield
    except TableDamaged as error:
        log.error(
            error.slug.replace("-", "_"),
            tenant=tenant, table=str(table), snapshot_id=query.snapshot_id, reason=error.detail,
        )  # fmt: skip
        raise


def _encoded(
    metadata: TableMetadata, files: TableFiles, query: RowQuery, format_: RowFormat, batch_rows: int
) -> Iterator[bytes]:
    """The first chunk comes together with the first batch; an empty one says that the reader may stop here.

    A generator from the first line on: whatever ends by StopIteration in here, pyiceberg's bare `next` for one, is a
    RuntimeError outside. An asyncio future can't hold a StopIteration: who awaits it would wait for ever.
    """
    scan = Scan(metadata, files, query, batch_rows=batch_rows)
    encoder = Encoder(format_, scan.schema)
    head = encoder.start()
    for batch in scan.batches():
        if batch is None:
            yield b""
        else:
            yield head + encoder.batch(batch)
            head = b""
    yield head + encoder.end()
