"""Bytes of rows that this process holds: bounded, and of one tenant."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lakegate_ingest.errors import StreamBusy
from lakegate_ingest.metrics import STREAM_IN_FLIGHT_BYTES


class Rooms:
    """Counts what has arrived, and never what was only announced: a slow client holds what it has sent."""

    def __init__(self, *, most_bytes: int, most_bytes_per_tenant: int) -> None:
        self._most = most_bytes
        self._most_per_tenant = most_bytes_per_tenant
        self._held: Counter[str] = Counter()
        STREAM_IN_FLIGHT_BYTES.set_function(self._held.total)

    @contextmanager
    def room(self, tenant: str, size_bytes: int = 0) -> Iterator[Room]:
        """Keep room for a body from its first byte to its acknowledgement. Raises StreamBusy."""
        room = Room(self, tenant)
        room.grow(size_bytes)
        try:
            yield room
        finally:
            room.leave()

    def take(self, tenant: str, size_bytes: int) -> None:
        """Raises StreamBusy."""
        if self._held.total() + size_bytes > self._most:
            raise StreamBusy(
                "More rows are under way than this server holds at once. Nothing was taken; try again shortly.",
                retry_after=1,
            )
        if self._held[tenant] + size_bytes > self._most_per_tenant:
            raise StreamBusy(
                f"Your tenant has rows of {self._held[tenant]:,} bytes under way here, and {self._most_per_tenant:,} "
                "are its share. Nothing was taken; try again shortly.",
                retry_after=1,
            )
        self._held[tenant] += size_bytes

    def give_back(self, tenant: str, size_bytes: int) -> None:
        self._held[tenant] -= size_bytes
        if not self._held[tenant]:
            del self._held[tenant]


class Room:
    """A share of the bytes that may be in flight."""

    def __init__(self, rooms: Rooms, tenant: str) -> None:
        self._rooms = rooms
        self._tenant = tenant
        self._bytes = 0
        self._task: asyncio.Task[Any] | None = None

    def grow(self, size_bytes: int) -> None:
        """Raises StreamBusy."""
        self._rooms.take(self._tenant, size_bytes)
        self._bytes += size_bytes

    def stay_for(self, task: asyncio.Task[Any]) -> None:
        """What has been handed to the producer is in memory until it has ended, whoever still waits for it."""
        self._task = task

    def leave(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.add_done_callback(lambda _: self._release())
        else:
            self._release()

    def _release(self) -> None:
        self._rooms.give_back(self._tenant, self._bytes)
        self._bytes = 0
