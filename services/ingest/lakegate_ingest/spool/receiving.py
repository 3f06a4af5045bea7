"""Receive a request's body: collected on the event loop; hashed, decoded and written in a thread meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

from starlette.requests import ClientDisconnect

from lakegate_ingest.errors import BodyTooLarge, ClientClosed, TooSlow
from lakegate_ingest.settings import BodySettings
from lakegate_ingest.spool.decoding import decoder_for
from lakegate_ingest.spool.folders import Spool
from lakegate_ingest.spool.multipart import MultipartSink, boundary_of
from lakegate_ingest.spool.sinks import FileSink, HashSink, Opener, SpooledFile, checked_name

BATCH_BYTES = 1 << 20
DEFAULT_NAME = "body"


class Sink(Protocol):
    def feed(self, chunks: Sequence[bytes]) -> None: ...


@dataclass(frozen=True)
class BodyHeaders:
    """What the request says of its body before it is read."""

    content_length: int | None
    content_type: str
    content_encoding: str | None
    file_name: str | None


@dataclass(frozen=True)
class ReceivedBody:
    """The files on disk. `fingerprint` is one hash of all that was sent, equal for equal repeats."""

    files: list[SpooledFile]
    fingerprint: str
    received_bytes: int


def check_length(content_length: int | None, limits: BodySettings) -> None:
    """Refuse by Content-Length, before a byte is read. Raises BodyTooLarge."""
    if content_length is not None and content_length > limits.max_bytes:
        raise _too_large(limits)


def _too_large(limits: BodySettings) -> BodyTooLarge:
    return BodyTooLarge(
        f"A body may have {limits.max_bytes:,} bytes at most. Split the file, or send it with Content-Encoding: zstd.",
        limit_bytes=limits.max_bytes,
    )


async def receive_body(
    stream: AsyncIterator[bytes],
    headers: BodyHeaders,
    *,
    spool: Spool,
    load_id: UUID,
    folder: Path,
    limits: BodySettings,
    opener: Opener,
    executor: Executor,
    on_batch: Callable[[int, FileSink | None], None],
) -> ReceivedBody:
    """Spool the body into `folder`. Raises BodyError and SpoolFull; the caller removes the folder then.

    `on_batch` hears of every megabyte: the bytes received so far, and the file when there is only one.
    """
    transport = decoder_for(headers.content_encoding, limits)
    boundary = boundary_of(headers.content_type)
    if boundary is None:
        sink = FileSink(
            spool=spool, load_id=load_id, path=folder / "in-0", name=headers.file_name or DEFAULT_NAME,
            content_type=headers.content_type, limits=limits, opener=opener, transport=transport,
            expected_bytes=headers.content_length if headers.content_encoding is None else None,
        )  # fmt: skip
        try:
            received = await _pump(stream, sink, limits, executor, lambda size: on_batch(size, sink))
            file = await asyncio.get_running_loop().run_in_executor(executor, sink.close)
        finally:
            sink.abort()
        return ReceivedBody([file], file.sha256, received)

    def open_part(index: int, name: str, headers: Mapping[str, str]) -> FileSink:
        return FileSink(
            spool=spool, load_id=load_id, path=folder / f"in-{index}", name=name,
            content_type=headers.get("content-type", ""), limits=limits, opener=opener,
            transport=decoder_for(headers.get("content-encoding"), limits),
        )  # fmt: skip

    parts = MultipartSink(boundary, max_files=limits.max_files, open_part=open_part, transport=transport)
    try:
        received = await _pump(stream, parts, limits, executor, lambda size: on_batch(size, None))
        files = await asyncio.get_running_loop().run_in_executor(executor, parts.close)
    finally:
        parts.abort()
    return ReceivedBody(files, parts_fingerprint([(file.name, file.sha256) for file in files]), received)


def parts_fingerprint(parts: Sequence[tuple[str, str]]) -> str:
    """One hash for a multipart body: its boundary is random, so two equal uploads differ in their raw bytes."""
    digest = hashlib.sha256()
    for name, sha256 in parts:
        digest.update(f"{name}\0{sha256}\0".encode())
    return digest.hexdigest()


async def fingerprint_body(
    stream: AsyncIterator[bytes], headers: BodyHeaders, *, limits: BodySettings, executor: Executor
) -> str:
    """The fingerprint that receive_body would give, of a body that is not kept. Raises BodyError."""
    boundary = boundary_of(headers.content_type)
    if boundary is None:
        whole = HashSink("")
        await _pump(stream, whole, limits, executor)
        return whole.close().sha256

    def open_part(index: int, name: str, headers: Mapping[str, str]) -> HashSink:
        return HashSink(checked_name(name, limits.max_name_chars))

    transport = decoder_for(headers.content_encoding, limits)
    parts = MultipartSink(boundary, max_files=limits.max_files, open_part=open_part, transport=transport)
    await _pump(stream, parts, limits, executor)
    return parts_fingerprint([(file.name, file.sha256) for file in parts.close()])


async def _pump(
    stream: AsyncIterator[bytes],
    sink: Sink,
    limits: BodySettings,
    executor: Executor,
    on_batch: Callable[[int], None] | None = None,
) -> int:
    """Move the stream into the sink, about a megabyte at a time; returns the bytes received."""
    loop = asyncio.get_running_loop()
    received = 0
    size = 0
    batch: list[bytes] = []
    writing: asyncio.Future[None] | None = None
    try:
        async with minimum_rate(limits) as progress:
            async for chunk in stream:
                if not chunk:
                    continue
                received += len(chunk)
                progress.received = received
                if received > limits.max_bytes:
                    raise _too_large(limits)
                batch.append(chunk)
                size += len(chunk)
                if size >= BATCH_BYTES:
                    if writing is not None:
                        progress.waiting_for_disk = True
                        await writing
                        progress.waiting_for_disk = False
                    writing = loop.run_in_executor(executor, sink.feed, batch)
                    batch, size = [], 0
                    if on_batch is not None:
                        on_batch(received)
        if writing is not None:
            await writing
        writing = loop.run_in_executor(executor, sink.feed, batch)
        await writing
    except ClientDisconnect as error:
        raise ClientClosed("The client closed the connection before the body was complete.") from error
    finally:
        # The thread may still hold the file: it must not be closed, nor its folder removed, under it.
        if writing is not None and not writing.done():
            await asyncio.wait([writing])
        if writing is not None and writing.done() and not writing.cancelled():
            writing.exception()
    return received


class _Progress:
    def __init__(self) -> None:
        self.received = 0
        self.waiting_for_disk = False


@asynccontextmanager
async def minimum_rate(limits: BodySettings) -> AsyncIterator[_Progress]:
    """Raise TooSlow when a whole window brought less than the minimum rate; time we spend writing does not count.

    One timer a window instead of one a chunk: a timeout around each read would cost a fifth of the throughput.
    """
    progress = _Progress()
    loop = asyncio.get_running_loop()
    least = limits.min_bytes_per_second * limits.rate_window_seconds
    seen = 0
    disk_seen = False
    timer: asyncio.TimerHandle | None = None

    def look() -> None:
        nonlocal seen, disk_seen, timer
        slow = progress.received - seen < least
        if slow and not progress.waiting_for_disk and not disk_seen:
            deadline.reschedule(loop.time())
            return
        seen, disk_seen = progress.received, progress.waiting_for_disk
        timer = loop.call_later(limits.rate_window_seconds, look)

    try:
        async with asyncio.timeout(None) as deadline:
            if least > 0:
                timer = loop.call_later(limits.rate_window_seconds, look)
            try:
                yield progress
            finally:
                if timer is not None:
                    timer.cancel()
    except TimeoutError as error:
        raise TooSlow(
            f"Less than {limits.min_bytes_per_second:,} bytes a second arrived over {limits.rate_window_seconds:g} s. "
            "Send the file from a faster place, or compressed.",
            headers={"connection": "close"},
        ) from error
