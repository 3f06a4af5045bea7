"""Answering before a body has been read to its end, so that the client gets to see the answer."""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lakegate_ingest.settings import BodySettings


class RefusedBody(Response):
    """An answer after which a bounded rest of the body is read and dropped, and the connection closed.

    Closing at once would reset the connection while the client still sends, and the answer would be lost with it.
    """

    def __init__(self, answer: Response, limits: BodySettings) -> None:
        super().__init__(answer.body, answer.status_code, None, answer.media_type)
        self.raw_headers = [*answer.raw_headers, (b"connection", b"close")]
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await self._discard(scope, receive)
        await send({"type": "http.response.body", "body": b""})

    async def _discard(self, scope: Scope, receive: Receive) -> None:
        if _waits_for_continue(scope):
            return  # it has sent nothing yet, and now it won't
        left = self._limits.discard_bytes
        try:
            async with asyncio.timeout(self._limits.discard_seconds):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return
        except TimeoutError:
            return


def _waits_for_continue(scope: Scope) -> bool:
    """`Expect: 100-continue` (RFC 9110, 10.1.1): reading would ask for the body that was just refused."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"])
