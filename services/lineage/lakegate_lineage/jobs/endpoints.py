"""GET /v1/jobs and /v1/jobs/{id}. A job's name may hold anything, so its path takes its id."""

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
from lakegate_lineage.errors import JobUnknown
from lakegate_lineage.jobs import queries, service
from lakegate_lineage.jobs.schemas import JobDetail, JobPage
from lakegate_lineage.pages import FIRST_JOB, ByName, Cursor, Limit, NameFilter, page_of, read_cursor, window
from lakegate_lineage.scopes import job_scope, readable

router = APIRouter(prefix="/v1/jobs", tags=["Jobs"])


@router.get("", response_model=JobPage)
async def list_jobs(
    request: Request,
    caller: Caller,
    pool: Pool,
    namespace: NameFilter = None,
    name: Annotated[str | None, Query(max_length=2000, description="with namespace: that job alone")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Jobs by namespace and name. Those in namespaces that the token may not read are left out, so a page may
    hold fewer than `limit`."""
    require(caller, Scope.LINEAGE_READ)
    if name is not None and not namespace:
        detail = "name needs namespace"
        raise InvalidRequest(f"{detail}.", errors=[FieldError(detail=detail, pointer="?name")])
    after = read_cursor(cursor, FIRST_JOB)
    async with tenant_transaction(pool, caller.tenant) as connection:
        if name is not None and namespace is not None:
            found = await queries.find_job(connection, identity.job_id(namespace, name))
            rows = [found] if found else []
        else:
            rows = await queries.list_jobs(connection, namespace=namespace, after=after, rows=window(after, limit))
    return page_of(
        rows,
        after,
        limit,
        request,
        position=lambda row: ByName(row["namespace"], row["name"]),
        show=service.to_job,
        may_read=lambda row: caller.allows(Scope.LINEAGE_READ, _scope(caller, row)),
    )


@router.get("/{job_id}", response_model=JobDetail)
async def get_job(job_id: UUID, caller: Caller, pool: Pool) -> dict[str, Any]:
    """One job with its facets, inputs and outputs; its runs are at /v1/runs?job_namespace=&job_name=."""
    require(caller, Scope.LINEAGE_READ)
    async with tenant_transaction(pool, caller.tenant) as connection:
        row = await queries.find_job(connection, job_id)
        if row is None:
            raise JobUnknown(f"There is no job {job_id}. Look it up by its name: /v1/jobs?namespace=&name=.")
        require(caller, Scope.LINEAGE_READ, _scope(caller, row))
        facets = await queries.facets_of(connection, job_id)
        datasets = await queries.datasets_of(connection, job_id)
    detail = service.to_detail(row, facets, datasets)
    return detail | {side: readable(caller, detail[side]) for side in ("inputs", "outputs")}


def _scope(caller: Caller, row: Any) -> str:
    return job_scope(caller.tenant, row["namespace"], row["name"])
