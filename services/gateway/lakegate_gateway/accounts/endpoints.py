"""/v1/users and /v1/clients: who may log in to the built-in issuer."""

from __future__ import annotations

from fastapi import APIRouter, Response

from lakegate_gateway.accounts.schemas import ClientCreate, ClientCreated, User, UserCreate
from lakegate_gateway.deps import Admin, Opened
from lakegate_gateway.identity.scopes import check_scopes

router = APIRouter(prefix="/v1", tags=["Identity"])


@router.post("/users", status_code=201, summary="Make a user for the password grant and for Basic")
async def create_user(wanted: UserCreate, principal: Admin, opened: Opened) -> User:
    scopes = check_scopes(wanted.scopes)
    await opened.accounts.create_user(principal.tenant, wanted.username, wanted.password.get_secret_value(), scopes)
    return User(username=wanted.username, scopes=scopes)


@router.post("/clients", status_code=201, summary="Make a client for the client_credentials grant")
async def create_client(wanted: ClientCreate, principal: Admin, opened: Opened, response: Response) -> ClientCreated:
    scopes = check_scopes(wanted.scopes)
    secret = await opened.accounts.create_client(principal.tenant, wanted.client_id, scopes)
    response.headers["cache-control"] = "no-store"
    return ClientCreated(client_id=wanted.client_id, scopes=scopes, client_secret=secret)
