"""How many files are read and written at once: each holds some megabytes for as long as its client takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from lakegate_catalog.files.dialect import S3Error

READ = 1
WRITE = 4  # its parts are held until the store has them

IN_USE = Gauge("lakegate_catalog_file_slots", "Slots in use by reads (1 each) and writes (4 each) of tables' files")


class Slots:
    """Refuses what there is no room for; S3's clients come again by themselves."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0

    def take(self, weight: int) -> None:
        """Raises S3Error; give back what was taken."""
        if self._used + weight > self._limit:
            raise S3Error(503, "SlowDown", "Too many files are read and written here at once. Try again shortly.")
        self._used += weight
        IN_USE.set(self._used)

    def give_back(self, weight: int) -> None:
        self._used -= weight
        IN_USE.set(self._used)

    @contextmanager
    def held(self, weight: int) -> Iterator[None]:
        self.take(weight)
        try:
            yield
        finally:
            self.give_back(weight)


class SlottedResponse(StreamingResponse):
    """Gives a reader's slot back when the answer has ended, or its client has gone before it began."""

    slots: Slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.slots.give_back(READ)
