"""GET /v1/search."""

from __future__ import annotations

import asyncio
from typing import Annotated

import orjson
from fastapi import APIRouter, Header, Query, Response

from lakegate_catalog.datasets.service import areas_of
from lakegate_catalog.deps import Services
from lakegate_catalog.errors import InvalidCursor, SearchBehind
from lakegate_catalog.search.query import Wanted, search
from lakegate_catalog.search.schemas import SearchAnswer
from lakegate_chassis.auth import Caller, require
from lakegate_chassis.numerals import natural
from lakegate_chassis.problems import FieldError, InvalidRequest
from lakegate_contracts.identity import Scope

router = APIRouter(tags=["search"])
MAX_OFFSET = 1000  # further down nobody looks, and each page costs what all pages before it cost

Token = Annotated[str | None, Query(max_length=32, description="sees at least the write that returned this token")]
TokenHeader = Annotated[str | None, Header(alias="lakegate-consistency-token", max_length=32)]


@router.get("/v1/search", response_model=SearchAnswer)
async def search_datasets(
    principal: Caller,
    services: Services,
    q: Annotated[
        str, Query(max_length=500, description="words, beginnings of words, or nearly so; all must match")
    ] = "",
    kind: Annotated[str | None, Query(max_length=100)] = None,
    tag: Annotated[list[str] | None, Query(description="repeatable; all must be there")] = None,
    owner: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=32)] = None,
    facets: Annotated[bool, Query(description="count the matches by kind, tag and owner")] = False,
    consistency_token: Token = None,
    token_header: TokenHeader = None,
) -> Response:
    """Datasets by name, column, description, tag and owner, tolerant of one typing error a word."""
    require(principal, Scope.DATASETS_READ)
    offset = _offset(cursor)
    token = consistency_token or token_header
    if token is not None:
        await services.replica.reach(_position(token), services.settings.search.wait_seconds)
    if services.replica.position is None:
        raise SearchBehind("The search index is being built. Try again in a few seconds.")
    wanted = Wanted(
        tenant=principal.tenant,
        text=q,
        kind=kind,
        tags=tuple(tag or ())[:20],
        owner=owner,
        areas=areas_of(principal),
        offset=offset,
        limit=limit,
        facets=facets,
    )
    found = await asyncio.to_thread(search, services.replica.index, wanted)
    after = offset + len(found.hits)
    more = after < min(found.total, MAX_OFFSET)
    # the bodies in the index are wire datasets already: reading and writing them again would double the time
    items = b",".join(b'{"score":%.4f,' % score + body[1:] for score, body in found.hits)
    rest = {"total": found.total, "facets": found.facets, "next": str(after) if more else None}
    return Response(b'{"items":[' + items + b"]," + orjson.dumps(rest)[1:], media_type="application/json")


def _offset(cursor: str | None) -> int:
    if cursor is None:
        return 0
    offset = natural(cursor)
    if offset is None or offset >= MAX_OFFSET:
        raise InvalidCursor("The cursor is not one of ours; use `next` as it was given.")
    return offset


def _position(token: str) -> int:
    position = natural(token)
    if position is None:
        raise InvalidRequest(
            "The consistency token is not one of ours; use it as the write returned it.",
            errors=[FieldError(detail="not a consistency token", pointer="?consistency_token")],
        )
    return position
