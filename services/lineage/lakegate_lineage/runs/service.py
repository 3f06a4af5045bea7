"""A run as it is shown: what is stored of it, and what its events say in detail."""

from __future__ import annotations

from typing import Any

import msgspec

from lakegate_lineage.events.changes import ENDED
from lakegate_lineage.facets import Facets, without_deleted


class _Used(msgspec.Struct, rename="camel"):
    namespace: str
    name: str
    facets: Facets | None = None
    input_facets: Facets | None = None
    output_facets: Facets | None = None


class _RunFacets(msgspec.Struct):
    facets: Facets | None = None


class _Body(msgspec.Struct):
    run: _RunFacets
    inputs: list[_Used] | None = None
    outputs: list[_Used] | None = None


_body = msgspec.json.Decoder(_Body)


def to_run(row: Any) -> dict[str, Any]:
    """The wire form (schemas.Run) of a row."""
    ended_at = row["state_at"] if row["state"] in ENDED else None
    started_at = row["started_at"]
    # the clocks of two machines can put an end before its start
    duration = max((ended_at - started_at).total_seconds(), 0.0) if ended_at and started_at else None
    return {
        "id": row["id"],
        "external_id": row["external_id"],
        "job": {"namespace": row["job_namespace"], "name": row["job_name"]},
        "state": row["state"],
        "started_at": started_at,
        "ended_at": ended_at,
        "duration_seconds": duration,
        "first_event_at": row["first_event_at"],
        "last_event_at": row["last_event_at"],
        "parent_id": row["parent_id"],
        "error": row["error"],
    }


def to_detail(row: Any, events: list[Any]) -> dict[str, Any]:
    """The wire form (schemas.RunDetail); `events` latest first, of each facet the latest counts."""
    facets: Facets = {}
    inputs: dict[tuple[str, str], Facets] = {}
    outputs: dict[tuple[str, str], Facets] = {}
    for event in reversed(events):
        body = _body.decode(event["body"])
        facets |= body.run.facets or {}
        for used in body.inputs or ():
            inputs.setdefault((used.namespace, used.name), {}).update((used.facets or {}) | (used.input_facets or {}))
        for used in body.outputs or ():
            outputs.setdefault((used.namespace, used.name), {}).update((used.facets or {}) | (used.output_facets or {}))
    return to_run(row) | {
        "facets": without_deleted(facets),
        "inputs": _datasets(inputs),
        "outputs": _datasets(outputs),
        "events": [{"type": event["event_type"], "at": event["event_time"]} for event in reversed(events)],
    }


def _datasets(found: dict[tuple[str, str], Facets]) -> list[dict[str, Any]]:
    return [
        {"namespace": namespace, "name": name, "facets": without_deleted(facets)}
        for (namespace, name), facets in sorted(found.items())
    ]
