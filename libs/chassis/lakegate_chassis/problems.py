"""RFC 9457 problem details: the one shape of every error under /v1.

Problem (500)
├── InvalidHttp 400, HeadTooLarge 431, NotImplementedHere 501, ClientTooSlow 408   the request as HTTP
├── InvalidRequest 422   what was sent can't be used; `errors[{detail, pointer}]` says where
├── Unauthorized 401, Forbidden 403, NotFound 404, MethodNotAllowed 405, Conflict 409, PreconditionFailed 412
├── TooLarge 413, TooManyRequests 429
└── BadUpstream 502, Unavailable 503 (ClocksApart), UpstreamTimeout 504
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import asyncpg
import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from lakegate_chassis import context
from lakegate_chassis.logs import log

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 100
Dialect = Callable[[Scope, "Problem"], Response]
METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
# what PostgreSQL says of U+0000 in text and in jsonb
UNSTORABLE = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)


class FieldError(BaseModel):
    """One thing wrong with a request; `pointer` is a JSON pointer, or `?name` for a query parameter."""

    detail: str
    pointer: str


class ProblemBody(BaseModel):
    """RFC 9457 with `trace_id` and, where the request was at fault in several places, `errors`."""

    type: str = Field(examples=["/problems/not-found"])
    title: str
    status: int
    detail: str
    instance: str
    trace_id: str
    # left out where there is none, as problem_body leaves it out: a null is no array to a client
    errors: list[FieldError] | None = Field(default=None, exclude_if=lambda errors: errors is None)


class Problem(Exception):
    """An error that is answered as it is. Subclasses name slug, title and status; `detail` says what to do."""

    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500

    def __init__(
        self,
        detail: str,
        *,
        errors: list[FieldError] | None = None,
        headers: dict[str, str] | None = None,
        **extensions: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}
        self.extensions = extensions


class InvalidHttp(Problem):
    slug, title, status = "invalid-http", "Not a valid HTTP request", 400


class HeadTooLarge(Problem):
    slug, title, status = "head-too-large", "Request line or headers too large", 431


class NotImplementedHere(Problem):
    slug, title, status = "not-implemented", "Not implemented", 501


class ClientTooSlow(Problem):
    slug, title, status = "client-too-slow", "The request came too slowly", 408


class InvalidRequest(Problem):
    slug, title, status = "invalid-request", "Invalid request", 422


class Unauthorized(Problem):
    slug, title, status = "unauthorized", "Not authenticated", 401

    def __init__(self, detail: str, **extensions: Any) -> None:
        super().__init__(detail, headers={"www-authenticate": "Bearer"}, **extensions)


class Forbidden(Problem):
    slug, title, status = "forbidden", "Not allowed", 403


class NotFound(Problem):
    slug, title, status = "not-found", "Not found", 404


class MethodNotAllowed(Problem):
    slug, title, status = "method-not-allowed", "Method not allowed", 405


class Conflict(Problem):
    slug, title, status = "conflict", "Conflict", 409


class PreconditionFailed(Problem):
    slug, title, status = "precondition-failed", "Precondition failed", 412


class TooLarge(Problem):
    slug, title, status = "too-large", "Too large", 413


class Unavailable(Problem):
    """Try again after `retry_after` seconds."""

    slug, title, status = "unavailable", "Temporarily unavailable", 503

    def __init__(self, detail: str, *, retry_after: int = 1, **extensions: Any) -> None:
        super().__init__(detail, headers={"retry-after": str(retry_after)}, **extensions)


class ClocksApart(Unavailable):
    slug, title = "clocks-apart", "The clocks of two services are apart"


class TooManyRequests(Problem):
    """Try again after `retry_after` seconds."""

    slug, title, status = "too-many-requests", "Too many requests", 429

    def __init__(self, detail: str, *, retry_after: int = 1, **extensions: Any) -> None:
        super().__init__(detail, headers={"retry-after": str(retry_after)}, **extensions)


class BadUpstream(Problem):
    slug, title, status = "bad-upstream", "A service behind the gateway answered wrongly", 502


class UpstreamTimeout(Problem):
    slug, title, status = "upstream-timeout", "A service behind the gateway took too long", 504


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem (RFC 9457); `type` names its page, `detail` says what to do.",
        "model": ProblemBody,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}},
    }
}


def problem_body(problem: Problem, instance: str) -> dict[str, Any]:
    """The JSON members of the answer, extensions included."""
    body: dict[str, Any] = {
        "type": f"/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": instance,
        "trace_id": context.current().trace_id,
    }
    if problem.errors:
        body["errors"] = [error.model_dump() for error in problem.errors[:MAX_ERRORS]]
    return body | problem.extensions


def problem_response(problem: Problem, *, instance: str) -> Response:
    """The answer with status, headers and body."""
    content = orjson.dumps(problem_body(problem, instance), default=str)
    return Response(content, problem.status, problem.headers, MEDIA_TYPE)


def answer_to(scope: Scope, problem: Problem) -> Response:
    """The answer as the path's clients expect it: `app.state.dialect(scope, problem)`, else a problem."""
    dialect: Dialect = getattr(getattr(scope.get("app"), "state", None), "dialect", _as_problem)
    return dialect(scope, problem)


def _as_problem(scope: Scope, problem: Problem) -> Response:
    return problem_response(problem, instance=scope["path"])


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error of `app` as a problem: ours, FastAPI's, Starlette's, and what nobody foresaw."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(asyncpg.DataError, _on_data_error)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return answer_to(request.scope, error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [FieldError(detail=item["msg"], pointer=_pointer(item["loc"])) for item in error.errors()[:MAX_ERRORS]]
    first = errors[0]
    detail = f"{first.pointer}: {first.detail}." + (" See errors for the rest." if len(errors) > 1 else "")
    return answer_to(request.scope, InvalidRequest(detail, errors=errors))


def _pointer(location: tuple[int | str, ...]) -> str:
    """Where in the request: `?limit`, `{id}`, a header's name, or a JSON pointer into the body (RFC 6901)."""
    source, *path = location
    if source == "query":
        return "?" + ".".join(str(part) for part in path)
    if source in ("path", "header", "cookie"):
        return f"{source}: " + ".".join(str(part) for part in path)
    return "/" + "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in path)


def unstorable(error: asyncpg.DataError) -> Problem:
    """What the database can't hold, as the fault of who sent it; trying again would not help."""
    if isinstance(error, UNSTORABLE):
        return InvalidRequest("A text of this request holds the character U+0000, which can't be stored. Remove it.")
    # a model should have refused it; the log says which value it was
    log.warning("data_error", exc_info=error)
    return InvalidRequest("A value of this request lies outside of what can be stored, such as a time or a number.")


async def _on_data_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, asyncpg.DataError)
    return answer_to(request.scope, unstorable(error))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        return answer_to(request.scope, NotFound(f"Nothing is served at {path}. The API is described at /docs."))
    if error.status_code == 405:
        allowed = ", ".join(sorted(_methods(request)))
        problem: Problem = MethodNotAllowed(
            f"{request.method} is not possible here; {path} takes {allowed}.", headers={"allow": allowed}
        )
        return answer_to(request.scope, problem)
    if error.status_code < 500:
        return answer_to(request.scope, InvalidRequest(str(error.detail)))
    return answer_to(request.scope, unforeseen(error))


def _methods(request: Request) -> set[str]:
    """What the path takes; Starlette names the methods of the first route that matches only."""
    # asked for each method, since an included router does not say which it has
    scope = dict(request.scope)
    return {
        method
        for method in METHODS
        if any(route.matches(scope | {"method": method})[0] is Match.FULL for route in request.app.router.routes)
    }


def unforeseen(error: BaseException) -> Problem:
    """Log what nobody foresaw and hide it from the caller, who gets the trace id to quote."""
    log.error("unhandled_error", exc_info=error)
    return Problem("Something failed that should not. Quote the trace id to whoever runs this service.")


async def strict_query(request: Request) -> None:
    """Refuse query parameters that the endpoint does not declare (a typo would be ignored silently)."""
    route = request.scope.get("route")
    dependant = getattr(route, "dependant", None)
    if dependant is None or not request.query_params:
        return
    known = _query_names(dependant)
    unknown = sorted(name for name in request.query_params if name not in known)
    if unknown:
        takes = ", ".join(sorted(known)) or "none"
        raise InvalidRequest(
            f"Unknown query parameter {unknown[0]!r}. This endpoint takes: {takes}.",
            errors=[FieldError(detail="unknown query parameter", pointer=f"?{name}") for name in unknown],
        )


def _query_names(dependant: Any) -> set[str]:
    names: set[str] = set()
    for field in dependant.query_params:
        annotation = field.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            names |= {info.alias or name for name, info in annotation.model_fields.items()}
        else:
            names.add(field.alias)
    for child in dependant.dependencies:
        names |= _query_names(child)
    return names
