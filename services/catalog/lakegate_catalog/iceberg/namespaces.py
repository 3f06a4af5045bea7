"""Rules of Iceberg namespaces. Levels are joined with '.', which no level contains."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from lakegate_catalog.datasets.state import table_name
from lakegate_catalog.iceberg.dialect import (
    AlreadyExists,
    CommitFailed,
    NamespaceNotEmpty,
    NoSuchNamespace,
    UnprocessableEntity,
)
from lakegate_catalog.iceberg.metadata import RESERVED
from lakegate_catalog.iceberg.properties import check_properties
from lakegate_catalog.store.entities import CLAIM_GRACE, Entities, NameTaken, first_change, next_change
from lakegate_catalog.store.port import Change, Claim, Name, SequenceTaken, Space
from lakegate_contracts.names import InvalidName, TableName, check_levels

MAX_PROPERTIES_BYTES = 64_000
UPDATE_ATTEMPTS = 5


def namespace_name(namespace: str) -> Name:
    return Name(Space.NAMESPACE, namespace, namespace.rpartition(".")[0])


def dotted(levels: list[str]) -> str:
    """Join the levels. Raises InvalidName."""
    check_levels(levels)
    return ".".join(levels)


class Namespaces:
    """Create, list, describe and drop; each method takes the tenant first."""

    def __init__(self, entities: Entities) -> None:
        self._entities = entities
        self._store = entities.store

    async def create(self, tenant: str, namespace: str, properties: dict[str, str]) -> dict[str, str]:
        """Create it, and what is missing above it. Raises AlreadyExists."""
        check_properties(properties)
        _check_size(properties)
        levels = namespace.split(".")
        if levels[0] == RESERVED:
            raise InvalidName(f"{RESERVED} is the folder of rejected rows, and can't be a namespace.")
        for depth in range(1, len(levels)):
            above = ".".join(levels[:depth])
            if not await self.exists(tenant, above):
                await self._create(tenant, above, {}, unless_exists=True)
        await self._create(tenant, namespace, properties)
        return properties

    async def _create(
        self, tenant: str, namespace: str, properties: dict[str, str], *, unless_exists: bool = False
    ) -> None:
        now = datetime.now(UTC)
        name = namespace_name(namespace)
        first = replace(first_change(tenant, uuid4(), name, "created", now), state=_state(properties, now))
        try:
            await self._entities.create(name, first)
        except NameTaken as error:
            if not unless_exists:
                raise AlreadyExists(f"Namespace {namespace} already exists.") from error

    async def exists(self, tenant: str, namespace: str) -> bool:
        return await self._store.named(tenant, namespace_name(namespace)) is not None

    async def properties(self, tenant: str, namespace: str) -> dict[str, str]:
        """Raises NoSuchNamespace."""
        return _properties(await self._current(tenant, namespace))

    async def children(self, tenant: str, parent: str, *, after: str, limit: int) -> list[str]:
        """Names of the namespaces directly below `parent` ("" is the root), in order. Raises NoSuchNamespace."""
        if parent:
            await self._current(tenant, parent)
        found = await self._store.listed(tenant, Space.NAMESPACE, parent=parent, after=after, limit=limit)
        return [change.key for change in found if change.key]

    async def update(
        self, tenant: str, namespace: str, removals: list[str], updates: dict[str, str]
    ) -> tuple[list[str], list[str], list[str]]:
        """Keys that were removed, updated and missing. Raises NoSuchNamespace, UnprocessableEntity, CommitFailed."""
        check_properties(updates)
        both = sorted(set(removals) & set(updates))
        if both:
            raise UnprocessableEntity(f"A property can't be both removed and updated: {', '.join(both)}.")
        for _ in range(UPDATE_ATTEMPTS):
            current = await self._current(tenant, namespace)
            before = _properties(current)
            after = {key: value for key, value in before.items() if key not in removals} | updates
            _check_size(after)
            change = next_change(current, "updated")
            state = {**(current.state or {}), "properties": after}
            try:
                await self._store.append(replace(change, state=state))
            except SequenceTaken:
                continue
            removed = [key for key in removals if key in before]
            return removed, sorted(updates), [key for key in removals if key not in before]
        raise CommitFailed(f"Namespace {namespace} is being changed by others again and again. Try again.")

    async def drop(self, tenant: str, namespace: str) -> None:
        """Raises NoSuchNamespace, NamespaceNotEmpty."""
        current = await self._current(tenant, namespace)
        if await self._occupied(tenant, namespace):
            raise NamespaceNotEmpty(f"Namespace {namespace} is not empty. Drop its tables and namespaces first.")
        name = namespace_name(namespace)
        try:
            dropped = await self._entities.remove(name, next_change(current, "dropped"))
        except SequenceTaken as error:
            raise CommitFailed(f"Namespace {namespace} has just been changed. Try again.") from error
        # Whoever claimed a name below it before it was gone is seen now; whoever claims one later sees it gone.
        if await self._occupied(tenant, namespace):
            restored = replace(dropped, sequence=dropped.sequence + 1, kind="restored", state=current.state)
            with suppress(NameTaken):  # somebody made it again already
                await self._entities.create(name, restored)
            raise NamespaceNotEmpty(f"Namespace {namespace} is not empty: something was made in it just now.")

    async def _occupied(self, tenant: str, namespace: str) -> bool:
        tables = table_name(tenant, TableName(namespace, "")).parent
        for space, parent in ((Space.NAMESPACE, namespace), (Space.DATASET, tables)):
            # Claims come first: what a claim was made for is either still pending here, or listed below. The other way
            # round it could happen in between, and be seen by neither.
            for claim in await self._store.claims(tenant, space, parent):
                if await self._pending(tenant, claim):
                    return True
            if await self._store.listed(tenant, space, parent=parent, limit=1):
                return True
        return False

    async def _pending(self, tenant: str, claim: Claim) -> bool:
        """Whether the change that the claim was made for may still come."""
        if datetime.now(UTC) - claim.claimed_at >= CLAIM_GRACE:
            return False
        current = await self._store.current(tenant, claim.entity_id)
        return current is None or current.sequence < claim.sequence

    async def _current(self, tenant: str, namespace: str) -> Change:
        current = await self._store.named(tenant, namespace_name(namespace))
        if current is None:
            raise NoSuchNamespace(f"Namespace {namespace} does not exist.")
        return current


def parse_namespace(path: str) -> str:
    """A namespace of a path or query: levels separated by the unit separator (%1F). Raises InvalidName."""
    if not path:
        raise InvalidName("A namespace has at least one level.")
    return dotted(path.split("\x1f"))


def _state(properties: dict[str, str], now: datetime) -> dict[str, Any]:
    return {"properties": properties, "created_at": now.isoformat()}


def _properties(change: Change) -> dict[str, str]:
    found: dict[str, str] = (change.state or {}).get("properties", {})
    return found


def _check_size(properties: dict[str, str]) -> None:
    size = sum(len(key) + len(value) for key, value in properties.items())
    if size > MAX_PROPERTIES_BYTES:
        raise UnprocessableEntity(f"Properties weigh {size:,} characters; a namespace takes {MAX_PROPERTIES_BYTES:,}.")
