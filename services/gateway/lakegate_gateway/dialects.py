"""An error of the gateway as the client of each protocol expects it."""

from __future__ import annotations

from xml.sax.saxutils import escape

import orjson

from lakegate_chassis.problems import MEDIA_TYPE, Problem, problem_body
from lakegate_gateway.routes import Dialect

# Iceberg REST, ErrorModel: clients choose their exception by status, and show the type.
_ICEBERG_TYPES = {
    401: "NotAuthorizedException",
    403: "ForbiddenException",
    404: "NotFoundException",
    429: "SlowDownException",
    500: "InternalServerError",
    502: "InternalServerError",
    503: "ServiceUnavailableException",
    504: "InternalServerError",
}
# S3's error codes: SDKs repeat a SlowDown and an InternalError, and ask for new keys at an ExpiredToken.
_S3_CODES = {
    400: "InvalidRequest",
    401: "ExpiredToken",
    403: "AccessDenied",
    408: "RequestTimeout",
    413: "EntityTooLarge",
    503: "SlowDown",
}
_UNKNOWN_OUTCOME = frozenset({500, 502, 504})

Rendered = tuple[int, list[tuple[bytes, bytes]], bytes]


def render(problem: Problem, dialect: Dialect, *, method: str, path: str) -> Rendered:
    """Status, headers (with content-length) and body."""
    status = problem.status
    headers = dict(problem.headers)
    if dialect is Dialect.ICEBERG:
        media_type = "application/json"
        kind = _ICEBERG_TYPES.get(status, "BadRequestException")
        if method == "POST" and status in _UNKNOWN_OUTCOME:
            kind = "CommitStateUnknownException"
        body = orjson.dumps({"error": {"message": problem.detail, "type": kind, "code": status}})
    elif dialect is Dialect.S3:
        media_type = "application/xml"
        code = _S3_CODES.get(status, "InternalError")
        text = f"<Error><Code>{code}</Code><Message>{escape(problem.detail)}</Message></Error>"
        body = b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode()
        if status == 401:
            status = 403  # S3 has no 401
    else:
        media_type = MEDIA_TYPE
        document = problem_body(problem, path)
        if dialect is Dialect.OPENLINEAGE and status == 429:
            # OpenLineage clients repeat a 503 and drop the event at a 429
            status = document["status"] = 503
        body = orjson.dumps(document, default=str)
    pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    pairs += [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    return status, pairs, body
