"""One driver at a time: a Lease that is renewed while it works, and no write when the renewal is late."""

from __future__ import annotations

from typing import Protocol

from lakegate.rollout.cluster import Cluster, Holder
from lakegate.rollout.errors import ApiError, Conflict, NotFound

LEASE_SECONDS = 15
RENEW_SECONDS = 3.0
# A write begun by then has ended (connect and read are bounded) before the Lease can be anybody else's.
SAFE_SECONDS = 6.0


class Clock(Protocol):
    def monotonic(self) -> float: ...


class Lease:
    """The Lease may be taken when nobody has touched it for its duration by our own clock: others' may be wrong."""

    def __init__(self, cluster: Cluster, identity: str, clock: Clock) -> None:
        self._cluster = cluster
        self._identity = identity
        self._clock = clock
        self._seen: Holder | None = None
        self._seen_at = 0.0
        self._renewed_at: float | None = None

    @property
    def is_safe(self) -> bool:
        return self._renewed_at is not None and self._clock.monotonic() - self._renewed_at < SAFE_SECONDS

    def hold(self) -> bool:
        """Take or renew it; False while it is another's. Raises ApiError."""
        now = self._clock.monotonic()
        if self._renewed_at is not None and now - self._renewed_at < RENEW_SECONDS:
            return True
        if self.renew():
            return True
        holder = self._cluster.holder()
        if self._seen != holder:
            self._seen, self._seen_at = holder, now
        if holder is not None and holder.identity not in ("", self._identity):
            self._renewed_at = None
            if now - self._seen_at < holder.seconds:
                return False
        try:
            self._seen = self._cluster.take_lease(holder, self._identity, LEASE_SECONDS)
        except Conflict:
            self._renewed_at = None
            return False
        # from before the call: the server's clock began to run somewhere in it
        self._seen_at = self._renewed_at = now
        return True

    def renew(self) -> bool:
        """Without a look whose it is: it succeeds only if nobody has touched it since. Raises ApiError."""
        if self._seen is None or self._renewed_at is None:
            return False
        now = self._clock.monotonic()
        try:
            self._seen = self._cluster.take_lease(self._seen, self._identity, LEASE_SECONDS)
        except (Conflict, NotFound):
            self._renewed_at = None
            return False
        self._seen_at = self._renewed_at = now
        return True

    def let_go(self) -> None:
        """So that the next driver need not wait; one that can't be reached has to."""
        if self._seen is None or self._renewed_at is None:
            return
        self._renewed_at = None
        try:
            self._cluster.take_lease(self._seen, "", LEASE_SECONDS)
        except ApiError:
            return
