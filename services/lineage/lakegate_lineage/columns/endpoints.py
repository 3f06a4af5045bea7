"""GET /v1/lineage/columns."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Query
from starlette.responses import Response

from lakegate_chassis.auth import require
from lakegate_chassis.postgres import tenant_transaction
from lakegate_contracts.identity import Scope
from lakegate_lineage.columns import service
from lakegate_lineage.columns.schemas import ColumnGraph
from lakegate_lineage.datasets.aliases import Aliases
from lakegate_lineage.deps import Caller, Pool
from lakegate_lineage.limits import Depth, NodeBudget
from lakegate_lineage.schemas import Direction
from lakegate_lineage.scopes import dataset_scope

router = APIRouter(prefix="/v1/lineage", tags=["Lineage"])

Name = Annotated[str, Query(min_length=1, max_length=2000)]


@router.get("/columns", response_model=ColumnGraph)
async def get_columns(
    caller: Caller,
    pool: Pool,
    namespace: Name,
    name: Name,
    column: Annotated[str | None, Query(max_length=2000, description="left out: all columns of the dataset")] = None,
    direction: Direction = Direction.BOTH,
    depth: Depth = 10,
    limit: NodeBudget = 1000,
) -> Response:
    """The columns that a column is made of (`up`) and those made of it (`down`), by the columnLineage facets."""
    require(caller, Scope.LINEAGE_READ, dataset_scope(caller.tenant, namespace, name))
    async with tenant_transaction(pool, caller.tenant) as connection:
        aliases = await Aliases.open(connection, caller.tenant)
        start = await service.find_columns(connection, caller, aliases, namespace, name, column)
        walk = await service.walk_columns(connection, aliases, start, direction, depth, limit)
        graph = await service.describe(connection, caller, walk, aliases)
    return Response(orjson.dumps(graph, default=str), media_type="application/json")
