"""Loads over HTTP."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode
from urllib.request import parse_http_list
from uuid import UUID

import orjson
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response, StreamingResponse

from lakegate_chassis.auth import require
from lakegate_chassis.problems import MEDIA_TYPE, Problem, problem_response
from lakegate_contracts.identity import Scope
from lakegate_contracts.names import InvalidName, TableName
from lakegate_contracts.receipts import LoadState, Receipt
from lakegate_ingest import engine
from lakegate_ingest.deps import Caller, Delegation, R, Table
from lakegate_ingest.errors import BadCursor, BadParameter, BadTableName
from lakegate_ingest.loads import rejects as quarantine
from lakegate_ingest.loads.idempotency import checked_key
from lakegate_ingest.loads.live import LiveLoad
from lakegate_ingest.loads.queries import LoadRow
from lakegate_ingest.loads.schemas import Load, LoadOptions, LoadPage, RejectPage
from lakegate_ingest.loads.service import LoadRequest, Replayed, may_see
from lakegate_ingest.refusals import RefusedBody
from lakegate_ingest.resources import Resources
from lakegate_ingest.spool.receiving import BodyHeaders
from lakegate_ingest.uploads.schemas import DownloadPage

router = APIRouter()
NDJSON = "application/x-ndjson"
POLL_AFTER_SECONDS = "1"
LISTED = 50
LISTED_AT_MOST = 500
REJECTS = 100
REJECTS_AT_MOST = 1000


@router.post(
    "/v1/loads/{namespace}/{table}",
    status_code=201,
    response_model=Receipt,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in (
                    "text/csv",
                    "text/tab-separated-values",
                    NDJSON,
                    "application/json",
                    "application/vnd.apache.parquet",
                    "multipart/form-data",
                    "application/octet-stream",
                )
            },
        }
    },
    responses={202: {"model": Load, "description": "Still running: see Location"}},
)
async def create_load(
    request: Request,
    table: Table,
    principal: Caller,
    delegation: Delegation,
    resources: R,
    mode: Annotated[str, Query(description="append is the only mode so far")] = "append",
    format: Annotated[str | None, Query(description="csv, tsv, ndjson, json or parquet; else found out")] = None,
    name: Annotated[str | None, Query(description="file name, for the receipt and the lineage")] = None,
    on_new_column: Annotated[str, Query(description="evolve or reject")] = "evolve",
    dry_run: Annotated[bool, Query(description="read and check everything, commit nothing")] = False,
    null: Annotated[list[str] | None, Query(description="spelling of null; can be repeated")] = None,
    delimiter: Annotated[str | None, Query(description="one character; else found out")] = None,
    header: Annotated[bool, Query(description="whether a CSV has a header line")] = True,
    source: Annotated[UUID | None, Query(description="an upload's id: its file is the body, and none is sent")] = None,
    idempotency_key: Annotated[str | None, Header()] = None,
    prefer: Annotated[
        list[str] | None,
        Header(
            description="wait=N: seconds to wait for the receipt, at most 30; respond-async: none, unless N is sent"
        ),
    ] = None,
) -> Response:
    """Load a file into a table; the table is created by its first load."""
    require(principal, Scope.LOADS_WRITE, table.namespace)
    wait_seconds, applied = _preferred(prefer or [], resources.settings.job.max_wait_seconds)
    try:
        options = _options(mode, format, on_new_column, dry_run, null, delimiter, header, source)
        wanted = LoadRequest(
            principal=principal,
            table=table,
            options=options,
            body=_body_headers(request, name or _label(table, resources.settings.body.max_name_chars)),
            delegation=delegation,
            idempotency_key=checked_key(idempotency_key),
            asynchronous=wait_seconds == 0,
        )
        if source is None:
            accepted = await resources.loads.accept(wanted, request.stream())
        else:
            _check_no_body(request, name)
            accepted = await resources.loads.accept_upload(wanted, source)
    except Problem as problem:
        # The body may not have been read to its end: answer, then let the rest run out.
        if "load_id" in problem.extensions:
            problem.headers.setdefault("location", f"/v1/loads/{problem.extensions['load_id']}")
        answer = problem_response(problem, instance=request.url.path)
        return RefusedBody(answer, resources.settings.body)
    if isinstance(accepted, Replayed):
        return _receipt(accepted.receipt, replayed=True)
    await _wait(accepted, wait_seconds)
    return _answer(resources, await resources.loads.row(principal, accepted.load_id), applied)


@router.get("/v1/loads")
async def list_loads(
    principal: Caller,
    resources: R,
    table: Annotated[str | None, Query(examples=["travel.flights"])] = None,
    state: LoadState | None = None,
    limit: Annotated[int, Query(ge=1, le=LISTED_AT_MOST)] = LISTED,
    cursor: str | None = None,
) -> LoadPage:
    """Loads, newest first."""
    try:
        name = TableName.parse(table) if table is not None else None
    except InvalidName as error:
        raise BadTableName(str(error)) from error
    rows = await resources.loads.newest(
        principal, table=name, state=state.value if state else None, before=_parse_cursor(cursor), limit=limit + 1
    )
    following = None
    if len(rows) > limit:
        rows = rows[:limit]
        query = {"limit": limit, "cursor": _cursor(rows[-1].created_at, rows[-1].load_id)}
        query |= {key: value for key, value in (("table", table), ("state", state and state.value)) if value}
        following = f"/v1/loads?{urlencode(query)}"
    items = [resources.loads.describe(row) for row in rows if may_see(principal, row.table.namespace)]
    return LoadPage(items=items, next=following)


@router.get("/v1/loads/{load_id}")
async def get_load(load_id: UUID, principal: Caller, resources: R, response: Response) -> Load:
    """A load as it stands: its progress, then its receipt or its problem."""
    load = await resources.loads.get(principal, load_id)
    if load.finished_at is None:
        response.headers["retry-after"] = POLL_AFTER_SECONDS
    return load


@router.delete("/v1/loads/{load_id}", status_code=202)
async def cancel_load(load_id: UUID, principal: Caller, resources: R) -> Load:
    """Call off a load that is not being committed yet: it ends as failed, and nothing of it is loaded.

    It may take a moment: the load as it stands is answered, and its end is seen as that of any other.
    """
    return await resources.loads.call_off(principal, load_id)


@router.get("/v1/loads/{load_id}/events", response_class=StreamingResponse)
async def follow_load(load_id: UUID, request: Request, principal: Caller, resources: R) -> StreamingResponse:
    """Server-sent events: `progress` until the load has ended, then `completed` (receipt) or `failed` (problem)."""
    load = await resources.loads.row(principal, load_id)
    events = await resources.followers.follow(resources.loads, principal, load, request.app.state.health)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


@router.get("/v1/loads/{load_id}/rejects", response_model=RejectPage)
async def list_rejects(
    load_id: UUID,
    request: Request,
    principal: Caller,
    resources: R,
    limit: Annotated[int, Query(ge=1, le=REJECTS_AT_MOST)] = REJECTS,
    cursor: str | None = None,
) -> Response:
    """Why rows were set aside; a page of large rows has fewer than `limit`.

    With `Accept: application/x-ndjson` all from the cursor on are streamed, one a line: the way to have many.
    """
    load = await resources.loads.row(principal, load_id)
    files = await resources.loads.quarantine(load)
    start = quarantine.parse_cursor(cursor)
    if NDJSON in request.headers.get("accept", ""):
        downloads = resources.downloads
        lines = quarantine.lines(resources.warehouse, files, start, REJECTS_AT_MOST)
        return StreamingResponse(await downloads.begun(load.tenant, downloads.threaded(lines)), media_type=NDJSON)
    items, following = await asyncio.to_thread(quarantine.page, resources.warehouse, files, start, limit)
    path = f"/v1/loads/{load_id}/rejects?{urlencode({'limit': limit, 'cursor': following})}" if following else None
    headers = await asyncio.to_thread(quarantine.headers, resources.warehouse, files)
    page = RejectPage(items=items, next=path, headers=headers)
    return Response(page.model_dump_json().encode(), media_type="application/json")


@router.get("/v1/loads/{load_id}/rejects/files")
async def download_rejects(load_id: UUID, principal: Caller, resources: R) -> DownloadPage:
    """Presigned URLs of all rejected rows as Parquet, to be fetched straight from the object store."""
    load = await resources.loads.row(principal, load_id)
    return await resources.loads.downloads(load)


def _options(
    mode: str,
    format_: str | None,
    on_new_column: str,
    dry_run: bool,
    null: list[str] | None,
    delimiter: str | None,
    header: bool,
    source: UUID | None,
) -> LoadOptions:
    if mode != "append":
        raise BadParameter(f"mode={mode[:40]} is not possible yet; append is the only mode so far.")
    if format_ is not None and format_ not in {known.value for known in engine.Format}:
        raise BadParameter(f"format={format_[:40]} is not one of {', '.join(known.value for known in engine.Format)}.")
    if on_new_column not in ("evolve", "reject"):
        raise BadParameter(f"on_new_column={on_new_column[:40]} is not one of evolve, reject.")
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise BadParameter("delimiter is one character, and not a quote or a line break.")
    if null is not None and (len(null) > 20 or any(len(value) > 100 for value in null)):
        raise BadParameter("null takes up to 20 spellings of up to 100 characters each.")
    return LoadOptions(
        format=format_,
        on_new_column="reject" if on_new_column == "reject" else "evolve",
        dry_run=dry_run,
        null_values=tuple(dict.fromkeys(["", *(null or [])])),
        delimiter=delimiter,
        header=header,
        source=source,
    )


def _check_no_body(request: Request, name: str | None) -> None:
    """Raises BadParameter: whoever names an upload and sends a body means something else."""
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        raise BadParameter("With source= the uploaded file is the body: send none.")
    if name is not None:
        raise BadParameter("With source= the file has the name that it was uploaded under: leave name= out.")


def _label(table: TableName, max_chars: int) -> str:
    """The file's name where none was sent; what no file name may hold is not the client's fault then."""
    return "".join(each if each.isprintable() else "_" for each in str(table))[-max_chars:]


def _body_headers(request: Request, name: str) -> BodyHeaders:
    length = request.headers.get("content-length")
    return BodyHeaders(
        content_length=int(length) if length and length.isdigit() else None,
        content_type=request.headers.get("content-type", ""),
        content_encoding=request.headers.get("content-encoding"),
        file_name=name,
    )


def _preferred(prefer: list[str], longest: int) -> tuple[int, str]:
    """Seconds to wait, and what to say of it (RFC 7240, 4.1 and 4.3): `longest` above it, and without a preference."""
    found: dict[str, str] = {}
    for preference in parse_http_list(",".join(prefer)):
        name, _, value = preference.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))  # the first of several counts
    at_once = "respond-async" in found
    wait = found.get("wait", "")
    if wait.isascii() and wait.isdigit() and len(wait) < 10:
        seconds = min(int(wait), longest)
        return seconds, f"respond-async, wait={seconds}" if at_once else f"wait={seconds}"
    return (0, "respond-async") if at_once else (longest, "")


async def _wait(live: LiveLoad, seconds: int) -> None:
    try:
        await asyncio.wait_for(live.ended.wait(), seconds)
    except TimeoutError:
        return


def _answer(resources: Resources, load: LoadRow, applied: str) -> Response:
    """The receipt or the problem of a load that has ended, else where to ask for it; `applied` is of its Prefer."""
    if load.receipt is not None:
        return _receipt(load.receipt)
    if load.problem is not None:
        return _failure(load.problem)
    headers = {"location": f"/v1/loads/{load.load_id}", "retry-after": POLL_AFTER_SECONDS}
    if applied:
        headers["preference-applied"] = applied
    body = resources.loads.describe(load).model_dump_json().encode()
    return Response(body, 202, headers, "application/json")


def _receipt(receipt: Receipt, *, replayed: bool = False) -> Response:
    headers = {"location": f"/v1/loads/{receipt.load_id}"}
    if replayed:
        headers["idempotency-replayed"] = "true"
    if receipt.consistency_token:
        headers["lakegate-consistency-token"] = receipt.consistency_token
    # A dry run made nothing that could be called created.
    status = 200 if receipt.dry_run else 201
    return Response(receipt.model_dump_json().encode(), status, headers, "application/json")


def _failure(problem: dict[str, Any]) -> Response:
    headers = {"location": str(problem["instance"])}
    if problem["status"] == 503:
        headers["retry-after"] = "5"
    return Response(orjson.dumps(problem), problem["status"], headers, MEDIA_TYPE)


def _cursor(created_at: datetime, load_id: UUID) -> str:
    return urlsafe_b64encode(f"{created_at.isoformat()} {load_id}".encode()).decode().rstrip("=")


def _parse_cursor(cursor: str | None) -> tuple[datetime, UUID] | None:
    if cursor is None:
        return None
    try:
        created_at, _, load_id = urlsafe_b64decode(cursor + "==").decode().rpartition(" ")
        return datetime.fromisoformat(created_at), UUID(load_id)
    except ValueError as error:
        raise BadCursor("The cursor is not one that this endpoint gave. Start without a cursor.") from error
