"""A breaker for each upstream: who can't be reached is not asked again by every request.

Without it, each request to a service behind a cut network waits out its own connect time-out (2 s) before its 503.
Only failures to connect count. A service that is slow, or answers 500, is there: its own limits are for that.
"""

from __future__ import annotations

from collections.abc import Callable

from lakegate_gateway.metrics import BREAKER_OPEN, BREAKER_OPENED

# Both have to pass without one success: behind one address there may be several replicas, and while one of them goes
# some connections are refused and the others are not.
OPEN_AFTER = 5
OPEN_AFTER_SECONDS = 1.0
TRY_EVERY_SECONDS = 1.0


class Breaker:
    """Open after failures in a row; then one request each TRY_EVERY_SECONDS tries, and a success closes it."""

    def __init__(self, upstream: str, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._failing_since = 0.0
        self._next_try = 0.0
        self.is_open = False
        self._open = BREAKER_OPEN.labels(upstream)
        self._opened = BREAKER_OPENED.labels(upstream)
        self._open.set(0)

    def admits(self) -> bool:
        """Whether a connection may be tried now; a yes while open is the one try of this second."""
        if not self.is_open:
            return True
        now = self._clock()
        if now < self._next_try:
            return False
        self._next_try = now + TRY_EVERY_SECONDS
        return True

    def succeeded(self) -> None:
        self._failures = 0
        if self.is_open:
            self.is_open = False
            self._open.set(0)

    def failed(self) -> None:
        now = self._clock()
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        self._next_try = now + TRY_EVERY_SECONDS
        if not self.is_open and self._failures >= OPEN_AFTER and now - self._failing_since >= OPEN_AFTER_SECONDS:
            self.is_open = True
            self._open.set(1)
            self._opened.inc()
