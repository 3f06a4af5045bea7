"""Rows of a table over HTTP."""

from __future__ import annotations

import csv
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from lakegate_chassis.auth import require
from lakegate_contracts.identity import Scope
from lakegate_ingest.deps import Caller, Delegation, R, Table
from lakegate_ingest.errors import BadParameter
from lakegate_ingest.tables.formats import MEDIA_TYPES, negotiated
from lakegate_ingest.tables.scan import RowQuery

router = APIRouter()


@router.get(
    "/v1/tables/{namespace}/{table}/rows",
    response_class=StreamingResponse,
    responses={200: {"content": {media_type.partition(";")[0]: {} for media_type in MEDIA_TYPES.values()}}},
)
async def read_rows(
    request: Request,
    table: Table,
    principal: Caller,
    delegation: Delegation,
    resources: R,
    columns: Annotated[
        str | None,
        Query(examples=["carrier,dep_delay"], description="as a line of CSV: a name with a comma in double quotes"),
    ] = None,
    filter: Annotated[str | None, Query(examples=["dep_delay > 60 and carrier = 'UA'"])] = None,
    limit: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
    snapshot: Annotated[int | None, Query(description="Iceberg snapshot id; else the current one")] = None,
    format: Annotated[str | None, Query(description="ndjson, csv or arrow; else by Accept")] = None,
) -> StreamingResponse:
    """Stream rows as NDJSON, CSV or Arrow IPC.

    In NDJSON a decimal is text with its plain digits, and NaN and the infinities of a float or double are the texts
    "NaN", "Infinity" and "-Infinity": JSON has no numbers for them. Bytes are base64 in NDJSON and CSV.
    """
    require(principal, Scope.DATASETS_READ, table.namespace)
    wanted = negotiated(format, request.headers.get("accept", ""))
    query = RowQuery(columns=_names(columns) if columns else None, filter=filter, limit=limit, snapshot_id=snapshot)
    rows = await resources.rows.open(principal.tenant, table, delegation, query, wanted)
    return StreamingResponse(rows, media_type=MEDIA_TYPES[wanted])


def _names(columns: str) -> tuple[str, ...]:
    if '"' not in columns:
        return tuple(dict.fromkeys(part.strip() for part in columns.split(",") if part.strip()))
    try:
        [parts] = csv.reader([columns], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError) as error:
        raise BadParameter(
            'The columns are not a line of CSV. Put a name with a comma or a quote in double quotes, as in a,"b,c",'
            '"d""e".'
        ) from error
    return tuple(dict.fromkeys(part for part in parts if part))
