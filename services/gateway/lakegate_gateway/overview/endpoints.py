"""GET /v1/overview/{ns}/{table}."""

from __future__ import annotations

from fastapi import APIRouter

from lakegate_chassis.auth import require
from lakegate_contracts.identity import Scope
from lakegate_contracts.names import InvalidName, TableName
from lakegate_gateway.deps import Caller, Opened
from lakegate_gateway.errors import InvalidRequest
from lakegate_gateway.overview import service
from lakegate_gateway.overview.schemas import Overview

router = APIRouter(prefix="/v1/overview", tags=["Overview"])


@router.get("/{ns}/{table}", summary="A table on one page: catalog, loads and lineage")
async def get_overview(ns: str, table: str, principal: Caller, opened: Opened) -> Overview:
    try:
        name = TableName.of(ns, table)
    except InvalidName as error:
        raise InvalidRequest(str(error)) from error
    require(principal, Scope.DATASETS_READ, name.namespace)
    return await service.overview(
        opened.clients, opened.tokens, principal, name, deadline_seconds=service.DEADLINE_SECONDS
    )
