"""Rows out of a table: found through the catalog as the caller, streamed no faster than the client reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager

from pyiceberg.table.metadata import TableMetadata

from lakegate_chassis.logs import log
from lakegate_contracts.names import TableName
from lakegate_ingest.commit.catalog import Catalog, NoSuchTable
from lakegate_ingest.commit.files import TableFiles
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.downloads import Downloads
from lakegate_ingest.errors import RowsLate, TableDamaged, TableNotFound
from lakegate_ingest.settings import RowsSettings
from lakegate_ingest.tables.formats import Encoder, RowFormat
from lakegate_ingest.tables.scan import RowQuery, Scan


class RowService:
    """A download begins within a time, and reads what is the tenant's."""

    def __init__(self, catalog: Catalog, settings: RowsSettings, warehouse: Warehouse, downloads: Downloads) -> None:
        self._catalog = catalog
        self._warehouse = warehouse
        self._settings = settings
        self._downloads = downloads

    async def open(
        self, tenant: str, table: TableName, delegation: str, query: RowQuery, format_: RowFormat
    ) -> AsyncIterator[bytes]:
        """The stream, once its first bytes are known; what is wrong with the query is raised here.

        Raises TooManyStreams, RowsLate.
        """
        seconds = self._settings.begin_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._downloads.begun(tenant, self._stream(tenant, table, delegation, query, format_))
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
        with _told(tenant, table, query):
            async with aclosing(self._downloads.threaded(chunks)) as stream:
                async for chunk in stream:
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
    """The first chunk comes together with the first batch; an empty one says that the reader may stop here."""
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
