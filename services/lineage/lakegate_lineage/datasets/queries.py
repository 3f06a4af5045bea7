"""SQL of datasets; `ids` are the names of one dataset."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

SYMLINKS = """
SELECT s.dataset_id, d.namespace, d.name, s.alias_id, s.namespace, s.name, s.own
FROM (SELECT * FROM symlinks WHERE dataset_id = ANY($1::uuid[])
      UNION
      SELECT * FROM symlinks WHERE alias_id = ANY($1::uuid[])) s
JOIN datasets d ON d.tenant = s.tenant AND d.id = s.dataset_id
"""
HAS_SYMLINKS = "SELECT EXISTS (SELECT FROM symlinks)"
DATASETS = """
SELECT d.id, d.namespace, d.name, r.run_id, r.state, r.state_at
FROM datasets d LEFT JOIN runs r ON r.tenant = d.tenant AND r.id = d.written_by
WHERE d.id = ANY($1::uuid[])
"""
FACETS = """
SELECT DISTINCT ON (name) name, body FROM facets WHERE owner = ANY($1::uuid[]) ORDER BY name, at DESC, digest DESC
"""
VERSIONS = """
SELECT r.run_id, r.state, v.at, v.version
FROM dataset_versions v JOIN runs r ON r.tenant = v.tenant AND r.id = v.run_id
WHERE v.dataset_id = ANY($1::uuid[]) ORDER BY v.at DESC, v.run_id LIMIT 100
"""


class Symlink(NamedTuple):
    """`dataset_…` says that it is also called `namespace`, `name`."""

    dataset_id: UUID
    dataset_namespace: str
    dataset_name: str
    alias_id: UUID
    namespace: str
    name: str
    own: bool


async def has_symlinks(connection: Any) -> bool:
    return bool(await connection.fetchval(HAS_SYMLINKS))


async def symlinks_at(connection: Any, ids: Iterable[UUID]) -> list[Symlink]:
    """The symlinks that begin or end at one of the ids."""
    return [Symlink(*row) for row in await connection.fetch(SYMLINKS, list(ids))]


async def describe_datasets(connection: Any, ids: Iterable[UUID]) -> dict[UUID, Any]:
    """Only those that an event named; a dataset that is known as a symlink only has no row."""
    return {row["id"]: row for row in await connection.fetch(DATASETS, list(ids))}


async def facets_of(connection: Any, ids: list[UUID]) -> list[Any]:
    """The latest facet of each name."""
    return list(await connection.fetch(FACETS, ids))


async def versions_of(connection: Any, ids: list[UUID]) -> list[Any]:
    """The latest 100 writes."""
    return list(await connection.fetch(VERSIONS, ids))
