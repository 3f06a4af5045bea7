"""Streams over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, cast
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Header, Query, Request, WebSocket
from fastapi.responses import Response, StreamingResponse
from starlette.routing import WebSocketRoute

from lakegate_chassis import context, tracing
from lakegate_chassis.auth import require
from lakegate_chassis.health import Health
from lakegate_chassis.problems import Problem, problem_response
from lakegate_contracts.identity import Principal, Scope
from lakegate_contracts.names import TableName
from lakegate_ingest.deps import Caller, Delegation, R, Table, delegation_of, table_of
from lakegate_ingest.errors import BadParameter, StreamsOff
from lakegate_ingest.loads.idempotency import checked_key
from lakegate_ingest.metrics import STREAM_REQUESTS
from lakegate_ingest.refusals import RefusedBody
from lakegate_ingest.resources import Resources
from lakegate_ingest.streams.requests import OnBadRow, OnNewColumn, Producing
from lakegate_ingest.streams.rows import decoded, too_large
from lakegate_ingest.streams.schemas import (
    Accepted,
    AvroSchema,
    RegisteredSchema,
    RejectedPage,
    Stream,
    StreamOptions,
    StreamPage,
    StreamStatus,
)

if TYPE_CHECKING:  # a service without Kafka need not pay for the import of its client
    from lakegate_ingest.streams.queries import StreamRow
    from lakegate_ingest.streams.resources import Front
    from lakegate_ingest.streams.rooms import Room

router = APIRouter()
NDJSON = "application/x-ndjson"
LISTED = 50
LISTED_AT_MOST = 500
_EXAMPLE = '{"id": 1, "carrier": "UA"}\n{"id": 2, "carrier": "AA"}\n'


def front(resources: R) -> Front:
    """What serves streams. Raises StreamsOff."""
    if resources.streams is None:
        raise StreamsOff(
            "This installation has no Kafka, through which event streams go. Set INGEST_KAFKA__BOOTSTRAP to its "
            "brokers; or send the rows as a load: POST /v1/loads/{namespace}/{table}."
        )
    return resources.streams


@router.post(
    "/v1/streams/{namespace}/{table}",
    status_code=202,
    response_model=Accepted,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                NDJSON: {"schema": {"type": "string"}, "example": _EXAMPLE},
                "application/json": {
                    "schema": {"oneOf": [{"type": "array", "items": {"type": "object"}}, {"type": "object"}]},
                    "example": [{"id": 1, "carrier": "UA"}, {"id": 2, "carrier": "AA"}],
                },
            },
        }
    },
)
async def produce(
    request: Request,
    table: Table,
    principal: Caller,
    delegation: Delegation,
    resources: R,
    on_new_column: Annotated[
        Literal["evolve", "reject"] | None,
        Query(description="stricter than the stream, never laxer; else as it has it"),
    ] = None,
    on_bad_row: Annotated[
        Literal["refuse", "quarantine"],
        Query(description="refuse: a row that does not fit refuses the request; quarantine: the worker sets it aside"),
    ] = "refuse",
    idempotency_key: Annotated[
        str | None, Header(description="a repeat with the same key and body adds nothing, and gets the first answer")
    ] = None,
) -> Response:
    """Send rows: 202 once the brokers have all of them. The table is made by the first request, as by a load."""
    try:
        require(principal, Scope.LOADS_WRITE, table.namespace)
        streams = front(resources)
        key = checked_key(idempotency_key)
        wanted = Producing(principal, delegation, table, on_new_column, on_bad_row)
        length = request.headers.get("content-length", "")
        announced = int(length) if length.isdigit() else 0
        most = streams.service.settings.max_body_bytes
        if announced > most:
            raise too_large(most)
        with streams.service.rooms.room(principal.tenant) as room:
            body = await _body(request, most, room)
            replayed = False
            if key is None:
                accepted = await streams.service.accept(wanted, body, room)
            else:
                accepted, replayed = await streams.service.accept_once(wanted, body, room, key)
    except Problem as problem:
        # The body may not have been read to its end: answer, then let the rest run out.
        STREAM_REQUESTS.labels(problem.slug).inc()
        answer = problem_response(problem, instance=request.url.path)
        return RefusedBody(answer, resources.settings.body)
    headers = {"idempotency-replayed": "true"} if replayed else None
    return Response(accepted.model_dump_json().encode(), 202, headers, media_type="application/json")


@router.get("/v1/streams")
async def list_streams(
    principal: Caller,
    resources: R,
    limit: Annotated[int, Query(ge=1, le=LISTED_AT_MOST)] = LISTED,
    cursor: Annotated[str, Query(max_length=300, description="from `next`")] = "",
) -> StreamPage:
    """Streams of the caller's tenant, by topic."""
    from lakegate_ingest.streams.states import described

    rows: list[StreamRow] = []
    after, full = cursor, True
    # on to the last one that is shown: a topic in a cursor names its table
    while full and len(rows) <= limit:
        found = await front(resources).states.page(principal, after=after, limit=LISTED_AT_MOST)
        rows += [row for row in found if may_see(principal, row.table.namespace)]
        full = len(found) == LISTED_AT_MOST
        after = found[-1].topic if found else after
    following = None
    if len(rows) > limit:
        rows = rows[:limit]
        following = f"/v1/streams?{urlencode({'limit': limit, 'cursor': rows[-1].topic})}"
    return StreamPage(items=[described(row) for row in rows], next=following)


@router.put("/v1/streams/{namespace}/{table}", response_model=Stream)
async def put_stream(
    table: Table, principal: Caller, delegation: Delegation, resources: R, options: StreamOptions
) -> Stream:
    """Make the stream of a table, for producers that speak to Kafka themselves, or change what it does."""
    from lakegate_ingest.streams.states import described

    require(principal, Scope.LOADS_WRITE, table.namespace)
    wanted = Producing(principal, delegation, table)
    return described(await front(resources).service.configure(wanted, options.on_new_column, options.accept_topic_id))


@router.get("/v1/streams/{namespace}/{table}")
async def get_stream(table: Table, principal: Caller, delegation: Delegation, resources: R) -> StreamStatus:
    """A stream: where it is in Kafka, how far its table is, and what keeps it, if anything does."""
    _require_sight(principal, table.namespace)
    streams = front(resources)
    return await streams.states.status(await streams.service.get(principal, table), delegation)


@router.delete("/v1/streams/{namespace}/{table}", status_code=204)
async def delete_stream(table: Table, principal: Caller, resources: R) -> None:
    """Take a stream from the workers, with its schemas and keys. The table and the topics stay as they are."""
    require(principal, Scope.LOADS_WRITE, table.namespace)
    await front(resources).service.delete(principal, table)


@router.post("/v1/streams/{namespace}/{table}/schemas", status_code=201, responses={200: {"model": RegisteredSchema}})
async def add_schema(
    table: Table, principal: Caller, resources: R, body: AvroSchema, response: Response
) -> RegisteredSchema:
    """Register the Avro schema of values that a direct producer sends; the same one again has the same id (200)."""
    require(principal, Scope.LOADS_WRITE, table.namespace)
    service = front(resources).service
    stream = await service.get(principal, table)
    schema_id, made = await service.add_schema(principal, stream, body.schema_)
    response.status_code = 201 if made else 200
    return RegisteredSchema(schema_id=schema_id, topic=stream.topic)


@router.get("/v1/streams/{namespace}/{table}/rejects")
async def list_rejects(
    table: Table,
    principal: Caller,
    resources: R,
    limit: Annotated[int, Query(ge=1, le=LISTED_AT_MOST)] = LISTED,
    cursor: Annotated[str | None, Query(description="from `next`")] = None,
) -> RejectedPage:
    """Records that the worker set aside, with the reason: of direct producers, and of on_bad_row=quarantine."""
    _require_sight(principal, table.namespace)
    streams = front(resources)
    stream = await streams.service.get(principal, table)
    items, following = await streams.states.rejects(stream, cursor, limit)
    path = f"/v1/streams/{quote(table.namespace, safe='')}/{quote(table.name, safe='')}/rejects"
    query = urlencode({"limit": limit, "cursor": following})
    return RejectedPage(items=items, next=f"{path}?{query}" if following else None)


@router.get("/v1/streams/{namespace}/{table}/tail", response_class=StreamingResponse)
async def tail(
    request: Request,
    table: Table,
    principal: Caller,
    resources: R,
    begin: Annotated[Literal["now", "earliest"], Query(description="where to begin without Last-Event-ID")] = "now",
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Server-sent events: each row as it arrives at the brokers, with partition and offset, before its commit."""
    require(principal, Scope.DATASETS_READ, table.namespace)
    streams = front(resources)
    stream = await streams.service.get(principal, table)
    health: Health = request.app.state.health
    events = await streams.tails.open(stream, health, after=last_event_id, earliest=begin == "earliest")
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def _socket(socket: WebSocket) -> None:
    """A WebSocket producer. Not FastAPI's own kind of route: the app's dependencies are for HTTP requests."""
    from lakegate_ingest.streams.sockets import serve

    resources: Resources = socket.app.state.resources
    context.enter(tracing.start(socket.headers.get("x-request-id", ""), socket.headers.get("traceparent"))[0])
    try:
        principal: Principal = socket.scope["principal"]
        table = table_of(socket.path_params["namespace"], socket.path_params["table"])
        require(principal, Scope.LOADS_WRITE, table.namespace)
        wanted = _socket_options(socket, principal, table)
        streams = front(resources)
        with streams.sockets.place(principal.tenant):
            await serve(socket, wanted, streams.service, socket.app.state.health)
    except Problem as problem:
        STREAM_REQUESTS.labels(problem.slug).inc()
        answer = problem_response(problem, instance=socket.url.path)
        # The gateway's WebSocket client shows it the headers of a refusal, and not the body.
        answer.headers["lakegate-problem"] = quote(bytes(answer.body))
        await socket.send_denial_response(answer)


def _socket_options(socket: WebSocket, principal: Principal, table: TableName) -> Producing:
    """The query parameters of `produce`. Raises BadParameter."""
    query = dict(socket.query_params)
    on_new_column, on_bad_row = query.pop("on_new_column", None), query.pop("on_bad_row", "refuse")
    if query:
        raise BadParameter(f"Unknown query parameter {next(iter(query))[:40]!r}: there are on_new_column, on_bad_row.")
    if on_new_column not in (None, "evolve", "reject") or on_bad_row not in ("refuse", "quarantine"):
        raise BadParameter("on_new_column is evolve or reject, on_bad_row is refuse or quarantine.")
    return Producing(
        principal,
        delegation_of(socket.headers),
        table,
        cast("OnNewColumn | None", on_new_column),
        cast("OnBadRow", on_bad_row),
    )


router.routes.append(WebSocketRoute("/v1/streams/{namespace}/{table}/ws", _socket))


def may_see(principal: Principal, namespace: str) -> bool:
    return principal.allows(Scope.LOADS_WRITE, namespace) or principal.allows(Scope.DATASETS_READ, namespace)


def _require_sight(principal: Principal, namespace: str) -> None:
    if not may_see(principal, namespace):
        require(principal, Scope.DATASETS_READ, namespace)


async def _body(request: Request, most_bytes: int, room: Room) -> bytes:
    parts = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most_bytes:
            raise too_large(most_bytes)
        room.grow(len(chunk))
        parts.append(chunk)
    encodings = [
        part.strip().lower() for part in request.headers.get("content-encoding", "").split(",") if part.strip()
    ]
    body = b"".join(parts)
    if not encodings:
        return body
    body = decoded(body, encodings, most_bytes=most_bytes)
    room.grow(max(len(body) - size, 0))
    return body
