"""Changes, claims and events as BSON documents. Times are text: BSON's own dates keep milliseconds only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from lakegate_catalog.store.port import SEPARATOR, Change, Claim, Name, Space
from lakegate_chassis.eventlog import Event

Document = dict[str, Any]

MAX_SEQUENCE = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that is stored with its change and not known to be in the event log. `entity` is an `entity_key`."""

    change_id: str
    entity: str
    sequence: int
    since: datetime
    event: Event


def entity_key(tenant: str, entity_id: UUID) -> str:
    return f"{tenant}/{entity_id}"


def change_id(tenant: str, entity_id: UUID, sequence: int) -> str:
    """Ten digits: ids sort as sequences do, so that the index on `_id` is all that histories need."""
    return f"{entity_key(tenant, entity_id)}:{sequence:010d}"


def change_ids(tenant: str, entity_id: UUID, before: int | None = None) -> Document:
    """The condition on `_id` that an entity's changes (below a sequence) meet."""
    key = entity_key(tenant, entity_id)
    # ';' comes right after ':'
    below = f"{key};" if before is None else change_id(tenant, entity_id, max(0, min(before, MAX_SEQUENCE)))
    return {"$gte": f"{key}:", "$lt": below}


def claim_id(tenant: str, name: Name) -> str:
    # not "/": it may stand in names, and in no way may one tenant's id be another's
    return SEPARATOR.join((tenant, name.space.value, name.key))


def from_change(change: Change, event: Event | None, now: datetime) -> Document:
    """`latest_of` is taken away by the next change, `outbox` once the event is in the log."""
    key = entity_key(change.tenant, change.entity_id)
    document: Document = {
        "_id": change_id(change.tenant, change.entity_id, change.sequence),
        "tenant": change.tenant,
        "entity_id": change.entity_id,
        "sequence": change.sequence,
        "kind": change.kind,
        "space": change.space.value,
        "key": change.key,
        "state": change.state,
        "changed_at": change.changed_at.isoformat(),
        "latest_of": key,
    }
    if event is not None:
        document["outbox"] = {"entity": key, "since": now, "event": from_event(event)}
    return document


def to_change(document: Mapping[str, Any]) -> Change:
    return Change(
        tenant=document["tenant"],
        entity_id=document["entity_id"],
        sequence=document["sequence"],
        kind=document["kind"],
        space=Space(document["space"]),
        key=document["key"],
        state=document["state"],
        changed_at=datetime.fromisoformat(document["changed_at"]),
    )


def from_claim(tenant: str, claim: Claim) -> Document:
    return {
        "_id": claim_id(tenant, claim.name),
        "tenant": tenant,
        "space": claim.name.space.value,
        "key": claim.name.key,
        "parent": claim.name.parent,
        "entity_id": claim.entity_id,
        "sequence": claim.sequence,
        "claimed_at": claim.claimed_at.isoformat(),
    }


def to_claim(document: Mapping[str, Any]) -> Claim:
    return Claim(
        Name(Space(document["space"]), document["key"], document["parent"]),
        document["entity_id"],
        document["sequence"],
        datetime.fromisoformat(document["claimed_at"]),
    )


def from_event(event: Event) -> Document:
    return {
        "id": event.id,
        "topic": event.topic,
        "type": event.type,
        "key": event.key,
        "source": event.source,
        "tenant": event.tenant,
        "time": event.time.isoformat(),
        "data": event.data,
        "traceparent": event.traceparent,
    }


def to_waiting(document: Mapping[str, Any]) -> Waiting:
    outbox = document["outbox"]
    stored = outbox["event"]
    event = Event(
        id=stored["id"],
        topic=stored["topic"],
        type=stored["type"],
        key=stored["key"],
        source=stored["source"],
        tenant=stored["tenant"],
        time=datetime.fromisoformat(stored["time"]),
        data=stored["data"],
        traceparent=stored["traceparent"],
    )
    return Waiting(document["_id"], outbox["entity"], document["sequence"], outbox["since"], event)


def beginning_with(prefix: str) -> Document:
    """The condition that strings beginning with `prefix` meet, in the order of code points (which UTF-8 keeps)."""
    condition = {"$gte": prefix}
    stem = prefix.rstrip("\U0010ffff")
    if stem:
        following = ord(stem[-1]) + 1
        # surrogates are no characters: the one after U+D7FF is U+E000
        condition["$lt"] = stem[:-1] + chr(0xE000 if following == 0xD800 else following)
    return condition
