"""One relayed request from its first byte to the last of its answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from starlette.types import Message, Receive, Scope, Send

from lakegate_chassis.logs import log
from lakegate_chassis.problems import Problem
from lakegate_gateway.dialects import render
from lakegate_gateway.errors import BadUpstream, ClientTooSlow, TooLarge, UpstreamUnreachable
from lakegate_gateway.metrics import REPEATS
from lakegate_gateway.relay.connection import Broken, CircuitOpen, Connection, Saturated, Unreachable
from lakegate_gateway.relay.exchange import Answering, Budget, ClientGone, Exchange, Sending, Void
from lakegate_gateway.relay.headers import Outgoing, Pair, outgoing, request_head
from lakegate_gateway.relay.upstream import Upstream
from lakegate_gateway.routes import Route
from lakegate_gateway.settings import LimitSettings

SAFE = frozenset({"GET", "HEAD"})
ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.05
_CLOSE = (b"connection", b"close")


class Call(Exchange):
    """An exchange that knows how to run. Its outcome is one of few words, for the metrics."""

    __slots__ = ("_answer_started", "_asked", "_body_limit", "_out", "_pump", "_receive", "_scope", "_send", "_whole")

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        route: Route,
        limits: LimitSettings,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(route, limits, loop)
        self._scope = scope
        self._receive = receive
        self._send = send
        self._out: Outgoing = outgoing(scope["headers"])
        self._body_limit = limits.load_bytes if route.body_limit_bytes is None else route.body_limit_bytes
        self._whole = not self._out.has_body  # all of the request has been read
        self._asked = False  # some of it has been asked for
        self._answer_started = False
        self._pump: asyncio.Task[None] | None = None

    async def run(self, upstream: Upstream, identity: Sequence[Pair], budget: Budget) -> str:
        """Relay, and answer whatever goes wrong. Raises CancelledError when interrupted; then call `give_up`."""
        if self._out.length is not None and self._out.length > self._body_limit:
            return await self.refuse(self._too_large())
        safe = self._whole and self._scope["method"] in SAFE
        head = request_head(self._scope, upstream.authority, self._out, identity)
        attempt = 1
        while True:
            try:
                connection = await upstream.acquire(safe=safe)
            except Unreachable as error:
                if safe and attempt < ATTEMPTS and self._may_repeat(budget):
                    await asyncio.sleep(FIRST_PAUSE_SECONDS * attempt)
                    attempt += 1
                    continue
                return await self._unavailable(str(error))
            except Saturated as error:
                return await self._unavailable(str(error), "saturated")
            except CircuitOpen as error:
                return await self._unavailable(str(error), "circuit_open")
            reused = connection.used
            try:
                await self._pass(connection, head)
            except Broken as error:
                # a kept connection may have been closed just now; on a new one a read does no harm
                if reused and safe and not error.answered and attempt < ATTEMPTS:
                    attempt += 1
                    continue
                return await self._broken(error)
            except Unreachable as error:
                if safe and attempt < ATTEMPTS:
                    attempt += 1
                    continue
                return await self._unavailable(str(error))
            except (ClientGone, Problem) as reason:
                return await self.give_up(reason)
            finally:
                upstream.release(connection, request_sent=self._whole and self.sending is Sending.DONE)
            return "answered"

    def _may_repeat(self, budget: Budget) -> bool:
        granted = budget.spend()
        REPEATS.labels(self.route.upstream, "repeated" if granted else "refused").inc()
        return granted

    async def give_up(self, reason: Exception) -> str:
        """Answer `reason` if it can be; else break the connection, so that the client sees a cut answer as cut."""
        if isinstance(reason, Void):
            return await self._end(reason)
        if not isinstance(reason, Problem):
            return "client_gone"
        log.warning("relay_gave_up", upstream=self.route.upstream, slug=reason.slug, detail=reason.detail)
        if self._answer_started:
            return "cut"
        await self.refuse(reason)
        return reason.slug

    async def _end(self, void: Void) -> str:
        """End a stream of events as its service would: the client asks for another one, and is told why not."""
        log.info("event_stream_revoked", problem=void.problem.slug)
        if not self._answer_started:
            await self.refuse(void.problem)
        elif self.answering is not Answering.TO_CLIENT:  # a client that takes nothing is not waited for
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        return "revoked"

    def stop(self) -> None:
        """End what runs beside the exchange."""
        self.ended = True
        if self._pump is not None:
            self._pump.cancel()

    def start_watching(self) -> None:
        """Notice from now on when the client hangs up; the pump does so by itself after the body."""
        if self._pump is None and self._whole:
            self._pump = self.loop.create_task(self._watch())

    # the request

    async def _pass(self, connection: Connection, head: bytes) -> None:
        connection.begin(only_head=self._scope["method"] == "HEAD")
        if self._whole:
            connection.write_first(head)
        else:
            # meanwhile the service may end the connection
            piece = await self._next_piece()
            if self._whole and self._out.length is not None:
                connection.write_first(head + piece)
                self.sending = Sending.DONE
            else:
                connection.write_first(head)
                self._pump = self.loop.create_task(self._send_body(connection, piece))
        await connection.head()
        await self._answer(connection)

    async def _next_piece(self) -> bytes:
        """What the client sends next. Raises ClientGone, TooLarge."""
        self._asked = True
        began = self.loop.time()
        self.sending, self.sending_since = Sending.FROM_CLIENT, began
        message: Message = await self._receive()
        now = self.loop.time()
        self.sending_since = now
        self.client_waited += now - began
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        self.received += len(piece)
        self._whole = not message.get("more_body", False)
        if self.received > self._body_limit:
            raise self._too_large()
        return piece

    async def _send_body(self, connection: Connection, piece: bytes) -> None:
        chunked = self._out.length is None
        try:
            while True:
                if piece:
                    self.sending, self.sending_since = Sending.TO_UPSTREAM, self.loop.time()
                    await connection.write_body(piece, chunked=chunked)
                if self._whole or connection.complete:
                    break
                piece = await self._next_piece()
            if self._whole:
                if chunked and not connection.complete:
                    connection.write(b"0\r\n\r\n")
                self.sending, self.sending_since = Sending.DONE, self.loop.time()
                await self._watch()
        except Broken:
            # whoever reads the answer meets the same failure, unless the answer is already whole
            return
        except (ClientGone, Problem) as reason:
            self.interrupt(reason)

    async def _watch(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.interrupt(ClientGone())
                return

    # the answer

    async def _answer(self, connection: Connection) -> None:
        early = not self._whole
        headers = [*connection.headers, _CLOSE] if early else connection.headers
        self._answer_started = True
        self.answering, self.answering_since = Answering.TO_CLIENT, self.loop.time()
        await self._send({"type": "http.response.start", "status": connection.status, "headers": headers})
        while True:
            self.answering, self.answering_since = Answering.BODY, self.loop.time()
            piece = await connection.read()
            last = connection.drained
            self.answering, self.answering_since = Answering.TO_CLIENT, self.loop.time()
            if last and early:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
                await self._discard()
                piece = b""
            await self._send({"type": "http.response.body", "body": piece, "more_body": not last})
            if last:
                return

    async def refuse(self, problem: Problem) -> str:
        """Answer a problem of the gateway itself."""
        status, headers, body = render(
            problem, self.route.dialect, method=self._scope["method"], path=self._scope["path"]
        )
        if not self._whole:
            headers.append(_CLOSE)
        self._answer_started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        # who waits for "100 Continue" has sent nothing; who is too slow is not waited for
        if not (self._whole or (self._out.expects and not self._asked) or isinstance(problem, ClientTooSlow)):
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
            await self._discard()
            body = b""
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
        return problem.slug

    async def _discard(self) -> None:
        """Read some of what the client still sends: closed at once, it would see a reset instead of the answer."""
        if self._pump is not None:
            self._pump.cancel()
        left = self.limits.discard_bytes
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.discard_seconds):
                while left > 0 and not self._whole:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        return
                    left -= len(message.get("body", b""))
                    self._whole = not message.get("more_body", False)

    async def _unavailable(self, reason: str, outcome: str = "unreachable") -> str:
        log.warning("upstream_unreachable", upstream=self.route.upstream, reason=reason)
        await self.refuse(
            UpstreamUnreachable(
                f"The {self.route.upstream} service can't take requests at the moment; nothing of this one reached it. "
                "Send it again after the time in Retry-After.",
                retry_after=2,
            )
        )
        return outcome

    async def _broken(self, error: Broken) -> str:
        log.warning("upstream_broken", upstream=self.route.upstream, reason=str(error))
        if self._answer_started:
            return "cut"
        await self.refuse(
            BadUpstream(
                f"The {self.route.upstream} service gave no usable answer: {error}. "
                "What became of the request is not known; look before you repeat it."
            )
        )
        return "broken"

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"The body may have {self._body_limit} bytes at most here. Send it in parts, or compress it.",
            limit_bytes=self._body_limit,
        )
