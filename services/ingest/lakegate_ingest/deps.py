"""What endpoints need, named once."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request
from starlette.datastructures import Headers

from lakegate_chassis.auth import Caller
from lakegate_chassis.problems import Unauthorized
from lakegate_contracts.identity import DELEGATION_HEADER
from lakegate_contracts.names import InvalidName, TableName
from lakegate_ingest.commit.files import QUARANTINE
from lakegate_ingest.errors import BadTableName
from lakegate_ingest.resources import Resources


async def _resources(request: Request) -> Resources:
    # async, since FastAPI runs a plain function in a worker thread for every request
    return cast(Resources, request.app.state.resources)


async def _table(namespace: str, table: str) -> TableName:
    return table_of(namespace, table)


def table_of(namespace: str, table: str) -> TableName:
    """Raises BadTableName."""
    try:
        name = TableName.of(namespace, table)
    except InvalidName as error:
        raise BadTableName(str(error)) from error
    if name.levels[0] == QUARANTINE:
        raise BadTableName(f"{QUARANTINE} is the folder of rejected rows, and can't be a namespace.")
    return name


async def _delegation(request: Request) -> str:
    return delegation_of(request.headers)


def delegation_of(headers: Headers) -> str:
    """Raises Unauthorized."""
    delegation = headers.get(DELEGATION_HEADER)
    if not delegation:
        raise Unauthorized("The gateway sends a delegation with each request to ingest; this one has none.")
    return delegation


R = Annotated[Resources, Depends(_resources)]
Table = Annotated[TableName, Depends(_table)]
# What the gateway lets ingest do in the caller's name, for as long as a load may take.
Delegation = Annotated[str, Depends(_delegation)]

__all__ = ["Caller", "Delegation", "R", "Table", "delegation_of", "table_of"]
