"""SQL of runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from lakegate_lineage.pages import NewestFirst, Window

MAX_EVENTS = 500

COLUMNS = """
    r.id AS key, r.run_id AS id, r.external_id, j.namespace AS job_namespace, j.name AS job_name,
    r.state, r.state_order, r.state_at, r.started_at, r.first_event_at, r.last_event_at, r.parent_id, r.error
FROM runs r JOIN jobs j ON j.tenant = r.tenant AND j.id = r.job_id
"""
# more jobs than these claim one run_id only to be in the way; any of them is found with its job's name
OF_RUN_ID = f"""
SELECT {COLUMNS} WHERE r.run_id = $1 AND ($2::uuid IS NULL OR r.job_id = $2)
ORDER BY r.own DESC, r.first_event_at, r.id LIMIT 100
"""
EVENTS = f"""
SELECT event_time, event_type, body FROM events WHERE subject = $1
ORDER BY event_time DESC, digest DESC LIMIT {MAX_EVENTS}
"""


async def list_runs(
    connection: Any, *, job_id: UUID | None, state: str | None, after: NewestFirst, rows: Window
) -> list[Any]:
    """Newest first, by the time of the first event."""
    conditions: list[str] = []
    values: list[object] = []

    def where(condition: str, *given: object) -> None:
        places = [f"${len(values) + number}" for number in range(1, len(given) + 1)]
        values.extend(given)
        conditions.append(condition.format(*places))

    # only the conditions that are asked for: `$1 IS NULL OR …` would keep the planner from the indexes
    if job_id is not None:
        where("r.job_id = {}", job_id)
    if state is not None:
        where("r.state = {}", state)
    where("(r.first_event_at, r.id) < ({}, {})", after.at, after.id)
    part = f"LIMIT {rows.limit:d} OFFSET {rows.offset:d}"
    statement = f"SELECT {COLUMNS} WHERE {' AND '.join(conditions)} ORDER BY r.first_event_at DESC, r.id DESC {part}"
    return list(await connection.fetch(statement, *values))


async def find_runs(connection: Any, run_id: UUID, job_id: UUID | None) -> list[Any]:
    """The runs of that id, of one job or of all: a load of ours first, then the one that began first."""
    return list(await connection.fetch(OF_RUN_ID, run_id, job_id))


async def events_of(connection: Any, key: UUID) -> list[Any]:
    """The latest MAX_EVENTS of a run, latest first."""
    return list(await connection.fetch(EVENTS, key))
