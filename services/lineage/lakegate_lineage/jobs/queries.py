"""SQL of jobs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from lakegate_lineage.pages import ByName, Window

COLUMNS = """
    j.id, j.namespace, j.name, j.first_event_at, j.last_event_at, r.run_id, r.state, r.state_at
FROM jobs j LEFT JOIN runs r ON r.tenant = j.tenant AND r.id = j.latest_run_id
"""
ONE = f"SELECT {COLUMNS} WHERE j.id = $1"
PAGE = f"SELECT {COLUMNS} WHERE (j.namespace, j.name) > ($1, $2) ORDER BY j.namespace, j.name LIMIT $3 OFFSET $4"
PAGE_OF_NAMESPACE = f"SELECT {COLUMNS} WHERE j.namespace = $1 AND j.name > $2 ORDER BY j.name LIMIT $3 OFFSET $4"
DATASETS = """
SELECT e.writes, d.namespace, d.name FROM edges e JOIN datasets d ON d.tenant = e.tenant AND d.id = e.dataset_id
WHERE e.job_id = $1 ORDER BY d.namespace, d.name LIMIT 5000
"""
FACETS = "SELECT name, body FROM facets WHERE owner = $1 ORDER BY name"


async def list_jobs(connection: Any, *, namespace: str | None, after: ByName, rows: Window) -> list[Any]:
    """In the order of namespace and name."""
    if namespace is not None:
        return list(await connection.fetch(PAGE_OF_NAMESPACE, namespace, after.name, rows.limit, rows.offset))
    return list(await connection.fetch(PAGE, after.namespace, after.name, rows.limit, rows.offset))


async def find_job(connection: Any, job_id: UUID) -> Any | None:
    return await connection.fetchrow(ONE, job_id)


async def datasets_of(connection: Any, job_id: UUID) -> list[Any]:
    return list(await connection.fetch(DATASETS, job_id))


async def facets_of(connection: Any, owner: UUID) -> list[Any]:
    return list(await connection.fetch(FACETS, owner))
