"""How S3 says what went wrong: a status and an XML body with a code that SDKs know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from xml.sax.saxutils import escape

import obstore.exceptions
from starlette.requests import Request
from starlette.responses import Response

from lakegate_chassis.logs import log
from lakegate_chassis.objectstore import STORE_ERRORS
from lakegate_chassis.problems import Problem

Endpoint = Callable[[Request], Awaitable[Response]]
XML = "application/xml"
DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'


class S3Error(Exception):
    """Answered as it is. `code` is from S3's list of error codes."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def element(self) -> bytes:
        return f"<Error><Code>{self.code}</Code><Message>{escape(str(self))}</Message></Error>".encode()


def denied(message: str) -> S3Error:
    return S3Error(403, "AccessDenied", message)


def no_such_key() -> S3Error:
    return S3Error(404, "NoSuchKey", "The table has no such file.")


def bad_request(message: str) -> S3Error:
    return S3Error(400, "InvalidRequest", message)


def of_store(error: Exception) -> S3Error:
    """What the store behind us said, in S3's words to our own clients."""
    if isinstance(error, FileNotFoundError):
        return no_such_key()
    if isinstance(error, obstore.exceptions.PreconditionError | obstore.exceptions.AlreadyExistsError):
        return S3Error(412, "PreconditionFailed", "A precondition of the request does not hold.")
    if isinstance(error, obstore.exceptions.InvalidPathError):
        return bad_request("The key can't be used.")
    log.warning("object_store_error", reason=str(error)[:1000])
    return S3Error(503, "SlowDown", "The object store behind this endpoint does not answer as it should.")


def error_response(error: S3Error, *, only_head: bool) -> Response:
    headers = {"retry-after": "1"} if error.status == 503 else {}
    return Response(b"" if only_head else DECLARATION + error.element(), error.status, headers, XML)


def in_dialect(endpoint: Endpoint) -> Endpoint:
    """Answer every error of `endpoint` in S3's own shape."""

    async def answer(request: Request) -> Response:
        request.scope["route_template"] = "/files/{key}"
        only_head = request.method == "HEAD"
        try:
            return await endpoint(request)
        except S3Error as error:
            return error_response(error, only_head=only_head)
        except obstore.exceptions.NotModifiedError:
            return Response(status_code=304)
        except STORE_ERRORS as error:
            return error_response(of_store(error), only_head=only_head)
        except Problem as problem:
            return error_response(S3Error(problem.status, "InternalError", problem.detail), only_head=only_head)

    return answer
