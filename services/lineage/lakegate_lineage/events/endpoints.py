"""The OpenLineage API: https://openlineage.io/apidocs/openapi/ and its batch form."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from lakegate_chassis.auth import caller, require
from lakegate_chassis.problems import Problem, ProblemBody, problem_body
from lakegate_contracts.identity import Scope
from lakegate_lineage.deps import resources_of, settings_of
from lakegate_lineage.events import service
from lakegate_lineage.events.bodies import read_body
from lakegate_lineage.events.openlineage import Event
from lakegate_lineage.events.schemas import BatchItem, BatchResult, Recorded

router = APIRouter(tags=["OpenLineage"])

EVENT_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "description": "RunEvent, JobEvent or DatasetEvent of https://openlineage.io/spec/2-0-2/OpenLineage.json",
                "properties": {
                    "eventTime": {"type": "string", "format": "date-time"},
                    "producer": {"type": "string", "format": "uri"},
                },
                "required": ["eventTime", "producer"],
            }
        }
    },
}
BATCH_BODY = {
    "required": True,
    "content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}},
}


@router.post("/api/v1/lineage", status_code=201, response_model=Recorded, openapi_extra={"requestBody": EVENT_BODY})
async def record_event(request: Request) -> Response:
    """Record one OpenLineage event. Answered once it is committed; the same event again changes nothing."""
    # read from the request, not by Depends: on this path each dependency costs as much as parsing the event
    principal = caller(request)
    require(principal, Scope.LINEAGE_WRITE)
    body = await read_body(request, settings_of(request).events.max_event_bytes)
    event = await service.record_event(resources_of(request).writer, principal, body)
    return _json(Recorded(run_id=event.run_id), 201)


@router.post(
    "/api/v1/lineage/batch",
    status_code=201,
    response_model=BatchResult,
    responses={207: {"model": BatchResult, "description": "Some events were refused; `items` says which and why."}},
    openapi_extra={"requestBody": BATCH_BODY},
)
async def record_batch(request: Request) -> Response:
    """Record an array of events, each on its own: 201 when all were recorded, 207 when some were refused."""
    principal = caller(request)
    require(principal, Scope.LINEAGE_WRITE)
    limits = settings_of(request).events
    body = await read_body(request, limits.max_batch_bytes)
    results = await service.record_batch(
        resources_of(request).writer,
        principal,
        body,
        max_events=limits.max_batch_events,
        max_event_bytes=limits.max_event_bytes,
    )
    items = [_item(index, result, request.url.path) for index, result in enumerate(results)]
    recorded = sum(item.status == "recorded" for item in items)
    answer = BatchResult(received=len(items), recorded=recorded, refused=len(items) - recorded, items=items)
    return _json(answer, 201 if recorded == len(items) else 207)


def _item(index: int, result: Event | Problem, path: str) -> BatchItem:
    if isinstance(result, Problem):
        body = ProblemBody.model_validate(problem_body(result, path))
        return BatchItem(index=index, status="refused", problem=body)
    return BatchItem(index=index, status="recorded", run_id=result.run_id)


def _json(answer: Recorded | BatchResult, status: int) -> Response:
    return Response(answer.model_dump_json(exclude_none=True), status, media_type="application/json")
