"""The sync client."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import httpx

from lakegate.client import connection, waiting
from lakegate.client.calls import Call
from lakegate.client.errors import problem_error
from lakegate.client.lines import lines_of, reject_of
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


class Client(Operations):
    """One connection pool to one gateway.

    `key` is an API key or an OAuth access token; `url` the gateway's root; `record_traces` asks it to record the trace
    of each call, whose id receipts and problems name. Every method raises the errors of
    lakegate.client.errors, InvalidName (a ValueError) for a table's name that can't be one, and no others on purpose.

        with Client("http://127.0.0.1:8080", key) as lake:
            receipt = lake.push("flights.csv", "travel.flights")
            for reject in lake.all_rejects(receipt.load_id):
                print(reject.line, reject.column, reject.reason)
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: httpx.Timeout | float | None = None,
        retries: Retries | None = None,
        headers: dict[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
        record_traces: bool = False,
    ) -> None:
        self.url = url.rstrip("/")
        self._retries = retries or Retries()
        self._record_traces = record_traces
        self._http = httpx.Client(**connection.options(url, key, timeout, headers), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Send a call and read its answer; what the methods do."""

        def build() -> httpx.Request:
            request = self._http.build_request(**call.arguments())
            return request if call.auth else connection.drop_auth(request)

        with self._answer(build, idempotent=call.idempotent) as response:
            response.read()
            return call.read(response)

    def push(
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
        """Load a file into a table and wait for the receipt.

        `on_upload(sent, total)` follows the bytes, `on_event` the server's phases. `options` are the fields of
        `Upload`: format, null, delimiter, header, on_new_column, dry_run, content_encoding, idempotency_key.
        Raises Refused, LoadFailed, ServiceFailed, Unreachable, StillRunning.
        """
        # To follow the phases we must know the load's id early: don't let the POST itself wait.
        wait = 0 if on_event is not None else 30
        begun = self.start_push(source, table, name=name, on_upload=on_upload, wait_seconds=wait, **options)
        if isinstance(begun, Receipt):
            return begun
        if on_event is not None:
            # A stream that breaks off only costs the view of the phases: the load is waited for all the same.
            with suppress(*waiting.OUTAGES):
                for event in self.events(begun.load_id):
                    on_event(event)
        return self.wait(begun.load_id, timeout_seconds=timeout_seconds)

    def start_push(
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
            return self._http.build_request(**arguments, content=upload.body.blocks(on_upload))

        with self._answer(build, idempotent=upload.replayable) as response:
            response.read()
            return waiting.answered(response)

    def wait(self, load_id: UUID | str, *, timeout_seconds: float = 3600) -> Receipt:
        """Poll until the load has settled, riding out outages of up to half a minute.

        Raises LoadFailed, StillRunning.
        """
        patience = waiting.Patience(load_id, timeout_seconds)
        while True:
            try:
                load = self.load(load_id)
            except waiting.OUTAGES as error:
                patience.bear(error)
            else:
                patience.answered()
                if load.settled:
                    return waiting.receipt_of(load)
            time.sleep(patience.next_pause())

    def events(self, load_id: UUID | str) -> Iterator[LoadEvent]:
        """The phases of a load as they happen; ends when it has settled, or when the server ends the stream."""
        with self._stream(load_events(load_id)) as response:
            lines = EventLines()
            for line in lines_of(response):
                if (complete := lines.feed(line)) is not None:
                    event = load_event(*complete)
                    yield event
                    if event.state in waiting.TERMINAL:
                        return

    def tail(self, table: str, *, earliest: bool = False) -> Iterator[StreamedRow]:
        """Rows of a stream as they arrive; ends when the server ends it: after ten minutes, or with its key."""
        with self._stream(stream_tail(table, earliest=earliest)) as response:
            lines = EventLines()
            for line in lines_of(response):
                if (complete := lines.feed(line)) is not None:
                    yield streamed_row(complete[1])

    def all_rejects(self, load_id: UUID | str, *, page_size: int | None = None) -> Iterator[Reject]:
        """Every row that a load set aside, streamed: nothing is held but the current one.

        With a `page_size` they are asked for in pages, which bears an outage between them, and a reader that is slow.
        """
        if page_size is None:
            with self._stream(load_rejects(load_id)) as response:
                for line in lines_of(response):
                    if line:
                        yield reject_of(line)
            return
        cursor: str | None = None
        while True:
            page = self.rejects(load_id, limit=page_size, cursor=cursor)
            yield from page.items
            if (cursor := cursor_of(page.next)) is None:
                return

    def all_datasets(self, *, namespace: str | None = None, page_size: int = 200) -> Iterator[Dataset]:
        """Every dataset that the caller may see, page by page."""
        cursor: str | None = None
        while True:
            page = self.datasets(namespace=namespace, limit=page_size, cursor=cursor)
            yield from page.items
            if (cursor := cursor_of(page.next)) is None:
                return

    def rows(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        filter: str | None = None,
        limit: int | None = None,
        snapshot: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """A table's rows, streamed: nothing is held but the current one."""
        with self._stream(table_rows(table, columns, filter, limit, snapshot)) as response:
            for line in lines_of(response):
                if line:
                    yield json.loads(line)

    @contextmanager
    def _stream(self, stream: Stream) -> Iterator[httpx.Response]:
        def build() -> httpx.Request:
            return self._http.build_request(**stream.arguments())

        with self._answer(build, idempotent=True) as response:
            try:
                yield response
            except httpx.TransportError as error:
                raise connection.unreachable(response.request, error) from error

    @contextmanager
    def _answer(self, build: Callable[[], httpx.Request], *, idempotent: bool) -> Iterator[httpx.Response]:
        """The open answer to a request below 400; the request is built anew for each attempt."""
        attempt = 0
        trace = CallTrace(record=self._record_traces)
        while True:
            attempt += 1
            request = build()
            request.headers.setdefault("traceparent", trace.traceparent())
            try:
                response = self._http.send(request, stream=True)
                if response.is_error:
                    response.read()
            except httpx.TransportError as error:
                pause = self._retries.after_error(error, attempt, idempotent=idempotent)
                if pause is None:
                    raise connection.unreachable(request, error) from error
            else:
                pause = self._retries.after_answer(response, attempt, idempotent=idempotent)
                if pause is None:
                    break
                response.close()
            time.sleep(pause)
        try:
            if response.is_error:
                raise problem_error(response)
            yield response
        finally:
            response.close()
