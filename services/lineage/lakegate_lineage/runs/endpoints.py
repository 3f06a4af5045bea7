"""GET /v1/runs and /v1/runs/{id}."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request

from lakegate_chassis.auth import require
from lakegate_chassis.postgres import tenant_transaction
from lakegate_chassis.problems import FieldError, InvalidRequest
from lakegate_contracts.identity import Scope
from lakegate_lineage import identity
from lakegate_lineage.deps import Caller, Pool
from lakegate_lineage.errors import RunUnknown
from lakegate_lineage.pages import NEWEST_RUN, Cursor, Limit, NewestFirst, page_of, read_cursor, window
from lakegate_lineage.runs import queries, service
from lakegate_lineage.runs.schemas import RunDetail, RunPage
from lakegate_lineage.schemas import RunStateName
from lakegate_lineage.scopes import job_scope, readable

router = APIRouter(prefix="/v1/runs", tags=["Runs"])

JobName = Annotated[str | None, Query(max_length=2000)]


@router.get("", response_model=RunPage)
async def list_runs(
    request: Request,
    caller: Caller,
    pool: Pool,
    job_namespace: JobName = None,
    job_name: JobName = None,
    state: RunStateName | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Runs, newest first; of one job with `job_namespace` and `job_name`. Runs in namespaces that the token may
    not read are left out, so a page may hold fewer than `limit`."""
    require(caller, Scope.LINEAGE_READ)
    job_id = _job_id(job_namespace, job_name)
    after = read_cursor(cursor, NEWEST_RUN)
    async with tenant_transaction(pool, caller.tenant) as connection:
        rows = await queries.list_runs(connection, job_id=job_id, state=state, after=after, rows=window(after, limit))
    return page_of(
        rows,
        after,
        limit,
        request,
        position=lambda row: NewestFirst(row["first_event_at"], row["key"]),
        show=service.to_run,
        may_read=lambda row: caller.allows(Scope.LINEAGE_READ, _scope(caller, row)),
    )


@router.get("/{run_id}", response_model=RunDetail)
async def get_run(
    run_id: UUID, caller: Caller, pool: Pool, job_namespace: JobName = None, job_name: JobName = None
) -> dict[str, Any]:
    """One run with its facets, events, and the datasets that the token may read about.

    Where events of several jobs named this id, it is the run of `job_namespace` and `job_name`; without them a load
    of ours, else the one that began first, of those that the token may read.
    """
    require(caller, Scope.LINEAGE_READ)
    job_id = _job_id(job_namespace, job_name)
    async with tenant_transaction(pool, caller.tenant) as connection:
        rows = await queries.find_runs(connection, run_id, job_id)
        if not rows:
            raise RunUnknown(f"No event has named the run {run_id}. See /v1/runs for those that are known.")
        row = next((row for row in rows if caller.allows(Scope.LINEAGE_READ, _scope(caller, row))), rows[0])
        require(caller, Scope.LINEAGE_READ, _scope(caller, row))
        events = await queries.events_of(connection, row["key"])
    detail = service.to_detail(row, events)
    return detail | {side: readable(caller, detail[side]) for side in ("inputs", "outputs")}


def _job_id(namespace: str | None, name: str | None) -> UUID | None:
    if namespace is None and name is None:
        return None
    if not (namespace and name):
        detail = "Give job_namespace and job_name together"
        raise InvalidRequest(f"{detail}.", errors=[FieldError(detail=detail, pointer="?job_namespace")])
    return identity.job_id(namespace, name)


def _scope(caller: Caller, row: Any) -> str:
    return job_scope(caller.tenant, row["job_namespace"], row["job_name"])
