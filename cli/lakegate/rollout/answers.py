"""One whole answer of a pod, or why there was none: what is judged may be broken in any way, and break no judge."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx


class Unanswered(Exception):
    """Nothing came, or nothing that is an answer, or not all of it in time."""


async def ask(
    client: httpx.AsyncClient, method: str, url: str, *, seconds: float, most_bytes: int = 0, **request: Any
) -> tuple[int, bytes]:
    """Status and body, within `seconds` from first to last byte; httpx's own limits are those of each byte.

    Of a body `most_bytes` are kept, and more are too many; 0: it is read, and not kept. It is not unpacked: a small one
    may be large then. Raises Unanswered.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds), client.stream(method, url, **request) as answer:
            async for piece in answer.aiter_raw():
                if most_bytes:
                    body += piece
                    if len(body) > most_bytes:
                        raise Unanswered(f"more than {most_bytes:,} bytes")
            return answer.status_code, bytes(body)
    except TimeoutError as error:
        raise Unanswered(f"no whole answer in {seconds:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        # ValueError is httpx's at headers that are none, of a redirect to a host that has no name for instance
        raise Unanswered(f"{type(error).__name__} {error}"[:200]) from error
