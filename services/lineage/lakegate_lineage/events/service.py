"""Who may say what: scopes with a namespace pattern, held against the namespaces that stand in an event."""

from __future__ import annotations

from lakegate_chassis.auth import require
from lakegate_chassis.problems import Forbidden, Problem
from lakegate_contracts.identity import Principal, Scope
from lakegate_lineage.errors import EventTooLarge, InvalidEvent
from lakegate_lineage.events.changes import other_names
from lakegate_lineage.events.openlineage import Dataset, Event, parse_event, split_batch
from lakegate_lineage.events.writer import EventWriter
from lakegate_lineage.scopes import dataset_scope, is_ours, job_scope


async def record_event(writer: EventWriter, principal: Principal, body: bytes) -> Event:
    """Commit one event. Raises InvalidEvent, Forbidden, LineageOverloaded, Unavailable."""
    event = admit(principal, parse_event(body))
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
        return admit(principal, parse_event(item))
    except (InvalidEvent, Forbidden) as problem:
        return problem


def admit(principal: Principal, event: Event) -> Event:
    """The event, as far as the principal may say it.

    Raises Forbidden unless `lineage:write` covers the job's namespace, that of every dataset written, and that of
    every table of ours that a symlink names. Any input may be named: to have read something changes nothing about
    it. The facets of one outside of the scope are not merged, since they would.
    """
    tenant = principal.tenant
    if event.job is not None:
        require(principal, Scope.LINEAGE_WRITE, job_scope(tenant, event.job.namespace, event.job.name))
    for dataset in (*event.outputs, *([event.dataset] if event.dataset else ())):
        require(principal, Scope.LINEAGE_WRITE, dataset_scope(tenant, dataset.namespace, dataset.name))
    inputs = [_without_foreign_facets(principal, dataset) for dataset in event.inputs]
    for dataset in (*inputs, *event.outputs, *([event.dataset] if event.dataset else ())):
        for namespace, name in other_names(dataset):
            if is_ours(tenant, namespace):
                require(principal, Scope.LINEAGE_WRITE, dataset_scope(tenant, namespace, name))
    return event._replace(inputs=inputs)


def _without_foreign_facets(principal: Principal, dataset: Dataset) -> Dataset:
    scope = dataset_scope(principal.tenant, dataset.namespace, dataset.name)
    if not dataset.facets or principal.allows(Scope.LINEAGE_WRITE, scope):
        return dataset
    return Dataset(dataset.namespace, dataset.name)
