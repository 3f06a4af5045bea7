"""The catalog store on PostgreSQL: one table of changes, one of claims, under row-level security."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg

from lakegate_catalog.store.areas import parents_in
from lakegate_catalog.store.port import EVERY_TENANT, SOURCE, CatalogStore, Change, Claim, Name, SequenceTaken, Space
from lakegate_chassis.eventlog import EventLog, make_event
from lakegate_chassis.postgres import tenant_transaction
from lakegate_chassis.problems import Unavailable

INSERT_CHANGE = """
INSERT INTO changes (tenant, entity_id, sequence, kind, space, name_key, state, changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING
RETURNING true
"""
CHANGE_COLUMNS = "ch.tenant, ch.entity_id, ch.sequence, ch.kind, ch.space, ch.name_key, ch.state, ch.changed_at"
CURRENT = f"""
SELECT {CHANGE_COLUMNS} FROM changes ch
WHERE tenant = $1 AND entity_id = $2 ORDER BY sequence DESC LIMIT 1
"""
HISTORY = f"""
SELECT {CHANGE_COLUMNS} FROM changes ch
WHERE tenant = $1 AND entity_id = $2 AND sequence < $3 ORDER BY sequence DESC LIMIT $4
"""
ONE_CHANGE = f"SELECT {CHANGE_COLUMNS} FROM changes ch WHERE tenant = $1 AND entity_id = $2 AND sequence = $3"
# The update changes nothing: it makes RETURNING answer with the row that was there first.
INSERT_CLAIM = """
INSERT INTO claims AS held (tenant, space, name_key, parent, entity_id, sequence, claimed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant, space, name_key) DO UPDATE SET parent = held.parent
RETURNING entity_id, sequence, claimed_at
"""
RELEASE = """
DELETE FROM claims WHERE tenant = $1 AND space = $2 AND name_key = $3 AND entity_id = $4 AND sequence = $5
RETURNING true
"""
CLAIMS = """
SELECT name_key, entity_id, sequence, claimed_at FROM claims
WHERE tenant = $1 AND space = $2 AND parent = $3 ORDER BY name_key LIMIT $4
"""
CURRENT_OF_CLAIM = f"""
CROSS JOIN LATERAL (
    SELECT {CHANGE_COLUMNS} FROM changes ch
    WHERE ch.tenant = c.tenant AND ch.entity_id = c.entity_id ORDER BY ch.sequence DESC LIMIT 1
) ch
"""
NAMED = f"""
SELECT ch.* FROM claims c {CURRENT_OF_CLAIM}
WHERE c.tenant = $1 AND c.space = $2 AND c.name_key = $3 AND ch.name_key = c.name_key
"""
LISTED = f"""
SELECT ch.* FROM claims c {CURRENT_OF_CLAIM}
WHERE c.tenant = $1 AND c.space = $2 AND ($3::text IS NULL OR c.parent = $3)
  AND c.name_key > $4 AND c.name_key >= $5 AND starts_with(c.name_key, $5) AND ch.name_key = c.name_key
  AND ($7::text IS NULL OR c.parent ~ $7)
ORDER BY c.name_key LIMIT $6
"""
EVERYTHING = f"""
SELECT ch.* FROM claims c {CURRENT_OF_CLAIM}
WHERE c.space = $1 AND (c.tenant, c.name_key) > ($2, $3) AND ch.name_key = c.name_key
ORDER BY c.tenant, c.name_key LIMIT $4
"""


class PostgresCatalogStore(CatalogStore):
    """Adapter over asyncpg; the pool's search_path is the catalog's schema."""

    def __init__(self, pool: asyncpg.Pool, log: EventLog) -> None:
        self._pool = pool
        self._log = log

    async def append(self, change: Change) -> Change:
        async with tenant_transaction(self._pool, change.tenant) as connection:
            stored = await connection.fetchval(
                INSERT_CHANGE,
                change.tenant,
                change.entity_id,
                change.sequence,
                change.kind,
                change.space.value,
                change.key,
                change.state,
                change.changed_at,
            )
            if not stored:
                raise SequenceTaken(f"{change.entity_id}:{change.sequence}")
            if change.event is None:
                return change
            event = make_event(change.event, key=str(change.entity_id), tenant=change.tenant, source=SOURCE)
            await self._log.publish(connection, event)
        try:
            # the log numbers what is committed; its head is the event's own position or one above it
            return replace(change, position=await self._log.head())
        except Unavailable:
            return change  # stored all the same; only the token is missing

    async def current(self, tenant: str, entity_id: UUID) -> Change | None:
        async with tenant_transaction(self._pool, tenant) as connection:
            return _change(await connection.fetchrow(CURRENT, tenant, entity_id))

    async def history(
        self, tenant: str, entity_id: UUID, *, before: int | None = None, limit: int = 100
    ) -> list[Change]:
        below = 2**31 - 1 if before is None else before
        async with tenant_transaction(self._pool, tenant) as connection:
            return _changes(await connection.fetch(HISTORY, tenant, entity_id, below, limit))

    async def change(self, tenant: str, entity_id: UUID, sequence: int) -> Change | None:
        async with tenant_transaction(self._pool, tenant) as connection:
            return _change(await connection.fetchrow(ONE_CHANGE, tenant, entity_id, sequence))

    async def claim(self, tenant: str, claim: Claim) -> Claim:
        name = claim.name
        async with tenant_transaction(self._pool, tenant) as connection:
            held = await connection.fetchrow(
                INSERT_CLAIM,
                tenant,
                name.space.value,
                name.key,
                name.parent,
                claim.entity_id,
                claim.sequence,
                claim.claimed_at,
            )
        return Claim(name, held["entity_id"], held["sequence"], held["claimed_at"])

    async def release(self, tenant: str, claim: Claim) -> bool:
        name = claim.name
        async with tenant_transaction(self._pool, tenant) as connection:
            released = await connection.fetchval(
                RELEASE, tenant, name.space.value, name.key, claim.entity_id, claim.sequence
            )
        return bool(released)

    async def named(self, tenant: str, name: Name) -> Change | None:
        async with tenant_transaction(self._pool, tenant) as connection:
            return _change(await connection.fetchrow(NAMED, tenant, name.space.value, name.key))

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
        within = None if areas is None else parents_in(areas)
        async with tenant_transaction(self._pool, tenant) as connection:
            return _changes(await connection.fetch(LISTED, tenant, space.value, parent, after, prefix, limit, within))

    async def claims(self, tenant: str, space: Space, parent: str, *, limit: int = 100) -> list[Claim]:
        async with tenant_transaction(self._pool, tenant) as connection:
            rows = await connection.fetch(CLAIMS, tenant, space.value, parent, limit)
        return [
            Claim(Name(space, row["name_key"], parent), row["entity_id"], row["sequence"], row["claimed_at"])
            for row in rows
        ]

    async def everything(self, space: Space, *, batch: int = 500) -> AsyncIterator[Sequence[Change]]:
        after = ("", "")
        while True:
            # one transaction a batch: a snapshot held through a long walk would keep vacuum from its work
            async with tenant_transaction(self._pool, EVERY_TENANT) as connection:
                found = _changes(await connection.fetch(EVERYTHING, space.value, *after, batch))
            if not found:
                return
            yield found
            after = (found[-1].tenant, found[-1].key or "")


def _changes(rows: list[Any]) -> list[Change]:
    return [change for row in rows if (change := _change(row))]


def _change(row: Any) -> Change | None:
    if row is None:
        return None
    return Change(
        tenant=row["tenant"],
        entity_id=row["entity_id"],
        sequence=row["sequence"],
        kind=row["kind"],
        space=Space(row["space"]),
        key=row["name_key"],
        state=row["state"],
        changed_at=row["changed_at"],
    )
