"""In whose name the worker commits: that of whoever sent to the stream last, for as long as the gateway agrees.

See docs/decisions/0011-streams-commit-by-delegation.md.
"""

from __future__ import annotations

import time
from dataclasses import replace

import asyncpg

from lakegate_chassis.logs import log
from lakegate_chassis.postgres import tenant_transaction
from lakegate_ingest.commit.tokens import TokenExchange
from lakegate_ingest.errors import CatalogUnavailable, DelegationExpired
from lakegate_ingest.streams import queries
from lakegate_ingest.streams.queries import StreamRow

# A delegation lives for a day: it is renewed in its first half, and there is time when the gateway is away.
RENEW_AFTER_SECONDS = 6 * 3600.0
TRY_AGAIN_SECONDS = 60.0


class Grants:
    def __init__(self, pool: asyncpg.Pool, exchange: TokenExchange) -> None:
        self._pool = pool
        self._exchange = exchange
        self._not_before: dict[str, float] = {}

    async def fresh(self, stream: StreamRow) -> StreamRow:
        """The stream with a delegation that is not about to end, where the gateway gives one."""
        if time.time() - stream.delegated_at.timestamp() < RENEW_AFTER_SECONDS:
            return stream
        if self._not_before.get(stream.topic, 0.0) > time.monotonic():
            return stream
        try:
            grant = await self._exchange.renewed(stream.delegation, f"loads:write@{stream.table.namespace}")
        except (CatalogUnavailable, DelegationExpired) as error:
            # the one at hand may still be good; when it is not, the commit says so
            self._not_before[stream.topic] = time.monotonic() + TRY_AGAIN_SECONDS
            log.warning("stream_grant_not_renewed", topic=stream.topic, reason=error.detail)
            return stream
        async with tenant_transaction(self._pool, stream.tenant) as connection:
            await queries.renew(connection, stream.topic, stream.delegation, grant)
        self._not_before.pop(stream.topic, None)
        return replace(stream, delegation=grant)
