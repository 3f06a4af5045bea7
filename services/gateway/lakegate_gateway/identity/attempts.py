"""Bounded guessing: how many failed logins of one address or name a minute allows."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from lakegate_gateway.errors import TooManyRequests

MAX_TRACKED = 10_000
WINDOW_SECONDS = 60.0


class Attempts:
    """Counts in this process. What is forgotten first, when there are too many to count, is the oldest."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = per_minute
        self._clock = clock
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def begin(self, *names: str) -> None:
        """Count an attempt before it is judged, so that many at once can't slip through. Raises TooManyRequests."""
        now = self._clock()
        for name in names:
            began, count = self._counts.get(name, (now, 0))
            if now - began < WINDOW_SECONDS and count >= self._limit:
                raise TooManyRequests(
                    "Too many failed logins. Wait for the time in Retry-After, then check the credentials first.",
                    retry_after=max(1, int(began + WINDOW_SECONDS - now) + 1),
                )
        for name in names:
            began, count = self._counts.get(name, (now, 0))
            self._counts[name] = (now, 1) if now - began >= WINDOW_SECONDS else (began, count + 1)
        while len(self._counts) > MAX_TRACKED:
            self._counts.popitem(last=False)

    def succeeded(self, *names: str) -> None:
        """It was no guess: take it off again."""
        for name in names:
            if name in self._counts:
                began, count = self._counts[name]
                self._counts[name] = (began, max(0, count - 1))
