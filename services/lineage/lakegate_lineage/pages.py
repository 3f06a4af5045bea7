"""Pages by cursor: where the last item stood in the order, so that what arrives meanwhile shifts nothing.

A cursor names nothing that its reader may not see: it is the place of the last item shown, and says how many rows that
were not shown came after it.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from fastapi import Query, Request

from lakegate_chassis.problems import FieldError, InvalidRequest

MAX_LIMIT = 500
# of the rows passed over, so many are looked at again: some of them may have been removed meanwhile
_LOOKED_AT_AGAIN = 100
NO_NUL = r"^[^\x00]*$"  # PostgreSQL's text has none

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="items in a page")]
NameFilter = Annotated[str | None, Query(max_length=2000, pattern=NO_NUL)]
# a name of control characters, escaped as JSON and in base 64, is eight times as long as it was
Cursor = Annotated[
    str | None, Query(max_length=20_000, pattern=r"^[A-Za-z0-9_-]+$", description="from `next` of the page before")
]


Hidden = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class NewestFirst(msgspec.Struct, array_like=True):
    """After this run in the order of `first_event_at`, descending. `id`: the key it is stored under."""

    at: Annotated[datetime, msgspec.Meta(tz=True)]
    id: UUID
    hidden: Hidden = 0


class ByName(msgspec.Struct, array_like=True):
    """After this job in the order of namespace and name."""

    namespace: Annotated[str, msgspec.Meta(pattern=NO_NUL)]
    name: Annotated[str, msgspec.Meta(pattern=NO_NUL)]
    hidden: Hidden = 0


NEWEST_RUN = NewestFirst(datetime(9999, 1, 1, tzinfo=UTC), UUID(int=0))
FIRST_JOB = ByName("", "")
P = TypeVar("P", NewestFirst, ByName)


class Window(NamedTuple):
    """The rows to fetch from the place of a cursor on: `limit` of them after `offset`, of which `again` are known."""

    offset: int
    again: int
    limit: int


def window(after: NewestFirst | ByName, limit: int) -> Window:
    """For a page of `limit` items, and one row more."""
    again = min(after.hidden, _LOOKED_AT_AGAIN)
    return Window(after.hidden - again, again, again + limit + 1)


def read_cursor(cursor: str | None, begin: P) -> P:
    """`begin` without one. Raises InvalidRequest when it is not one of ours."""
    if cursor is None:
        return begin
    try:
        return msgspec.json.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=type(begin))
    except (NotBase64, msgspec.DecodeError, ValueError):
        detail = "The cursor is not one of this list; leave it out to begin at the first page"
        raise InvalidRequest(f"{detail}.", errors=[FieldError(detail=detail, pointer="?cursor")]) from None


def page_of(
    rows: list[Any],
    after: P,
    limit: int,
    request: Request,
    *,
    position: Callable[[Any], P],
    show: Callable[[Any], dict[str, Any]],
    may_read: Callable[[Any], bool],
) -> dict[str, Any]:
    """The wire form of a page; `rows` are those of `window(after, limit)`. Rows that may not be read are left out
    after counting, so that the cursor goes on."""
    offset, _, most = window(after, limit)
    place, hidden = after, offset
    items: list[dict[str, Any]] = []
    for row in rows[: most - 1]:
        if len(items) == limit:
            break
        if may_read(row):
            items.append(show(row))
            place, hidden = position(row), 0
        else:
            hidden += 1
    else:
        if len(rows) < most:
            return {"items": items, "next": None}
    place = msgspec.structs.replace(place, hidden=hidden)
    return {"items": items, "next": _next_link(request.url.path, request.query_params, place)}


def _next_link(path: str, query: Mapping[str, str], position: NewestFirst | ByName) -> str:
    """The path of the page after `position`, with the filters of this one."""
    cursor = urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()
    return f"{path}?{urlencode({**query, 'cursor': cursor})}"
