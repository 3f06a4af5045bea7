"""Ask three services at once, and make do with those that answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import orjson

from lakegate_chassis import context
from lakegate_chassis.problems import Problem, problem_body
from lakegate_contracts.identity import Principal, Scope
from lakegate_contracts.names import TableName, table_dataset
from lakegate_gateway.errors import (
    BadUpstream,
    Forbidden,
    InvalidRequest,
    NotFound,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from lakegate_gateway.identity.tokens import Tokens
from lakegate_gateway.overview.schemas import Overview, PartProblem

DEADLINE_SECONDS = 3.0
LATEST_LOADS = 5
LINEAGE_DEPTH = 2
LINEAGE_NODES = 200


class Refused(Exception):
    """A service's own problem, passed on as it said it."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body.get("detail"))
        self.body = body


async def overview(
    clients: Mapping[str, httpx.AsyncClient],
    tokens: Tokens,
    principal: Principal,
    table: TableName,
    *,
    deadline_seconds: float,
) -> Overview:
    """What is known of `table`. Raises NotFound, and, when no part can be had, Forbidden, InvalidRequest or
    UpstreamUnreachable.
    """
    questions = _questions(principal, table)

    async def ask(part: str) -> Any:
        service, path, query = questions[part]
        if part == "lineage" and not principal.allows(Scope.LINEAGE_READ):
            raise Forbidden("The lineage needs the scope lineage:read.")
        return await _ask(clients[service], tokens, principal, service, path, query, deadline_seconds)

    answers = dict(zip(questions, await asyncio.gather(*map(ask, questions), return_exceptions=True), strict=True))
    errors = [
        _error(part, answer, f"/v1/overview/{table.namespace}/{table.name}")
        for part, answer in answers.items()
        if isinstance(answer, BaseException)
    ]
    if len(errors) == len(answers):
        raise _refusal(errors)
    datasets, loads, lineage = (None if isinstance(answer, BaseException) else answer for answer in answers.values())
    found = Overview(
        table=str(table),
        dataset=next(iter(datasets["items"]), None) if datasets else None,
        loads=loads["items"] if loads else None,
        lineage=lineage,
        errors=errors,
    )
    if datasets is not None and loads is not None and not (found.dataset or found.loads):
        raise NotFound(f"No table {table} is known. Names are case-sensitive; try /v1/search?q={table.name}.")
    return found


def _questions(principal: Principal, table: TableName) -> dict[str, tuple[str, str, dict[str, str]]]:
    """Service, path and query for each part."""
    namespace, name = table_dataset(principal.tenant, table)
    pair = {"namespace": namespace, "name": name}
    return {
        "dataset": ("catalog", "/v1/datasets", pair),
        "loads": ("ingest", "/v1/loads", {"table": str(table), "limit": str(LATEST_LOADS)}),
        "lineage": (
            "lineage",
            "/v1/lineage/graph",
            pair | {"depth": str(LINEAGE_DEPTH), "limit": str(LINEAGE_NODES)},
        ),
    }


def _refusal(errors: Sequence[PartProblem]) -> Problem:
    """What to answer when no part can be had: the caller's own fault first, if one of the services names it."""
    for kind in (Forbidden, InvalidRequest):
        for error in errors:
            if error.status == kind.status:
                return kind(error.detail)
    return UpstreamUnreachable("None of the services behind the overview answered. Try again.", retry_after=2)


async def _ask(
    client: httpx.AsyncClient,
    tokens: Tokens,
    principal: Principal,
    service: str,
    path: str,
    query: Mapping[str, str],
    deadline_seconds: float,
) -> Any:
    identity = [(name.decode(), value.decode()) for name, value in tokens.for_service(principal, service)]
    try:
        async with asyncio.timeout(deadline_seconds):
            answer = await client.get(path, params=query, headers=identity)
    except (TimeoutError, httpx.TimeoutException) as error:
        raise UpstreamTimeout(f"The {service} service gave no answer within {deadline_seconds:g} s.") from error
    except httpx.ConnectError as error:
        raise UpstreamUnreachable(f"The {service} service can't be reached.", retry_after=2) from error
    except httpx.HTTPError as error:
        raise BadUpstream(f"The {service} service broke off its answer.") from error
    try:
        body = orjson.loads(answer.content)
    except orjson.JSONDecodeError as error:
        raise BadUpstream(f"The {service} service answered no JSON.") from error
    if answer.status_code == 404:
        return None
    if answer.is_error:
        raise Refused(body)
    return body


def _error(part: str, error: BaseException, instance: str) -> PartProblem:
    if isinstance(error, Problem):
        body = problem_body(error, instance)
    elif isinstance(error, Refused):
        fallback = problem_body(BadUpstream(f"The service of {part} answered an error without saying which."), instance)
        body = fallback | {name: error.body[name] for name in fallback.keys() & error.body.keys()}
    else:
        raise error
    return PartProblem(part=part, **(body | {"trace_id": context.current().trace_id}))
