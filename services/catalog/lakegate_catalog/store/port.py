"""The catalog store port: an append-only log of changes per entity, and unique claims on names.

Each method touches one document, so that a store without transactions can do it: a compare-and-set is the insert
of the next sequence under a unique id. What spans documents (create, rename, remove) is in `entities.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from lakegate_contracts.events import EventData

EVERY_TENANT = "*"
SOURCE = "lakegate-catalog"  # of the events that are stored with changes
SEPARATOR = "\x1f"  # between the parts of a key: in no name, and below every printable character when sorted

State = dict[str, Any]


class Space(StrEnum):
    """Names are unique in a space: namespaces of Iceberg; datasets by their OpenLineage pair, tables among them."""

    NAMESPACE = "namespace"
    DATASET = "dataset"


@dataclass(frozen=True, slots=True)
class Name:
    """`key` is unique in its space and gives the order of lists; `parent` groups the names that are listed together."""

    space: Space
    key: str
    parent: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A name taken by an entity for its change `sequence`."""

    name: Name
    entity_id: UUID
    sequence: int
    claimed_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """One change of an entity. `state` is the whole state after it; None: the entity is gone, and has no name.

    `event` goes to the event log with the change, in the order of sequences; `position` is at or above its place
    there, and only the writer knows it.
    """

    tenant: str
    entity_id: UUID
    sequence: int
    kind: str
    space: Space
    key: str | None
    state: State | None
    changed_at: datetime
    event: EventData | None = None
    position: int | None = None


class SequenceTaken(Exception):
    """Another change of the entity has this sequence: the compare-and-set is lost."""


class CatalogStore(Protocol):
    """Every method may raise the chassis' Unavailable."""

    async def append(self, change: Change) -> Change:
        """Store `change` and, with it, its event. Raises SequenceTaken.

        Returned with its position, or without one when the event log can't be reached and gets the event later.
        """
        ...

    async def current(self, tenant: str, entity_id: UUID) -> Change | None:
        """The change with the highest sequence; also one that says the entity is gone."""
        ...

    async def history(
        self, tenant: str, entity_id: UUID, *, before: int | None = None, limit: int = 100
    ) -> list[Change]:
        """Changes with sequences below `before`, newest first."""
        ...

    async def change(self, tenant: str, entity_id: UUID, sequence: int) -> Change | None: ...

    async def claim(self, tenant: str, claim: Claim) -> Claim:
        """Take the name; returns who holds it now: `claim` itself, or the claim that was there first."""
        ...

    async def release(self, tenant: str, claim: Claim) -> bool:
        """Give the name up, if it is still held by exactly this entity and sequence."""
        ...

    async def named(self, tenant: str, name: Name) -> Change | None:
        """The current change of the entity that carries the name; None when nobody does (a mere claim is not it)."""
        ...

    async def listed(
        self,
        tenant: str,
        space: Space,
        *,
        parent: str | None = None,
        prefix: str = "",
        areas: Sequence[str] | None = None,
        after: str = "",
        limit: int = 100,
    ) -> list[Change]:
        """Current changes of the entities that carry a name, by key: those above `after` that begin with `prefix`.

        `areas`: only what is in a namespace that one of these patterns covers; a set of characters in a pattern may
        stand for any character.
        """
        ...

    async def claims(self, tenant: str, space: Space, parent: str, *, limit: int = 100) -> list[Claim]:
        """Claims below `parent`, carried or not: also those whose change is yet to come."""
        ...

    def everything(self, space: Space, *, batch: int = 500) -> AsyncIterator[Sequence[Change]]:
        """Current changes of all tenants' named entities, in batches: what a replica is built from."""
        ...
