"""Events that services of ours publish on the event log; today ingest's runs."""

from __future__ import annotations

import asyncpg
import msgspec

from lakegate_chassis.eventlog import Consumer, Event, EventLog, PermanentFailure
from lakegate_chassis.postgres import tenant_transaction
from lakegate_contracts.events import LINEAGE, RunEventObserved
from lakegate_lineage.errors import InvalidEvent
from lakegate_lineage.events import queries
from lakegate_lineage.events.changes import Changes
from lakegate_lineage.events.openlineage import parse_event

GROUP = "lineage"


def run_event_consumer(event_log: EventLog, pool: asyncpg.Pool) -> Consumer:
    """The group that merges every observed run event."""

    async def handle(event: Event) -> None:
        await merge_observed(pool, event)

    return Consumer(event_log, group=GROUP, topics=[LINEAGE], handler=handle)


async def merge_observed(pool: asyncpg.Pool, event: Event) -> None:
    """Merge one event, once: its id is recorded in the same transaction. Raises PermanentFailure for no event."""
    if event.type != RunEventObserved.event_type:
        return
    try:
        observed = parse_event(msgspec.json.encode(event.data["event"]), own=True)
    except (InvalidEvent, KeyError) as error:
        raise PermanentFailure(f"not an OpenLineage event: {error}") from error
    async with tenant_transaction(pool, event.tenant) as connection:
        if await queries.record_handled(connection, event.id):
            await queries.merge(connection, event.tenant, Changes.of([observed]))
