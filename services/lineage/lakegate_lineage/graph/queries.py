"""SQL of the graph walk: one statement for each level, by `= ANY`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

# Row-level security adds `tenant = …`, the first column of every index used here.
JOBS_OF_DATASETS = """
SELECT dataset_id AS near, job_id AS far FROM edges WHERE dataset_id = ANY($1::uuid[]) AND writes = $2
ORDER BY dataset_id, job_id LIMIT $3
"""
DATASETS_OF_JOBS = """
SELECT job_id AS near, dataset_id AS far FROM edges WHERE job_id = ANY($1::uuid[]) AND writes = $2
ORDER BY job_id, dataset_id LIMIT $3
"""
JOBS = """
SELECT j.id, j.namespace, j.name, r.run_id, r.state, r.state_at
FROM jobs j LEFT JOIN runs r ON r.tenant = j.tenant AND r.id = j.latest_run_id
WHERE j.id = ANY($1::uuid[])
"""


async def jobs_of_datasets(connection: Any, ids: Iterable[UUID], *, writers: bool, limit: int) -> list[Any]:
    """Rows (near: dataset, far: job), at most `limit`."""
    return list(await connection.fetch(JOBS_OF_DATASETS, list(ids), writers, limit))


async def datasets_of_jobs(connection: Any, ids: Iterable[UUID], *, written: bool, limit: int) -> list[Any]:
    """Rows (near: job, far: dataset), at most `limit`."""
    return list(await connection.fetch(DATASETS_OF_JOBS, list(ids), written, limit))


async def describe_jobs(connection: Any, ids: Iterable[UUID]) -> dict[UUID, Any]:
    return {row["id"]: row for row in await connection.fetch(JOBS, list(ids))}
