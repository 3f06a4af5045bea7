"""/v1/keys: make, list and revoke the tenant's API keys."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Response

from lakegate_gateway.deps import Admin, Opened
from lakegate_gateway.errors import InvalidRequest
from lakegate_gateway.identity.scopes import check_scopes
from lakegate_gateway.keys.schemas import Key, KeyCreate, KeyCreated, KeyPage
from lakegate_gateway.keys.service import ApiKey

router = APIRouter(prefix="/v1/keys", tags=["Identity"])


@router.post("", status_code=201, summary="Make an API key")
async def create_key(wanted: KeyCreate, principal: Admin, opened: Opened, response: Response) -> KeyCreated:
    scopes = check_scopes(wanted.scopes)
    expires_at = wanted.expires_at
    if wanted.expires_in_seconds is not None:
        if expires_at is not None:
            raise InvalidRequest("Give expires_at or expires_in_seconds, not both.")
        expires_at = datetime.now(UTC) + timedelta(seconds=wanted.expires_in_seconds)
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise InvalidRequest("expires_at lies in the past: the key could never be used.")
    key, plaintext = await opened.keys.create(
        principal,
        name=wanted.name,
        subject=wanted.subject or principal.subject,
        scopes=scopes,
        expires_at=expires_at,
    )
    response.headers["cache-control"] = "no-store"
    response.headers["location"] = f"/v1/keys/{key.id}"
    return KeyCreated(key=plaintext, **_wire(key).model_dump())


@router.get("", summary="List the keys in force, newest first")
async def list_keys(
    principal: Admin,
    opened: Opened,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> KeyPage:
    keys, following = await opened.keys.page(principal.tenant, cursor, limit)
    link = "/v1/keys?" + urlencode({"limit": limit, "cursor": following}) if following else None
    return KeyPage(items=[_wire(key) for key in keys], next=link)


@router.delete("/{key_id}", status_code=204, summary="Revoke a key, at once")
async def revoke_key(key_id: UUID, principal: Admin, opened: Opened) -> None:
    await opened.keys.revoke(principal.tenant, key_id)


def _wire(key: ApiKey) -> Key:
    return Key.model_validate(asdict(key))
