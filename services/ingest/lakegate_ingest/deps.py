"""What endpoints need, named once."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from lakegate_chassis.auth import Caller
from lakegate_contracts.names import InvalidName, TableName
from lakegate_ingest.errors import BadTableName
from lakegate_ingest.resources import Resources


def _resources(request: Request) -> Resources:
    return cast(Resources, request.app.state.resources)


def _table(namespace: str, table: str) -> TableName:
    try:
        return TableName.of(namespace, table)
    except InvalidName as error:
        raise BadTableName(str(error)) from error


R = Annotated[Resources, Depends(_resources)]
Table = Annotated[TableName, Depends(_table)]

__all__ = ["Caller", "R", "Table"]
