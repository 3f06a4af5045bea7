"""What the tests of several packages need: a real server around an app, and a bounded wait for a condition."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeVar

import uvicorn
from starlette.types import ASGIApp

from lakegate_chassis.protocol import ServerProtocol
from lakegate_chassis.server import Server

T = TypeVar("T")


@asynccontextmanager
async def serving(
    app: ASGIApp, *, lifespan: Literal["on", "off"] = "on", most_served: int | None = None
) -> AsyncIterator[str]:
    """Serve `app` with uvicorn on a free port of the loopback; yields its base URL. Over `most_served`: 503."""
    # the socket listens before uvicorn runs, so that a client may connect at once and nobody has to poll
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=ServerProtocol,
            lifespan=lifespan,
            log_config=None,
            access_log=False,
            limit_concurrency=most_served,
            timeout_graceful_shutdown=2,
        )
        server = Server(config)
        task = asyncio.create_task(server.serve([listener]))
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await task


async def eventually(condition: Callable[[], T | Awaitable[T]], *, within_seconds: float = 30.0) -> T:
    """Ask until the answer is true, and return it. Raises AssertionError when it never was."""
    deadline = asyncio.get_running_loop().time() + within_seconds
    while True:
        answer = condition()
        value: T = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not true within {within_seconds} s: {inspect.getsource(condition).strip()}")
        await asyncio.sleep(0.02)
