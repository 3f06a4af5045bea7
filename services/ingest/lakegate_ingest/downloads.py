"""Rows on their way out, of tables and of quarantines: streamed no faster than the client reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

from lakegate_ingest.metrics import ROW_STREAMS
from lakegate_ingest.places import Places
from lakegate_ingest.settings import RowsSettings


class Downloads:
    """A bounded number of them: each has at most one chunk in a thread and one on its way to the client."""

    def __init__(self, settings: RowsSettings) -> None:
        self._threads = ThreadPoolExecutor(settings.max_streams, "rows")
        self._places = Places(
            settings.max_streams, settings.max_streams_per_tenant, ROW_STREAMS, kind="downloads of rows"
        )

    async def begun(self, tenant: str, chunks: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
        """The stream, once its first bytes are known. Raises TooManyStreams, and what they raise."""
        return await self._places.begun(tenant, chunks)

    async def threaded(self, chunks: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
        """What a generator that blocks makes; where it gives nothing, it can be left.

        A generator from the first line on: whatever ends by StopIteration in there, pyiceberg's bare `next` for one, is
        a RuntimeError outside. An asyncio future can't hold a StopIteration: who awaits it would wait for ever.
        """
        loop = asyncio.get_running_loop()
        while (chunk := await loop.run_in_executor(self._threads, next, chunks, None)) is not None:
            if chunk:
                yield chunk
