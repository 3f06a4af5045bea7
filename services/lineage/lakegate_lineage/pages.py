"""Pages by cursor: where the last item stood in the order, so that what arrives meanwhile shifts nothing."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from fastapi import Query, Request

from lakegate_chassis.problems import FieldError, InvalidRequest

MAX_LIMIT = 500
NO_NUL = r"^[^\x00]*$"  # PostgreSQL's text has none

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="items in a page")]
NameFilter = Annotated[str | None, Query(max_length=2000, pattern=NO_NUL)]
# a name of control characters, escaped as JSON and in base 64, is eight times as long as it was
Cursor = Annotated[
    str | None, Query(max_length=20_000, pattern=r"^[A-Za-z0-9_-]+$", description="from `next` of the page before")
]


class NewestFirst(msgspec.Struct, array_like=True):
    """After this run in the order of `first_event_at`, descending. `id`: the key it is stored under."""

    at: Annotated[datetime, msgspec.Meta(tz=True)]
    id: UUID


class ByName(msgspec.Struct, array_like=True):
    """After this job in the order of namespace and name."""

    namespace: Annotated[str, msgspec.Meta(pattern=NO_NUL)]
    name: Annotated[str, msgspec.Meta(pattern=NO_NUL)]


P = TypeVar("P", NewestFirst, ByName)


def read_cursor(cursor: str | None, position: type[P]) -> P | None:
    """Raises InvalidRequest when it is not one of ours."""
    if cursor is None:
        return None
    try:
        return msgspec.json.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=position)
    except (NotBase64, msgspec.DecodeError, ValueError):
        detail = "The cursor is not one of this list; leave it out to begin at the first page"
        raise InvalidRequest(f"{detail}.", errors=[FieldError(detail=detail, pointer="?cursor")]) from None


def page_of(
    rows: list[Any],
    limit: int,
    request: Request,
    *,
    position: Callable[[Any], NewestFirst | ByName],
    show: Callable[[Any], dict[str, Any]],
    may_read: Callable[[Any], bool],
) -> dict[str, Any]:
    """The wire form of a page; `rows` holds one more than `limit` where another page follows. Rows that may not be
    read are left out after counting, so that the cursor goes on."""
    page = rows[:limit]
    more = len(rows) > limit
    return {
        "items": [show(row) for row in page if may_read(row)],
        "next": _next_link(request.url.path, request.query_params, position(page[-1])) if more else None,
    }


def _next_link(path: str, query: Mapping[str, str], position: NewestFirst | ByName) -> str:
    """The path of the page after `position`, with the filters of this one."""
    cursor = urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()
    return f"{path}?{urlencode({**query, 'cursor': cursor})}"
