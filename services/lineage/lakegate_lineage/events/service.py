"""Who may say what: scopes with a namespace pattern, held against the namespaces that stand in an event."""

from __future__ import annotations

from lakegate_chassis.auth import require
from lakegate_chassis.problems import Forbidden, Problem
from lakegate_contracts.identity import Principal, Scope
from lakegate_lineage.errors import EventTooLarge, InvalidEvent
from lakegate_lineage.events.openlineage import Event, parse_event, split_batch
from lakegate_lineage.events.writer import EventWriter
from lakegate_lineage.scopes import dataset_scope, job_scope


async def record_event(writer: EventWriter, principal: Principal, body: bytes) -> Event:
    """Commit one event. Raises InvalidEvent, Forbidden, LineageOverloaded, Unavailable."""
    event = parse_event(body)
    check_scopes(principal, event)
    (refusal,) = await writer.write(principal.tenant, [event])
    if refusal is not None:
        raise refusal
    return event


async def record_batch(
    writer: EventWriter, principal: Principal, body: bytes, *, max_events: int, max_event_bytes: int
) -> list[Event | Problem]:
    """Commit what can be committed of a JSON array; each item is its event, or why it was refused.

    Raises InvalidEvent when it is no array, EventTooLarge when it is too long, LineageOverloaded, Unavailable.
    """
    items = split_batch(body)
    if len(items) > max_events:
        raise EventTooLarge(f"A batch holds at most {max_events} events; this one has {len(items)}. Send several.")
    results = [_read_item(principal, item, max_event_bytes) for item in items]
    good = [result for result in results if isinstance(result, Event)]
    outcome = iter(await writer.write(principal.tenant, good) if good else ())
    return [(next(outcome) or result) if isinstance(result, Event) else result for result in results]


def _read_item(principal: Principal, item: bytes, max_bytes: int) -> Event | Problem:
    if len(item) > max_bytes:
        return EventTooLarge(f"An event has at most {max_bytes} bytes; this one has {len(item)}.")
    try:
        event = parse_event(item)
        check_scopes(principal, event)
    except (InvalidEvent, Forbidden) as problem:
        return problem
    return event


def check_scopes(principal: Principal, event: Event) -> None:
    """Raise Forbidden unless `lineage:write` covers the job's namespace and that of every dataset written.

    Inputs are not checked: to have read something changes nothing about it.
    """
    tenant = principal.tenant
    if event.job is not None:
        require(principal, Scope.LINEAGE_WRITE, job_scope(tenant, event.job.namespace, event.job.name))
    for dataset in (*event.outputs, *([event.dataset] if event.dataset else ())):
        require(principal, Scope.LINEAGE_WRITE, dataset_scope(tenant, dataset.namespace, dataset.name))
