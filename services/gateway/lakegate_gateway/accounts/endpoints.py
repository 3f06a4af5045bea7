"""/v1/users and /v1/clients: who may log in to the built-in issuer."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response

from lakegate_gateway.accounts.schemas import (
    ClientCreate,
    ClientCreated,
    ClientPage,
    ListedClient,
    ListedUser,
    PasswordChange,
    User,
    UserCreate,
    UserPage,
)
from lakegate_gateway.accounts.service import Account
from lakegate_gateway.deps import Admin, Opened
from lakegate_gateway.identity.scopes import check_scopes

router = APIRouter(prefix="/v1", tags=["Identity"])

Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$", description="from `next`")]


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


@router.get("/users", summary="List the users, by name")
async def list_users(principal: Admin, opened: Opened, limit: Limit = 50, cursor: Cursor = "") -> UserPage:
    found = await opened.accounts.users(principal.tenant, cursor, limit + 1)
    items = [ListedUser(username=one.name, scopes=one.scopes, created_at=one.created_at) for one in found[:limit]]
    return UserPage(items=items, next=_next("/v1/users", found, limit))


# a name may hold a slash, hence `path`
@router.delete("/users/{username:path}", status_code=204, summary="Delete a user, with all logins")
async def delete_user(username: str, principal: Admin, opened: Opened) -> None:
    """Password, refresh tokens, access tokens and the API keys with the user as their subject are void at once."""
    await opened.accounts.delete_user(principal.tenant, username)


@router.put("/users/{username:path}/password", status_code=204, summary="Set a user's password, and end all logins")
async def set_password(username: str, wanted: PasswordChange, principal: Admin, opened: Opened) -> None:
    """The old password, refresh tokens and access tokens are void at once."""
    await opened.accounts.set_password(principal.tenant, username, wanted.password.get_secret_value())


@router.get("/clients", summary="List the clients, by client_id")
async def list_clients(principal: Admin, opened: Opened, limit: Limit = 50, cursor: Cursor = "") -> ClientPage:
    found = await opened.accounts.clients(principal.tenant, cursor, limit + 1)
    items = [ListedClient(client_id=one.name, scopes=one.scopes, created_at=one.created_at) for one in found[:limit]]
    return ClientPage(items=items, next=_next("/v1/clients", found, limit))


@router.delete("/clients/{client_id:path}", status_code=204, summary="Delete a client")
async def delete_client(client_id: str, principal: Admin, opened: Opened) -> None:
    """Its secret, its access tokens and the API keys with it as their subject are void at once."""
    await opened.accounts.delete_client(principal.tenant, client_id)


@router.post("/clients/{client_id:path}/secret", summary="Give a client a new secret in place of the old")
async def rotate_secret(client_id: str, principal: Admin, opened: Opened, response: Response) -> ClientCreated:
    """The old secret and the access tokens got by it are void at once."""
    secret, scopes = await opened.accounts.rotate_secret(principal.tenant, client_id)
    response.headers["cache-control"] = "no-store"
    return ClientCreated(client_id=client_id, scopes=scopes, client_secret=secret)


def _next(path: str, found: list[Account], limit: int) -> str | None:
    if len(found) <= limit:
        return None
    return f"{path}?" + urlencode({"limit": limit, "cursor": found[limit - 1].name})
