"""Revocations, told to every replica by the event log: what they have verified a moment ago must not outlive one."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prometheus_client import Counter

from lakegate_chassis.eventlog import EventLog, make_event
from lakegate_contracts.events import IDENTITY, CredentialRevoked
from lakegate_gateway.identity.sessions import Sessions
from lakegate_gateway.identity.verified import VerificationCache

# Other services' events wake a reader too; five looks a second are quick enough and cost nothing.
PAUSE_SECONDS = 0.2
APPLIED = Counter("lakegate_gateway_revocations_total", "Revocations that this replica was told of")


class Revocations:
    """Run `follow` under Background. While the log can't be read, KEEP_SECONDS is the bound."""

    def __init__(self, event_log: EventLog, cache: VerificationCache, sessions: Sessions) -> None:
        self._log = event_log
        self._cache = cache
        self._sessions = sessions

    async def publish_key(self, transaction: Any, tenant: str, key_id: UUID) -> None:
        """An API key is void, once `transaction` is committed."""
        data = CredentialRevoked(key_id=key_id, revoked_at=datetime.now(UTC))
        await self._log.publish(transaction, make_event(data, key=str(key_id), tenant=tenant, source="gateway"))

    async def publish_subject(self, transaction: Any, tenant: str, subject: str) -> None:
        """All that a user or client holds is void, once `transaction` is committed."""
        data = CredentialRevoked(subject=subject, revoked_at=datetime.now(UTC))
        await self._log.publish(transaction, make_event(data, key=subject, tenant=tenant, source="gateway"))

    async def follow(self) -> None:
        """Until cancelled."""
        after = await self._log.head()
        # what was revoked while nobody listened is at or below the head
        self._cache.clear()
        self._sessions.doubt_all()
        async with aclosing(self._log.read([IDENTITY], after, pause_seconds=PAUSE_SECONDS)) as batches:
            async for events in batches:
                for event in events:
                    self._apply(event.tenant, CredentialRevoked.model_validate(event.data))

    def _apply(self, tenant: str, revoked: CredentialRevoked) -> None:
        if revoked.key_id is not None:
            self._cache.forget(revoked.key_id)
            self._sessions.doubt_key(revoked.key_id)
        if revoked.subject is not None:
            self._cache.forget_subject(tenant, revoked.subject)
            self._sessions.doubt_subject(tenant, revoked.subject)
        APPLIED.inc()
