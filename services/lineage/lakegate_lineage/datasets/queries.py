"""SQL of datasets; `ids` are the names of one dataset."""

from __future__ import annotations

from typing import Any
from uuid import UUID

FACETS = """
SELECT DISTINCT ON (name) name, body FROM facets WHERE owner = ANY($1::uuid[]) ORDER BY name, at DESC, digest DESC
"""
VERSIONS = """
SELECT v.run_id, r.state, v.at, v.version
FROM dataset_versions v LEFT JOIN runs r ON r.tenant = v.tenant AND r.id = v.run_id
WHERE v.dataset_id = ANY($1::uuid[]) ORDER BY v.at DESC, v.run_id LIMIT 100
"""


async def facets_of(connection: Any, ids: list[UUID]) -> list[Any]:
    """The latest facet of each name."""
    return list(await connection.fetch(FACETS, ids))


async def versions_of(connection: Any, ids: list[UUID]) -> list[Any]:
    """The latest 100 writes."""
    return list(await connection.fetch(VERSIONS, ids))
