"""How Iceberg REST says what went wrong: {"error": {message, type, code}}, with the types of its specification.

IcebergError
├── BadRequest 400, Forbidden 403, CommitStateUnknown 500, ServiceUnavailable 503
├── NoSuchNamespace 404, NoSuchTable 404, NoSuchEndpoint 404
├── AlreadyExists 409, NamespaceNotEmpty 409, CommitFailed 409
└── UnprocessableEntity 422, FileMissing 422
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import obstore.exceptions
import orjson
from pydantic import ValidationError
from pyiceberg.exceptions import ValidationError as InvalidMetadata
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from lakegate_chassis.logs import log
from lakegate_chassis.problems import Problem, problem_response
from lakegate_contracts.names import InvalidName

Endpoint = Callable[[Request], Awaitable[Response]]
MAX_MESSAGE = 2000


class IcebergError(Exception):
    """Answered as it is. `type` is the exception's name in the REST specification."""

    type: ClassVar[str] = "InternalServerException"
    code: ClassVar[int] = 500


class BadRequest(IcebergError):
    type, code = "BadRequestException", 400


class Forbidden(IcebergError):
    type, code = "ForbiddenException", 403


class NoSuchNamespace(IcebergError):
    type, code = "NoSuchNamespaceException", 404


class NoSuchTable(IcebergError):
    type, code = "NoSuchTableException", 404


class NoSuchEndpoint(IcebergError):
    type, code = "UnsupportedOperationException", 404


class AlreadyExists(IcebergError):
    type, code = "AlreadyExistsException", 409


class NamespaceNotEmpty(IcebergError):
    type, code = "NamespaceNotEmptyException", 409


class CommitFailed(IcebergError):
    """Nothing was changed: refresh, apply again, commit again."""

    type, code = "CommitFailedException", 409


class UnprocessableEntity(IcebergError):
    type, code = "UnprocessableEntityException", 422


class FileMissing(IcebergError):
    """The table's metadata file is gone. 404 would say that the table is, 409 that another attempt may help, and 500
    that a commit may have happened. The type is that of Iceberg's own exception for a file that is not there."""

    type, code = "NotFoundException", 422


class CommitStateUnknown(IcebergError):
    """The commit may or may not have happened: the client has to look before it repeats it."""

    type, code = "CommitStateUnknownException", 500


class ServiceUnavailable(IcebergError):
    """Nothing was done."""

    type, code = "ServiceUnavailableException", 503


# What pyiceberg raises of input that does not fit: its own errors and, since it looks much up with a bare next(), with
# [] and with .pop(), those of Python.
_MISFITS = (
    InvalidMetadata, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, NotImplementedError,
    RecursionError, StopIteration,
)  # fmt: skip


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Around pyiceberg's work on what a client sent. Raises BadRequest, which begins with `what`."""
    try:
        yield
    except ValidationError as error:
        raise BadRequest(f"{what}: {_first(error)}") from error
    except _MISFITS as error:
        reason = str(error) or "something that it needs or names is not there"
        if isinstance(error, KeyError):
            reason = f"{error} is not there"
        raise BadRequest(f"{what}: {reason}") from error


def error_response(code: int, type_: str, message: str) -> Response:
    body = {"error": {"message": message[:MAX_MESSAGE], "type": type_, "code": code}}
    headers = {"retry-after": "1"} if code == 503 else {}
    return Response(orjson.dumps(body), code, headers, "application/json")


def in_dialect(endpoint: Endpoint, path: str) -> Endpoint:
    """Answer every error of `endpoint` in Iceberg's own shape; `path` is its template, the label of its metrics."""

    async def answer(request: Request) -> Response:
        request.scope["route_template"] = path
        try:
            return await endpoint(request)
        except IcebergError as error:
            return error_response(error.code, error.type, str(error))
        except InvalidName as error:
            return error_response(400, BadRequest.type, str(error))
        except ValidationError as error:
            return error_response(400, BadRequest.type, f"The request is not valid {_first(error)}")
        except Problem as error:
            return as_iceberg(request.scope, error)
        except obstore.exceptions.BaseError as error:
            log.error("warehouse_error", exc_info=error)
            message = "The warehouse can't be read or written. Nothing was committed."
            return error_response(503, ServiceUnavailable.type, message)

    return answer


_TYPES = {401: "NotAuthorizedException", 403: Forbidden.type, 404: "NotFoundException", 503: ServiceUnavailable.type}


def as_iceberg(scope: Scope, problem: Problem) -> Response:
    """A problem of the chassis. A write that failed in a way that nobody foresaw may have been done."""
    if problem.status >= 500 and problem.status != 503:
        type_ = CommitStateUnknown.type if scope["method"] == "POST" else IcebergError.type
    else:
        type_ = _TYPES.get(problem.status, BadRequest.type)
    response = error_response(problem.status, type_, problem.detail)
    response.headers.update(problem.headers)
    return response


def by_path(scope: Scope, problem: Problem) -> Response:
    """Iceberg's clients know Iceberg's errors only; everything else is /v1."""
    if scope["path"].startswith("/iceberg/"):
        return as_iceberg(scope, problem)
    return problem_response(problem, instance=scope["path"])


def _first(error: ValidationError) -> str:
    item = error.errors(include_url=False, include_input=False)[0]
    where = "/".join(str(part) for part in item["loc"])
    return f"at /{where}: {item['msg']}."
