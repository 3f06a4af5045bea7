"""The async client: the same calls, awaited."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import httpx

from lakegate.client import connection, waiting
from lakegate.client.calls import Call
from lakegate.client.errors import problem_error
from lakegate.client.lines import alines_of, reject_of
from lakegate.client.models import Dataset, Load, LoadEvent, Reject, StreamedRow
from lakegate.client.operations import (
    Operations,
    Stream,
    cursor_of,
    load_events,
    load_rejects,
    stream_tail,
    table_rows,
)
from lakegate.client.retries import Retries
from lakegate.client.sse import EventLines, load_event, streamed_row
from lakegate.client.tracing import CallTrace
from lakegate.client.uploads import Source, Upload, Uploaded
from lakegate_contracts.receipts import Receipt

T = TypeVar("T")


class AsyncClient(Operations):
    """`Client` for asyncio: the same parameters, the same errors; iterators are async ones."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: httpx.Timeout | float | None = None,
        retries: Retries | None = None,
        headers: dict[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        record_traces: bool = False,
    ) -> None:
        self.url = url.rstrip("/")
        self._retries = retries or Retries()
        self._record_traces = record_traces
        self._http = httpx.AsyncClient(**connection.options(url, key, timeout, headers), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Send a call and read its answer; what the methods do."""

        def build() -> httpx.Request:
            request = self._http.build_request(**call.arguments())
            return request if call.auth else connection.drop_auth(request)

        async with self._answer(build, idempotent=call.idempotent) as response:
            await response.aread()
            return call.read(response)

    async def push(
        self,
        source: Source,
        table: str,
        *,
        name: str | None = None,
        on_upload: Uploaded | None = None,
        on_event: Callable[[LoadEvent], None] | None = None,
        timeout_seconds: float = 3600,
        **options: Any,
    ) -> Receipt:
        """Load a file into a table and wait for the receipt; see Client.push."""
        wait = 0 if on_event is not None else 30
        begun = await self.start_push(source, table, name=name, on_upload=on_upload, wait_seconds=wait, **options)
        if isinstance(begun, Receipt):
            return begun
        if on_event is not None:
            # A stream that breaks off only costs the view of the phases: the load is waited for all the same.
            with suppress(*waiting.OUTAGES):
                async for event in self.events(begun.load_id):
                    on_event(event)
        return await self.wait(begun.load_id, timeout_seconds=timeout_seconds)

    async def start_push(
        self,
        source: Source,
        table: str,
        *,
        name: str | None = None,
        on_upload: Uploaded | None = None,
        wait_seconds: int = 0,
        **options: Any,
    ) -> Receipt | Load:
        """Send a file; the receipt if the load settled within `wait_seconds` (30 at most), else the running load."""
        upload = Upload.of(source, table, name=name, wait_seconds=wait_seconds, **options)

        def build() -> httpx.Request:
            arguments = connection.upload_arguments(upload)
            return self._http.build_request(**arguments, content=_off_loop(upload.body.blocks(on_upload)))

        async with self._answer(build, idempotent=upload.replayable) as response:
            await response.aread()
            return waiting.answered(response)

    async def wait(self, load_id: UUID | str, *, timeout_seconds: float = 3600) -> Receipt:
        """Poll until the load has settled, riding out outages of up to half a minute.

        Raises LoadFailed, StillRunning.
        """
        patience = waiting.Patience(load_id, timeout_seconds)
        while True:
            try:
                load = await self.load(load_id)
            except waiting.OUTAGES as error:
                patience.bear(error)
            else:
                patience.answered()
                if load.settled:
                    return waiting.receipt_of(load)
            await asyncio.sleep(patience.next_pause())

    async def events(self, load_id: UUID | str) -> AsyncIterator[LoadEvent]:
        """The phases of a load as they happen; ends when it has settled, or when the server ends the stream."""
        async with self._stream(load_events(load_id)) as response:
            lines = EventLines()
            async for line in alines_of(response):
                if (complete := lines.feed(line)) is not None:
                    event = load_event(*complete)
                    yield event
                    if event.state in waiting.TERMINAL:
                        return

    async def tail(self, table: str, *, earliest: bool = False) -> AsyncIterator[StreamedRow]:
        """Rows of a stream as they arrive; ends when the server ends it: after ten minutes, or with its key."""
        async with self._stream(stream_tail(table, earliest=earliest)) as response:
            lines = EventLines()
            async for line in alines_of(response):
                if (complete := lines.feed(line)) is not None:
                    yield streamed_row(complete[1])

    async def all_rejects(self, load_id: UUID | str, *, page_size: int | None = None) -> AsyncIterator[Reject]:
        """Every row that a load set aside, streamed: nothing is held but the current one.

        With a `page_size` they are asked for in pages, which bears an outage between them, and a reader that is slow.
        """
        if page_size is None:
            async with self._stream(load_rejects(load_id)) as response:
                async for line in alines_of(response):
                    if line:
                        yield reject_of(line)
            return
        cursor: str | None = None
        while True:
            page = await self.rejects(load_id, limit=page_size, cursor=cursor)
            for item in page.items:
                yield item
            if (cursor := cursor_of(page.next)) is None:
                return

    async def all_datasets(self, *, namespace: str | None = None, page_size: int = 200) -> AsyncIterator[Dataset]:
        """Every dataset that the caller may see, page by page."""
        cursor: str | None = None
        while True:
            page = await self.datasets(namespace=namespace, limit=page_size, cursor=cursor)
            for item in page.items:
                yield item
            if (cursor := cursor_of(page.next)) is None:
                return

    async def rows(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        filter: str | None = None,
        limit: int | None = None,
        snapshot: int | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """A table's rows, streamed: nothing is held but the current one."""
        async with self._stream(table_rows(table, columns, filter, limit, snapshot)) as response:
            async for line in alines_of(response):
                if line:
                    yield json.loads(line)

    @asynccontextmanager
    async def _stream(self, stream: Stream) -> AsyncIterator[httpx.Response]:
        def build() -> httpx.Request:
            return self._http.build_request(**stream.arguments())

        async with self._answer(build, idempotent=True) as response:
            try:
                yield response
            except httpx.TransportError as error:
                raise connection.unreachable(response.request, error) from error

    @asynccontextmanager
    async def _answer(self, build: Callable[[], httpx.Request], *, idempotent: bool) -> AsyncIterator[httpx.Response]:
        """The open answer to a request below 400; the request is built anew for each attempt."""
        attempt = 0
        trace = CallTrace(record=self._record_traces)
        while True:
            attempt += 1
            request = build()
            request.headers.setdefault("traceparent", trace.traceparent())
            try:
                response = await self._http.send(request, stream=True)
                if response.is_error:
                    await response.aread()
            except httpx.TransportError as error:
                pause = self._retries.after_error(error, attempt, idempotent=idempotent)
                if pause is None:
                    raise connection.unreachable(request, error) from error
            else:
                pause = self._retries.after_answer(response, attempt, idempotent=idempotent)
                if pause is None:
                    break
                await response.aclose()
            await asyncio.sleep(pause)
        try:
            if response.is_error:
                raise problem_error(response)
            yield response
        finally:
            await response.aclose()


async def _off_loop(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read a file's blocks in a thread, so that a slow disk does not hold up the event loop."""
    while (block := await asyncio.to_thread(next, blocks, None)) is not None:
        yield block
