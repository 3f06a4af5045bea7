"""SQL of the graph walk: one statement for each level, by `= ANY`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
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
SYMLINKS = """
SELECT dataset_id, alias_id, namespace, name FROM symlinks WHERE dataset_id = ANY($1::uuid[])
UNION
SELECT dataset_id, alias_id, namespace, name FROM symlinks WHERE alias_id = ANY($1::uuid[])
"""
HAS_SYMLINKS = "SELECT EXISTS (SELECT FROM symlinks)"
JOBS = """
SELECT j.id, j.namespace, j.name, r.id AS run_id, r.state, r.state_at
FROM jobs j LEFT JOIN runs r ON r.tenant = j.tenant AND r.id = j.latest_run_id
WHERE j.id = ANY($1::uuid[])
"""
DATASETS = """
SELECT d.id, d.namespace, d.name, r.id AS run_id, r.state, r.state_at
FROM datasets d LEFT JOIN runs r ON r.tenant = d.tenant AND r.id = d.written_by
WHERE d.id = ANY($1::uuid[])
"""


class Symlink(NamedTuple):
    dataset_id: UUID
    alias_id: UUID
    namespace: str
    name: str


async def jobs_of_datasets(connection: Any, ids: Iterable[UUID], *, writers: bool, limit: int) -> list[Any]:
    """Rows (near: dataset, far: job), at most `limit`."""
    return list(await connection.fetch(JOBS_OF_DATASETS, list(ids), writers, limit))


async def datasets_of_jobs(connection: Any, ids: Iterable[UUID], *, written: bool, limit: int) -> list[Any]:
    """Rows (near: job, far: dataset), at most `limit`."""
    return list(await connection.fetch(DATASETS_OF_JOBS, list(ids), written, limit))


async def has_symlinks(connection: Any) -> bool:
    return bool(await connection.fetchval(HAS_SYMLINKS))


async def symlinks_at(connection: Any, ids: Iterable[UUID]) -> list[Symlink]:
    """The symlinks that begin or end at one of the ids."""
    return [Symlink(*row) for row in await connection.fetch(SYMLINKS, list(ids))]


async def describe_jobs(connection: Any, ids: Iterable[UUID]) -> dict[UUID, Any]:
    return {row["id"]: row for row in await connection.fetch(JOBS, list(ids))}


async def describe_datasets(connection: Any, ids: Iterable[UUID]) -> dict[UUID, Any]:
    """Only those that an event named; a dataset that is known as a symlink only has no row."""
    return {row["id"]: row for row in await connection.fetch(DATASETS, list(ids))}
