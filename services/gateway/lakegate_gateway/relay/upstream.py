"""The connections to one upstream: kept, bounded, and made anew where an old one has ended."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

from lakegate_gateway.metrics import CONNECTIONS, CONNECTIONS_MAX
from lakegate_gateway.relay.breaker import Breaker
from lakegate_gateway.relay.connection import CircuitOpen, Connection, Saturated, Unreachable

# Below the 75 s after which the services close an idle connection, so that theirs is seldom the first move.
IDLE_SECONDS = 60.0
CONNECT_TIMEOUT_SECONDS = 2.0


class Upstream:
    """A service behind the gateway. `name` is also the audience of the tokens it takes."""

    def __init__(self, name: str, url: str, *, max_connections: int = 1024) -> None:
        parts = urlsplit(url)
        self.name = name
        self.host = parts.hostname or ""
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self.port = parts.port or (443 if self._ssl else 80)
        self.authority = f"{parts.hostname}:{self.port}".encode()
        self._max = max_connections
        self.in_use = 0
        self._idle: list[Connection] = []
        self._loop = asyncio.get_running_loop()
        self._breaker = Breaker(name, self._loop.time)
        CONNECTIONS.labels(name, "in_use").set_function(lambda: self.in_use)
        CONNECTIONS.labels(name, "idle").set_function(lambda: len(self._idle))
        CONNECTIONS_MAX.labels(name).set(max_connections)

    async def acquire(self, *, safe: bool) -> Connection:
        """A connection, reused if one is idle; an unsafe request looks closer, since it can't be repeated.

        Raises Unreachable, Saturated, CircuitOpen.
        """
        loop = self._loop
        now = loop.time()
        while self._idle:
            connection = self._idle.pop()
            fresh = now - connection.idle_since < IDLE_SECONDS
            if fresh and connection.is_usable(look=not safe):
                self.in_use += 1
                return connection
            connection.close()
        if self.in_use >= self._max:
            raise Saturated(f"{self.name} has {self._max} requests under way")
        if not self._breaker.admits():
            raise CircuitOpen(f"{self.name} could not be reached a moment ago")
        self.in_use += 1
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop), self.host, self.port, ssl=self._ssl
                )
        except (OSError, TimeoutError) as error:
            self.in_use -= 1
            self._breaker.failed()
            raise Unreachable(f"{self.name} can't be reached: {type(error).__name__}") from error
        except asyncio.CancelledError:
            self.in_use -= 1
            raise
        self._breaker.succeeded()
        return connection

    def release(self, connection: Connection, *, request_sent: bool) -> None:
        """Give a connection back; it is kept only if the request and the answer are whole."""
        self.in_use -= 1
        if request_sent and connection.drained and connection.keep_alive and connection.is_usable(look=False):
            self._breaker.succeeded()
            connection.idle_since = self._loop.time()
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close what is idle; requests under way keep theirs."""
        while self._idle:
            self._idle.pop().close()
