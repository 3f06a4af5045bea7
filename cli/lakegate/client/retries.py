"""When a request is sent again, and after how long. Bounded: a client that retries for ever hides an outage."""

from __future__ import annotations

import random
from dataclasses import dataclass

import httpx

# Nothing reached the server: sending again can't do anything twice.
NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# The request may have been handled: only an idempotent one is sent again.
OUTCOME_UNKNOWN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadTimeout, httpx.WriteTimeout)


@dataclass(frozen=True)
class Retries:
    """`attempts` counts the first one too. Waits double from `first_seconds` up to `longest_seconds`, with jitter."""

    attempts: int = 4
    first_seconds: float = 0.2
    longest_seconds: float = 10.0

    def after_error(self, error: httpx.TransportError, attempt: int, *, idempotent: bool) -> float | None:
        """Seconds until the next attempt, None to give up. `attempt` is the one that just failed, from 1."""
        if attempt >= self.attempts:
            return None
        if isinstance(error, NOTHING_SENT) or (idempotent and isinstance(error, OUTCOME_UNKNOWN)):
            return self._back_off(attempt)
        return None

    def after_answer(self, response: httpx.Response, attempt: int, *, idempotent: bool) -> float | None:
        """Seconds until the next attempt after a 503 or 429 that says when (Retry-After), None to take the answer."""
        if attempt >= self.attempts or not idempotent or response.status_code not in (429, 503):
            return None
        stated = response.headers.get("retry-after", "")
        if not stated.isdigit():
            return None
        # A server that asks for more than we are ready to wait gets its answer handed to the caller.
        return max(float(stated), self._back_off(attempt)) if float(stated) <= self.longest_seconds else None

    def _back_off(self, attempt: int) -> float:
        ceiling: float = min(self.longest_seconds, self.first_seconds * 2 ** (attempt - 1))
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
