"""What endpoints ask for by name."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from lakegate_chassis.auth import require
from lakegate_contracts.identity import Principal, Scope
from lakegate_gateway.resources import Resources


async def resources(request: Request) -> Resources:
    # async, since FastAPI runs a plain function in a worker thread for every request
    return cast(Resources, request.app.state.resources)


Opened = Annotated[Resources, Depends(resources)]


async def client_address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


Address = Annotated[str, Depends(client_address)]


async def caller(request: Request, opened: Opened, address: Address) -> Principal:
    """The principal of the request. Raises Unauthorized."""
    header = request.headers.get("authorization")
    principal = await opened.authenticator.authenticate(header.encode("latin-1") if header else None, address)
    request.scope["principal"] = principal
    return principal


Caller = Annotated[Principal, Depends(caller)]


async def admin(principal: Caller) -> Principal:
    """Raises Forbidden unless the caller holds the scope admin."""
    require(principal, Scope.ADMIN)
    return principal


Admin = Annotated[Principal, Depends(admin)]
