"""The loads that this process works on: admitted within a bound, followed by those who wait for them."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from lakegate_chassis.problems import Problem
from lakegate_ingest.errors import QueueFull
from lakegate_ingest.loads.schemas import Progress

if TYPE_CHECKING:
    from lakegate_ingest.loads.reading import EarlyRead


@dataclass
class LiveLoad:
    """`progress` is replaced as a whole (engine threads write it); `ended` is set once the load's row is final.

    `failure` is how the load ended while the database was away: recorded as soon as it is back. `received_at`, of
    time.perf_counter, is when its last byte came, or when it was taken over from a dead process.
    """

    load_id: UUID
    tenant: str
    state: str = "receiving"
    progress: Progress = field(default_factory=Progress)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    early: EarlyRead | None = None
    failure: Problem | None = None
    put_off: int = 0
    # as stored, decompressed; and whether another machine could read them
    size_bytes: int = 0
    shared: bool = False
    worker_starts: int = 0
    called_off: bool = False
    received_at: float = field(default_factory=time.perf_counter)

    def call_off(self) -> None:
        """Somebody does not want it any more: end it, and not for another process to go on with."""
        self.called_off = True
        self.cancelled.set()


class LiveLoads:
    """By load id. A load is admitted before its body is read and counts until it has ended."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._loads: dict[UUID, LiveLoad] = {}

    def get(self, load_id: UUID) -> LiveLoad | None:
        return self._loads.get(load_id)

    def in_state(self, *states: str) -> int:
        return sum(live.state in states for live in self._loads.values())

    def admit(self, load_id: UUID, tenant: str) -> LiveLoad:
        """Take a place for a new load. Raises QueueFull."""
        if len(self._loads) >= self._capacity:
            raise QueueFull(
                f"{self._capacity} loads are being received or wait already. Nothing was read; try again in a moment."
            )
        return self.take_over(load_id, tenant)

    def take_over(self, load_id: UUID, tenant: str) -> LiveLoad:
        """Follow a recovered load; it comes in beyond the capacity, since it was accepted before."""
        return self._loads.setdefault(load_id, LiveLoad(load_id, tenant))

    def end(self, load_id: UUID) -> None:
        live = self._loads.pop(load_id, None)
        if live is not None:
            live.ended.set()

    def cancel_all(self) -> None:
        for live in self._loads.values():
            live.cancelled.set()
