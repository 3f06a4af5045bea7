"""The bodies of the gateway's own paths: small, and whole before anything else looks at them.

FastAPI reads a body before it asks who sent it, however long that is and however long it takes.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lakegate_chassis.problems import answer_to
from lakegate_gateway.errors import ClientTooSlow, Problem, TooLarge
from lakegate_gateway.settings import LimitSettings


class _Gone(Exception):
    """The client hung up."""


class BodyLimit:
    """Reads the body within `limits` and hands it on in one piece; else answers in the dialect of the path."""

    def __init__(self, app: ASGIApp, limits: LimitSettings) -> None:
        self.app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = announced(scope) if scope["type"] == "http" else 0
        if length == 0:
            await self.app(scope, receive, send)
            return
        try:
            if length is not None and length > self._limits.own_bytes:
                raise self._too_large()
            body = await self._read(receive)
        except _Gone:
            return
        except (TooLarge, ClientTooSlow) as problem:
            await self._refuse(problem, scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self.app(scope, replay, send)

    async def _read(self, receive: Receive) -> bytes:
        """The body. Raises TooLarge, ClientTooSlow, _Gone."""
        limits = self._limits
        loop = asyncio.get_running_loop()
        began = loop.time()
        body = bytearray()
        while True:
            deadline = loop.time() + limits.client_idle_seconds
            if limits.client_min_bytes_per_second:
                earned = (len(body) + 1) / limits.client_min_bytes_per_second
                deadline = min(deadline, began + max(limits.client_grace_seconds, earned))
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise ClientTooSlow(
                    f"The body stopped, or came too slowly: {len(body)} bytes in {loop.time() - began:.0f} s. "
                    "Send the request again."
                ) from error
            if message["type"] == "http.disconnect":
                raise _Gone
            body += message.get("body", b"")
            if len(body) > limits.own_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(body)

    async def _refuse(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        answer = answer_to(scope, problem)
        headers = [*answer.raw_headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
        expects = any(name == b"expect" for name, _ in scope["headers"])
        if not expects and isinstance(problem, TooLarge):
            # closed at once, a client that still sends would see a reset instead of the answer
            await send({"type": "http.response.body", "body": answer.body, "more_body": True})
            await self._discard(receive)
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.body", "body": answer.body})

    async def _discard(self, receive: Receive) -> None:
        left = self._limits.discard_bytes
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.discard_seconds):
                while left > 0:
                    message = await receive()
                    if not message.get("more_body", False):
                        return
                    left -= len(message["body"])

    def _too_large(self) -> TooLarge:
        limit = self._limits.own_bytes
        return TooLarge(f"The body may have {limit} bytes at most here.", limit_bytes=limit)


def announced(scope: Scope) -> int | None:
    """The length of the body; None when it comes in chunks. The server has checked the headers."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
        if name == b"transfer-encoding":
            return None
    return 0
