"""Loads whose body is an uploaded file: received from the object store, by whichever process has the load."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

import asyncpg

from lakegate_chassis.postgres import tenant_transaction
from lakegate_ingest import engine
from lakegate_ingest.loads import queries
from lakegate_ingest.loads.live import LiveLoad
from lakegate_ingest.loads.queries import LoadRow
from lakegate_ingest.loads.reading import engine_problem
from lakegate_ingest.loads.received import opener_for, stored_files
from lakegate_ingest.metrics import RECEIVED_BYTES
from lakegate_ingest.settings import BodySettings
from lakegate_ingest.spool.folders import Spool
from lakegate_ingest.spool.receiving import BodyHeaders, receive_body
from lakegate_ingest.spool.sinks import FileSink
from lakegate_ingest.uploads.service import Uploads


class Sources:
    """Turns an upload into the spooled files of a load, as often as it takes."""

    def __init__(
        self, pool: asyncpg.Pool, uploads: Uploads, spool: Spool, limits: BodySettings, executor: Executor
    ) -> None:
        self._pool = pool
        self._uploads = uploads
        self._spool = spool
        self._limits = limits
        self._executor = executor

    async def receive(self, load: LoadRow, live: LiveLoad) -> None:
        """Spool the upload; a load that was still receiving is queued by it. Raises Problem."""
        assert load.options.source is not None
        upload = await self._uploads.row(load.tenant, load.options.source)
        headers = BodyHeaders(upload.size_bytes, upload.content_type, None, upload.file_name)
        await asyncio.to_thread(self._spool.remove, load.load_id)
        folder = await asyncio.to_thread(self._spool.create, load.load_id)

        def on_batch(received: int, _: FileSink | None) -> None:
            live.progress = live.progress.model_copy(update={"bytes_received": received})

        try:
            body = await receive_body(
                self._uploads.body(upload), headers, spool=self._spool, load_id=load.load_id, folder=folder,
                limits=self._limits, opener=opener_for(load.options), executor=self._executor, on_batch=on_batch,
            )  # fmt: skip
            files = await asyncio.get_running_loop().run_in_executor(self._executor, stored_files, body)
        except engine.EngineError as error:
            raise engine_problem(error) from error
        async with tenant_transaction(self._pool, load.tenant) as connection:
            await queries.set_received(
                connection, load.load_id, files=files, fingerprint=body.fingerprint, received_bytes=body.received_bytes
            )
        RECEIVED_BYTES.inc(body.received_bytes)
