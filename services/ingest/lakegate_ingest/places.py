"""Places for connections that last: bounded in this process, and of one tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager

from prometheus_client import Gauge

from lakegate_ingest.errors import TooManyStreams


class Places:
    """Those of one kind; `hint` says what else a client can do than to try again."""

    def __init__(self, most: int, most_per_tenant: int, gauge: Gauge, *, kind: str, hint: str = "") -> None:
        self._most = most
        self._most_per_tenant = most_per_tenant
        self._gauge = gauge
        self._kind = kind
        self._hint = hint
        self._open: Counter[str] = Counter()

    @contextmanager
    def place(self, tenant: str) -> Iterator[None]:
        """Raises TooManyStreams."""
        if self._open.total() >= self._most:
            raise TooManyStreams(f"Too many {self._kind} are open here. Try again shortly.{self._hint}")
        if self._open[tenant] >= self._most_per_tenant:
            raise TooManyStreams(
                f"Your tenant has {self._most_per_tenant:,} {self._kind} open here, and no more places. "
                f"Close one, or try again shortly.{self._hint}"
            )
        self._open[tenant] += 1
        try:
            with self._gauge.track_inprogress():
                yield
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]

    async def begun(self, tenant: str, events: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
        """`events` in a place, up to the first of them: what can't be had is a problem then, and no broken stream.

        Raises TooManyStreams, and what the first event raises.
        """
        placed = self._placed(tenant, events)
        return _resumed(await anext(placed, b""), placed)  # of no rows, NDJSON is nothing at all

    async def _placed(self, tenant: str, events: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
        with self.place(tenant):
            async with aclosing(events):
                async for event in events:
                    yield event


async def _resumed(first: bytes, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for event in events:
        yield event
