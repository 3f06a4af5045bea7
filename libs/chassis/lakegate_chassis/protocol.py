"""uvicorn's HTTP protocol with bounds on what an anonymous client can make it hold, and small answers in one write.

uvicorn itself bounds neither the head of a request nor how many are pipelined, waits for a head as long as it takes,
and counts connections where it means requests. Each of that lets one client fill the memory or shut everybody out.
"""

from __future__ import annotations

import asyncio
import resource
from functools import cache
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from lakegate_chassis import tracing
from lakegate_chassis.coalesce import CoalescingTransport
from lakegate_chassis.health import HEALTH_PATHS
from lakegate_chassis.logs import log
from lakegate_chassis.metrics import REQUESTS
from lakegate_chassis.problems import (
    MEDIA_TYPE,
    ClientTooSlow,
    HeadTooLarge,
    InvalidHttp,
    NotImplementedHere,
    Problem,
    Unavailable,
    answer_to,
    problem_body,
)
from lakegate_chassis.tenants import NOBODY

MAX_HEAD_BYTES = 64 * 1024  # request line and headers; trailers again
HEAD_SECONDS = 10.0  # from the first byte of a head, or from the connection, to its last
MAX_QUEUED = 16  # pipelined requests that wait for the one before them
LINGER_SECONDS = 1.0  # a connection closed with bytes unread is reset, and the answer on it lost
LINGER_BYTES = 1024 * 1024
CONNECTIONS_PER_REQUEST = 4  # open connections for each request that may be served at once
_HEAD_SLICE = 4 * 1024  # at most some 200 requests are in it, so the queue can't grow much beyond its bound
_CHUNKED_SLICE = 16 * 1024
_WATCHED = frozenset({b"authorization", b"connection", b"content-length", b"expect", b"host", b"transfer-encoding"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class _Refused(Exception):
    """Ends the parsing; what the client is told stands in `_fault`."""


class QueueFlow(FlowControl):
    """Reads on only while the queue of pipelined requests is not `full`; uvicorn resumes whenever a body is wanted."""

    full = False

    def resume_reading(self) -> None:
        if not self.full:
            super().resume_reading()


class ServerProtocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=ServerProtocol)`; `limit_concurrency` bounds the requests being served.

    Over it, requests are answered 503, but those for health. Connections that serve none make room for new ones.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._most_served = self.limit_concurrency
        self.limit_concurrency = None  # uvicorn would count connections
        self._flow: QueueFlow
        self._head_timer: asyncio.TimerHandle | None = None
        self._in_head = True  # reading a head, or waiting for the next
        self._begun = False  # some of that head has come
        self._heads = 0
        self._head_bytes = 0  # received of a head (or of trailers) that is not yet whole
        self._parsed_bytes = 0  # of the lines that are
        self._body_left = 0  # of a body whose length is known
        self._body_came = False
        self._authorized = self._addressed = False
        self._held = b""  # read, but not to be parsed before some of the queue is served
        self._fault: Problem | None = None
        self._deferred: Problem | None = None  # said once the requests before it are answered
        self._lingered: int | None = None  # bytes thrown away since the refusal

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        coalescing = cast(asyncio.Transport, CoalescingTransport(cast(asyncio.Transport, transport), self.loop))
        super().connection_made(coalescing)
        self.flow = self._flow = QueueFlow(coalescing)
        self._start_head_timer()
        if self._most_served is not None and len(self.connections) > most_connections(self._most_served):
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._held = b""
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingered is not None:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES and self._deferred is not None:
                self._flow.full = True
                self._flow.pause_reading()
            elif self._lingered > LINGER_BYTES:
                self.transport.close()
        elif self._held:
            self._held += data
        elif len(data) <= _HEAD_SLICE or len(data) <= self._body_left:
            self._feed(data)
        else:
            self._feed_slices(data)

    # reading

    def _feed_slices(self, data: bytes) -> None:
        """Parse piece by piece, to stop where enough requests are queued: the parser itself can't be stopped."""
        start, transport = 0, self.transport
        while start < len(data) and self._lingered is None and not transport.is_closing():
            if self._flow.full:
                self._held = data[start:]
                return
            if self._in_head:
                size = _HEAD_SLICE
            else:
                size = max(_HEAD_SLICE, self._body_left) if self._body_left else _CHUNKED_SLICE
            self._feed(data[start : start + size])
            start += size

    def _feed(self, data: bytes) -> None:
        waited, heads = self._in_head, self._heads
        self._body_came = False
        super().data_received(data)
        if self._lingered is not None:
            return
        if len(self.pipeline) >= MAX_QUEUED:
            self._flow.full = True
            self._flow.pause_reading()
        same = heads == self._heads
        if self._in_head:
            if waited and same:
                self._count(len(data))
            elif not self._begun:
                return
            if self._head_timer is None and self._lingered is None:
                self._start_head_timer()
        elif self._body_came:
            self._head_bytes = 0
        elif same:
            self._count(len(data))  # an endless trailer is held by the parser

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(_head_too_large())

    def _read_on(self) -> None:
        if self._lingered is not None or self.transport.is_closing():
            return
        self._flow.full = False
        held, self._held = self._held, b""
        self._feed_slices(held)
        self._flow.resume_reading()

    # the parser's callbacks

    def on_message_begin(self) -> None:
        self._begun = True
        self._authorized = self._addressed = False
        self._parsed_bytes = self._body_left = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self.url += url
        self._parsed_bytes += len(url)
        if self._parsed_bytes > MAX_HEAD_BYTES:
            self._reject(_head_too_large())

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._parsed_bytes += len(name) + len(value) + 4
        if self._parsed_bytes > MAX_HEAD_BYTES:
            self._reject(_head_too_large())
        if name in _WATCHED:
            self._look_at(name, value)
        self.headers.append((name, value))

    def _look_at(self, name: bytes, value: bytes) -> None:
        if name == b"authorization":
            if self._authorized:
                self._reject(InvalidHttp("There are two Authorization headers. Send one."))
            self._authorized = True
        elif name == b"host":
            if self._addressed:
                self._reject(InvalidHttp("There are two Host headers. Send one."))
            self._addressed = True
        elif name == b"content-length":
            self._body_left = int(value) if value.isdigit() else 0
        elif name == b"expect":
            if value.lower() == b"100-continue":
                self.expect_100_continue = True
        elif name == b"transfer-encoding":
            if value.lower().strip() != b"chunked":
                shown = value[:100].decode("latin-1")
                self._reject(
                    NotImplementedHere(
                        f"The transfer coding {shown!r} is not known here. Send chunked alone; to compress a body, use "
                        "Content-Encoding."
                    )
                )
        elif len(value) > 10 and not _FRAMING.isdisjoint(map(bytes.strip, value.lower().split(b","))):
            self._reject(InvalidHttp("The Connection header can't name Content-Length or Transfer-Encoding."))

    def on_headers_complete(self) -> None:
        self._begun = False
        self._heads += 1
        self._head_bytes = 0
        if self._head_timer is not None:
            self._stop_head_timer()
        if not self._addressed and self.parser.get_http_version() == "1.1":
            self._reject(InvalidHttp("HTTP/1.1 asks for a Host header (RFC 9112, 3.2). Send one."))
        if b"%" in self.url and not _is_text(self.url):
            self._reject(
                InvalidHttp(
                    "The path or the query holds bytes that are no UTF-8. Write each character as the bytes of its "
                    "UTF-8, as %C3%BC for \u00fc."
                )
            )
        self._in_head = False  # what is refused up to here is no body's fault
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_came = True
        self._body_left -= min(len(body), self._body_left)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = self._body_left = 0
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        # that protocol has its own ideas of when to write
        coalescing = cast(CoalescingTransport, self.transport)
        coalescing.flush()
        self.transport = coalescing._transport
        super().handle_websocket_upgrade()

    # answering

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        scope = cycle.scope
        if self._most_served is not None and len(self.tasks) >= self._most_served and scope["path"] not in HEALTH_PATHS:
            cast(dict[str, Any], scope).setdefault("app", app)  # it says in which dialect
            app = overloaded
        if scope["http_version"] == "1.0":
            app = _unchunked(app, cycle)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        goes_on = bool(self.pipeline)
        super().on_response_complete()
        if self._deferred is not None and not goes_on and not self.transport.is_closing():
            problem, self._deferred = self._deferred, None
            self._flow.full = False
            self._flow.resume_reading()
            self._refuse(problem)
        elif self._flow.full and len(self.pipeline) <= MAX_QUEUED // 2:
            self.loop.call_soon(self._read_on)

    # refusing

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _reject(self, fault: Problem) -> None:
        self._fault = fault
        raise _Refused

    def send_400_response(self, msg: str) -> None:
        """uvicorn calls this for whatever its parser refuses."""
        self._refuse(self._fault or InvalidHttp("This is not HTTP/1.1, or not well-formed."))

    def _refuse(self, problem: Problem) -> None:
        """Answer and close. Where an earlier request has no answer yet, this would be taken for it: that goes first."""
        self._stop_head_timer()
        self._held = b""
        self._lingered = 0
        busy = self._busy
        if busy and (self._in_head or self.pipeline):
            if not self._in_head:
                self.pipeline.popleft()  # the last one, whose body is at fault: nobody could read that to its end
            self._deferred = problem
            return
        log.warning("request_refused", slug=problem.slug, client=self.client[0] if self.client else None)
        if not busy or not self.cycle.response_started:
            self._write(problem)
        if busy or not self.transport.can_write_eof():
            self.transport.close()
            return
        cast(CoalescingTransport, self.transport).flush()
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _write(self, problem: Problem) -> None:
        info, _ = tracing.start("", "")
        body = orjson.dumps(problem_body(problem, "") | {"trace_id": info.trace_id})
        head = (
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nx-request-id: {info.request_id}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[problem.status] + head.encode() + body)

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self._busy or self._flow.read_paused:
            self._start_head_timer()  # it is we who don't read
        elif self._begun:
            self._refuse(
                ClientTooSlow(f"The head of the request was not whole after {HEAD_SECONDS:g} s. Send it again.")
            )
        else:
            self.transport.close()

    def _make_room(self) -> None:
        for other in self.connections:
            if isinstance(other, ServerProtocol) and other is not self and not other._busy:
                other.transport.close()
                return
        self.transport.close()


def _is_text(url: bytes) -> bool:
    """Whether path and query mean characters; others would all be read as U+FFFD, and different names as one."""
    try:
        unquote_to_bytes(url).decode()
    except UnicodeDecodeError:
        return False
    return True


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(
        f"Request line and headers may have {MAX_HEAD_BYTES} bytes at most. Send less, or put it into the body."
    )


@cache
def most_connections(most_served: int) -> int:
    """How many connections may be open: some for each request, within what files the process may open."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = CONNECTIONS_PER_REQUEST * most_served
    return most if files == resource.RLIM_INFINITY else min(most, files * 3 // 4)


async def overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers in place of a service that serves as many requests as it may."""
    REQUESTS.labels(scope["method"], "overloaded", "503", NOBODY).inc()
    problem = Unavailable("Too many requests are being served. Try again after the time in Retry-After.")
    problem.headers["connection"] = "close"
    await answer_to(scope, problem)(scope, receive, send)


def _unchunked(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    """For HTTP/1.0, which knows no chunks: without a length, the end of the connection ends the body."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        sized = True

        async def send_unchunked(message: Message) -> None:
            nonlocal sized
            if message["type"] == "http.response.start":
                pairs = [pair for pair in message["headers"] if pair[0].lower() != b"transfer-encoding"]
                sized = any(name.lower() == b"content-length" for name, _ in pairs)
                if not sized:
                    cycle.chunked_encoding = False
                message = {**message, "headers": pairs}
            elif not sized:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_unchunked)

    return run
