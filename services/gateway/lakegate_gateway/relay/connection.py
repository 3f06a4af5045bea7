"""One HTTP/1.1 connection to an upstream, with back-pressure both ways (RFC 9112)."""

from __future__ import annotations

import asyncio
import select
from collections import deque
from typing import cast

import httptools

# What the socket may hand over before the client has taken the last of it.
READ_HIGH_BYTES = 512 * 1024
WRITE_HIGH_BYTES = 1024 * 1024

# RFC 9110 7.6.1, and what the gateway's own server adds to each answer itself.
_DROPPED = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"date",
        b"server",
    }
)


class UpstreamFailed(Exception):
    """A call that got no whole answer.

    UpstreamFailed
    ├── Unreachable   no connection was made: not a byte was sent
    ├── Saturated     every connection is in use: not a byte was sent
    ├── CircuitOpen   it could not be reached a moment ago, and was not tried: not a byte was sent
    └── Broken        the connection ended or spoke no HTTP; `answered` when some of the answer had come
    """


class Unreachable(UpstreamFailed):
    pass


class Saturated(UpstreamFailed):
    pass


class CircuitOpen(UpstreamFailed):
    pass


class Broken(UpstreamFailed):
    def __init__(self, reason: str, *, answered: bool) -> None:
        super().__init__(reason)
        self.answered = answered


class Connection(asyncio.Protocol):
    """Write a request with `write` and `write_body`, then read its answer with `head` and `read`.

    One coroutine may write while another reads. `status` is 0 until the head of the answer has come.
    """

    __slots__ = (
        "_chunks",
        "_drain",
        "_framed",
        "_held",
        "_loop",
        "_named",
        "_parser",
        "_reading_paused",
        "_transport",
        "_until_close",
        "_waiter",
        "_write_paused",
        "complete",
        "failure",
        "headers",
        "idle_since",
        "keep_alive",
        "only_head",
        "status",
        "used",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None
        self._drain: asyncio.Future[None] | None = None
        self._write_paused = False
        self._chunks: deque[bytes] = deque()
        self.used = False
        self.idle_since = 0.0
        self.failure: Broken | None = None
        self._reset()
        self._parser = httptools.HttpResponseParser(self)

    def _reset(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.keep_alive = False
        self.only_head = False
        self._framed = False
        self._named: set[bytes] = set()
        self._until_close = False
        self._reading_paused = False
        self._held = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._transport.set_write_buffer_limits(WRITE_HIGH_BYTES)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.keep_alive = False
            if not self.complete:
                self._fail(f"it answered no valid HTTP: {error}")
            self._transport.abort()
            return
        self._wake()

    def eof_received(self) -> None:
        # what may still come is nothing; the transport closes, and connection_lost tells whoever waits
        return

    def connection_lost(self, exc: Exception | None) -> None:
        self.keep_alive = False
        if self._until_close and exc is None:
            self.complete = True
        if not self.complete:
            self._fail("it closed the connection before its answer was complete")
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self.complete or not self.used:
            raise ValueError("an answer that nobody asked for")
        self.status = 0
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:
            return  # trailers
        name = name.lower()
        if name in _DROPPED:
            self._framed |= name == b"transfer-encoding"
            if name == b"connection" and value.lower() not in (b"keep-alive", b"close"):
                self._named = {token.strip() for token in value.lower().split(b",")}
            return
        self._framed |= name == b"content-length"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return  # 100 and 103 are for us, the real answer follows
        self.status = status
        self.keep_alive = self._parser.should_keep_alive()
        if self.only_head:
            self.complete = True
            return
        if status in (204, 304):
            # they have no body; the length that some send with a 304 is of the body that a 200 would have
            self.headers = [pair for pair in self.headers if pair[0] != b"content-length"]
        if self._named:
            self.headers = [pair for pair in self.headers if pair[0] not in self._named]
        # only without a length does the end of the connection end the body (RFC 9112 6.3)
        self._until_close = not self._framed

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._held += len(body)
        if self._held > READ_HIGH_BYTES and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.status:
            self.complete = True
            self._until_close = False

    # writing

    def begin(self, *, only_head: bool) -> None:
        """Take the connection for a request; `only_head` says that the answer has no body (HEAD)."""
        if self.only_head:
            # it still waits for the body that the last answer only announced
            self._parser = httptools.HttpResponseParser(self)
        self._reset()
        self._chunks.clear()
        self.only_head = only_head
        self.used = True

    def write_first(self, data: bytes) -> None:
        """Write the head of a request, or all of a small one. Raises Unreachable if the connection has ended."""
        if not self.is_usable(look=False):
            raise Unreachable("it ended the connection before the request was sent")
        self._transport.write(data)

    def write(self, data: bytes) -> None:
        """Write what is little, and follows what was written first."""
        # a transport is closed a moment before it says so, and takes nothing any more
        if not self._transport.is_closing():
            self._transport.write(data)

    async def write_body(self, data: bytes, *, chunked: bool) -> None:
        """Write a piece of the body and wait until the upstream has room. Raises Broken."""
        if self.failure is not None:
            raise self.failure
        if self.complete or self._transport.is_closing():
            return
        if chunked:
            self._transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
        else:
            self._transport.write(data)
        if self._write_paused:
            self._drain = self._loop.create_future()
            await self._drain
            if self.failure is not None:
                raise self.failure

    # reading

    async def head(self) -> None:
        """Wait for `status` and `headers`. Raises Broken."""
        while not self.status:
            if self.failure is not None:
                raise self.failure
            await self._wait()

    async def read(self) -> bytes:
        """The next piece of the body; empty at its end. Raises Broken."""
        while not self._chunks:
            if self.complete:
                return b""
            if self.failure is not None:
                raise self.failure
            await self._wait()
        chunk = self._chunks.popleft()
        self._held -= len(chunk)
        if self._reading_paused and self._held <= READ_HIGH_BYTES // 2:
            self._reading_paused = False
            self._transport.resume_reading()
        return chunk

    @property
    def drained(self) -> bool:
        """Whether the whole answer has come and all of it has been read."""
        return self.complete and not self._chunks

    # the life of the connection

    def is_usable(self, *, look: bool) -> bool:
        """Whether an idle connection may take a request; `look` asks the socket for an end not yet seen."""
        if self.failure is not None or self._transport.is_closing():
            return False
        if not look:
            return True
        socket = self._transport.get_extra_info("socket")
        poll = select.poll()
        poll.register(socket.fileno(), select.POLLIN)
        return not poll.poll(0)  # an idle connection has nothing to say but its end

    def close(self) -> None:
        """End the connection at once; a request under way is cut, which the upstream notices."""
        self._transport.abort()

    def _fail(self, reason: str) -> None:
        if self.failure is None:
            self.failure = Broken(reason, answered=bool(self.status))

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
