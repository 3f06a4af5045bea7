"""Connections that outlive a request, and whether the credential that each was opened with is still good.

A revocation is told to every replica by an event; the connections that it may concern are then verified again. So is
each of them when its key or token ends, and now and then, for what no event told: a revocation while the log could not
be read.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from lakegate_chassis.problems import Problem, Unavailable
from lakegate_contracts.identity import Principal
from lakegate_gateway.errors import Forbidden, Unauthorized

VERIFY_SECONDS = 60.0
# The database is away: the connections of all would go at once, and come back at once.
RETRY_SECONDS = 5.0
MOST_RETRIES = 6


class Session:
    """One such connection. `principal`, `key_id` and `ends` (by the monotonic clock) are of its credential."""

    def __init__(self, principal: Principal, key_id: UUID | None, ends: float) -> None:
        self.principal = principal
        self.key_id = key_id
        self._ends = ends
        self._doubted = asyncio.Event()

    def doubt(self) -> None:
        self._doubted.set()

    async def ended(self, verify: Callable[[], Awaitable[None]]) -> Problem:
        """Wait until `verify` refuses; with what."""
        failures = 0
        while True:
            try:
                async with asyncio.timeout(self._pause(failures)):
                    await self._doubted.wait()
            except TimeoutError:
                pass  # its turn has come
            self._doubted.clear()
            try:
                await verify()
            except (Unauthorized, Forbidden) as refusal:
                return refusal
            except Problem as problem:
                failures += 1
                if failures > MOST_RETRIES:
                    return problem
            else:
                failures = 0

    def _pause(self, failures: int) -> float:
        pause = (VERIFY_SECONDS if not failures else RETRY_SECONDS) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        left = self._ends - time.monotonic()
        # a token is good for some seconds beyond its end, by which clocks may differ
        return min(pause, left if left > 0 else RETRY_SECONDS)


class Sessions:
    """Those of this replica, of every kind."""

    def __init__(self) -> None:
        self._open: set[Session] = set()

    @contextmanager
    def opened(self, principal: Principal, key_id: UUID | None, ends: float) -> Iterator[Session]:
        session = Session(principal, key_id, ends)
        self._open.add(session)
        try:
            yield session
        finally:
            self._open.discard(session)

    def doubt_key(self, key_id: UUID) -> None:
        self._doubt(lambda session: session.key_id == key_id)

    def doubt_subject(self, tenant: str, subject: str) -> None:
        self._doubt(lambda session: (session.principal.tenant, session.principal.subject) == (tenant, subject))

    def doubt_all(self) -> None:
        self._doubt(lambda _: True)

    def _doubt(self, concerned: Callable[[Session], bool]) -> None:
        for session in self._open:
            if concerned(session):
                session.doubt()


class Places:
    """How many sessions of one kind there may be: here, and of one tenant. `refusal` is for one too many."""

    def __init__(
        self, sessions: Sessions, most: int, most_per_tenant: int, *, kind: str, refusal: type[Unavailable]
    ) -> None:
        self._sessions = sessions
        self._most = most
        self._most_per_tenant = most_per_tenant
        self._kind = kind
        self._refusal = refusal
        self._of_tenant: Counter[str] = Counter()

    @contextmanager
    def place(self, principal: Principal, key_id: UUID | None, ends: float) -> Iterator[Session]:
        """Raises `refusal`."""
        tenant = principal.tenant
        if self._of_tenant.total() >= self._most:
            raise self._refusal(f"Too many {self._kind} are open here. Try again shortly.", retry_after=5)
        if self._of_tenant[tenant] >= self._most_per_tenant:
            raise self._refusal(
                f"Your tenant has {self._most_per_tenant:,} {self._kind} open here, and no more places.", retry_after=5
            )
        self._of_tenant[tenant] += 1
        try:
            with self._sessions.opened(principal, key_id, ends) as session:
                yield session
        finally:
            self._of_tenant[tenant] -= 1
            if not self._of_tenant[tenant]:
                del self._of_tenant[tenant]
