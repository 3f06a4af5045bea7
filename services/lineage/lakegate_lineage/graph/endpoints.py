"""GET /v1/lineage/graph."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Query
from starlette.responses import Response

from lakegate_chassis.auth import require
from lakegate_chassis.postgres import tenant_transaction
from lakegate_chassis.problems import FieldError, InvalidRequest
from lakegate_contracts.identity import Scope
from lakegate_lineage.datasets.aliases import Aliases
from lakegate_lineage.deps import Caller, Pool
from lakegate_lineage.graph import service
from lakegate_lineage.graph.schemas import Graph
from lakegate_lineage.limits import Depth, NodeBudget
from lakegate_lineage.schemas import Direction
from lakegate_lineage.scopes import dataset_scope, job_scope

router = APIRouter(prefix="/v1/lineage", tags=["Lineage"])

Name = Annotated[str | None, Query(max_length=2000)]


@router.get("/graph", response_model=Graph)
async def get_graph(
    caller: Caller,
    pool: Pool,
    namespace: Name = None,
    name: Name = None,
    job_namespace: Name = None,
    job_name: Name = None,
    direction: Direction = Direction.BOTH,
    depth: Depth = 10,
    limit: NodeBudget = 1000,
) -> Response:
    """The graph around a dataset (`namespace` and `name`, or one of its other names) or a job (`job_…`).

    `up` is where it comes from, `down` what depends on it; `both` joins the two and does not turn around. Names
    that the token may not read, and the runs told under them, are left out.
    """
    kind, start = _start(namespace, name, job_namespace, job_name)
    scope_of, walk_from = (
        (dataset_scope, service.walk_from_dataset) if kind == "dataset" else (job_scope, service.walk_from_job)
    )
    require(caller, Scope.LINEAGE_READ, scope_of(caller.tenant, *start))
    async with tenant_transaction(pool, caller.tenant) as connection:
        aliases = await Aliases.open(connection, caller.tenant)
        walk = await walk_from(connection, aliases, *start, direction, depth, limit)
        graph = await service.describe(connection, caller, walk, aliases)
    # thousands of nodes: straight to JSON, the model above describes them
    return Response(orjson.dumps(graph, default=str, option=orjson.OPT_UTC_Z), media_type="application/json")


def _start(
    namespace: str | None, name: str | None, job_namespace: str | None, job_name: str | None
) -> tuple[str, tuple[str, str]]:
    if namespace and name and job_namespace is None and job_name is None:
        return "dataset", (namespace, name)
    if job_namespace and job_name and namespace is None and name is None:
        return "job", (job_namespace, job_name)
    detail = "Give namespace and name of a dataset, or job_namespace and job_name of a job"
    raise InvalidRequest(f"{detail}.", errors=[FieldError(detail=detail, pointer="?namespace")])
