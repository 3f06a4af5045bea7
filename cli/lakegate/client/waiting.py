"""Following a load to its end: the parts that need no connection."""

from __future__ import annotations

import time
from uuid import UUID

import httpx
from pydantic import ValidationError

from lakegate.client.calls import model
from lakegate.client.errors import BrokenAnswer, LakegateError, LoadFailed, ServiceFailed, StillRunning, Unreachable
from lakegate.client.models import Load, Problem
from lakegate_contracts.receipts import LoadState, Receipt

# Polling starts here and doubles up to the second: a small load is seen at once, a long one isn't asked to death.
FIRST_POLL_SECONDS = 0.05
LONGEST_POLL_SECONDS = 1.0
# A service that was killed is back within seconds, a rollout within half a minute.
OUTAGE_SECONDS = 30.0
TERMINAL = (LoadState.COMPLETED, LoadState.FAILED)
OUTAGES = (Unreachable, ServiceFailed)


class Patience:
    """How often to poll a load, and how long to ride out an outage: the load itself goes on meanwhile."""

    def __init__(self, load_id: UUID | str, timeout_seconds: float) -> None:
        self._load_id = load_id
        self._timeout_seconds = timeout_seconds
        self._started = time.monotonic()
        self._outage_since: float | None = None
        self._pause = FIRST_POLL_SECONDS

    def bear(self, error: LakegateError) -> None:
        """Take note that the server did not answer; raises its error once the outage has lasted too long."""
        now = time.monotonic()
        self._outage_since = self._outage_since or now
        if now - self._outage_since > OUTAGE_SECONDS:
            raise error

    def answered(self) -> None:
        self._outage_since = None

    def next_pause(self) -> float:
        """Seconds until the next look. Raises StillRunning when the time is up."""
        waited = time.monotonic() - self._started
        if waited >= self._timeout_seconds:
            raise StillRunning(self._load_id, waited)
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_POLL_SECONDS)
        return min(pause, self._timeout_seconds - waited)


def answered(response: httpx.Response) -> Receipt | Load:
    """The outcome of posting a load: its receipt (200, 201), or the load, which still runs (202)."""
    if response.status_code == httpx.codes.ACCEPTED:
        return model(Load)(response)
    try:
        return Receipt.model_validate_json(response.content)
    except ValidationError as error:
        raise BrokenAnswer(f"The answer to a load is no receipt: {response.text[:200]!r}") from error


def receipt_of(load: Load) -> Receipt:
    """The receipt of a settled load. Raises LoadFailed with the problem that ended it."""
    if load.receipt is not None:
        return load.receipt
    problem = load.problem or Problem(
        title="Load failed", detail=f"Load {load.load_id} ended without a receipt and without a reason."
    )
    raise LoadFailed(problem, load.load_id)
