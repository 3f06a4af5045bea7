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
from lakegate_lineage.pages import Cursor, Limit, NewestFirst, next_link, read_cursor
from lakegate_lineage.runs import queries, service
from lakegate_lineage.runs.schemas import RunDetail, RunPage
from lakegate_lineage.schemas import RunStateName
from lakegate_lineage.scopes import job_scope, readable

router = APIRouter(prefix="/v1/runs", tags=["Runs"])


@router.get("", response_model=RunPage)
async def list_runs(
    request: Request,
    caller: Caller,
    pool: Pool,
    job_namespace: Annotated[str | None, Query(max_length=2000)] = None,
    job_name: Annotated[str | None, Query(max_length=2000)] = None,
    state: RunStateName | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Runs, newest first; of one job with `job_namespace` and `job_name`. Runs in namespaces that the token may
    not read are left out, so a page may hold fewer than `limit`."""
    require(caller, Scope.LINEAGE_READ)
    job_id = None
    if job_namespace is not None or job_name is not None:
        if not (job_namespace and job_name):
            detail = "Give job_namespace and job_name together"
            raise InvalidRequest(f"{detail}.", errors=[FieldError(detail=detail, pointer="?job_namespace")])
        job_id = identity.job_id(job_namespace, job_name)
    after = read_cursor(cursor, NewestFirst)
    async with tenant_transaction(pool, caller.tenant) as connection:
        rows = await queries.list_runs(connection, job_id=job_id, state=state, after=after, limit=limit + 1)
    page = rows[:limit]
    last = page[-1] if len(rows) > limit else None
    position = NewestFirst(last["first_event_at"], last["id"]) if last else None
    return {
        "items": [service.to_run(row) for row in page if caller.allows(Scope.LINEAGE_READ, _scope(caller, row))],
        "next": next_link("/v1/runs", request.query_params, position) if position else None,
    }


@router.get("/{run_id}", response_model=RunDetail)
async def get_run(run_id: UUID, caller: Caller, pool: Pool) -> dict[str, Any]:
    """One run with its facets, events, and the datasets that the token may read about."""
    require(caller, Scope.LINEAGE_READ)
    async with tenant_transaction(pool, caller.tenant) as connection:
        row = await queries.find_run(connection, run_id)
        if row is None:
            raise RunUnknown(f"No event has named the run {run_id}. See /v1/runs for those that are known.")
        require(caller, Scope.LINEAGE_READ, _scope(caller, row))
        events = await queries.events_of(connection, run_id)
    detail = service.to_detail(row, events)
    return detail | {side: readable(caller, detail[side]) for side in ("inputs", "outputs")}


def _scope(caller: Caller, row: Any) -> str:
    return job_scope(caller.tenant, row["job_namespace"], row["job_name"])
