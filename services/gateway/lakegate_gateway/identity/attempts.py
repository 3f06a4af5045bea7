"""Bounded guessing: how many failed logins of one address or name a minute allows."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from lakegate_gateway.errors import TooManyRequests

MAX_TRACKED = 10_000
WINDOW_SECONDS = 60.0
NAME_FACTOR = 10
ADDRESS_FACTOR = 100


class Attempts:
    """Counts in this process. What is forgotten first, when there are too many to count, is the oldest.

    A name from one address may fail `per_minute` times, and from all addresses ten times that. An address with all its
    names may fail a hundred times as often: many people share one (behind a NAT or a proxy, all do), and who guesses
    there must not lock the others out. That last bound only keeps a machine from trying one password on all names.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = per_minute
        self._clock = clock
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def begin(self, name: str, address: str) -> None:
        """Count an attempt before it is judged, so that many at once can't slip through. Raises TooManyRequests."""
        now = self._clock()
        limits = self._limits(name, address)
        for key, limit in limits.items():
            began, count = self._counts.get(key, (now, 0))
            if now - began < WINDOW_SECONDS and count >= limit:
                raise TooManyRequests(
                    "Too many failed logins. Wait for the time in Retry-After, then check the credentials first.",
                    retry_after=int(began + WINDOW_SECONDS - now) + 1,
                )
        for key in limits:
            began, count = self._counts.get(key, (now, 0))
            self._counts[key] = (now, 1) if now - began >= WINDOW_SECONDS else (began, count + 1)
        while len(self._counts) > MAX_TRACKED:
            self._counts.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """It was no guess: take it off again."""
        for key in self._limits(name, address):
            if key in self._counts:
                began, count = self._counts[key]
                self._counts[key] = (began, max(0, count - 1))

    def _limits(self, name: str, address: str) -> dict[str, int]:
        name = name[:256]
        return {
            f"both {address} {name}": self._limit,
            f"address {address}": ADDRESS_FACTOR * self._limit,
            f"name {name}": NAME_FACTOR * self._limit,
        }
