"""A revocation at one replica is soon known to the others."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from lakegate_chassis.eventlog import PostgresEventLog
from lakegate_chassis.testing import eventually
from lakegate_contracts.identity import Principal
from lakegate_gateway.identity import verified
from lakegate_gateway.identity.revocations import Revocations
from lakegate_gateway.identity.sessions import Sessions
from lakegate_gateway.identity.verified import VerificationCache

PASSWORD = "correct horse battery"


@pytest.fixture
async def replicas(start_gateway: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Any, Any]]:
    """Two gateways of one tenant. Nothing that they remember runs out by itself while a test lasts."""
    monkeypatch.setattr(verified, "KEEP_SECONDS", 3600.0)
    tenant = f"t{secrets.token_hex(4)}"
    async with start_gateway(tenant=tenant) as one, start_gateway(tenant=tenant) as two:
        yield one, two


async def is_refused(caller: httpx.AsyncClient) -> bool:
    return (await caller.get("/v1/datasets")).status_code == 401


async def test_a_key_revoked_at_one_replica_is_refused_by_the_other(replicas: tuple[Any, Any]) -> None:
    one, two = replicas
    made = (await one.admin.post("/v1/keys", json={"name": "x", "scopes": ["datasets:read"]})).json()
    other = (await one.admin.post("/v1/keys", json={"name": "y", "scopes": ["datasets:read"]})).json()
    revoked, kept = two.client(made["key"]), two.client(other["key"])
    assert not await is_refused(revoked)
    assert not await is_refused(kept)
    assert (await one.admin.delete(f"/v1/keys/{made['id']}")).status_code == 204
    await eventually(lambda: is_refused(revoked))
    assert not await is_refused(kept)


async def test_a_user_deleted_at_one_replica_is_refused_by_the_other(replicas: tuple[Any, Any]) -> None:
    one, two = replicas
    name = f"ada-{secrets.token_hex(4)}"
    await one.admin.post("/v1/users", json={"username": name, "password": PASSWORD, "scopes": ["datasets:read"]})
    form = {"grant_type": "password", "username": name, "password": PASSWORD}
    token = (await one.client().post("/oauth/token", data=form)).json()["access_token"]
    wanted = {"name": "x", "subject": name, "scopes": ["datasets:read"]}
    key = (await one.admin.post("/v1/keys", json=wanted)).json()["key"]
    callers = two.client(token), two.client(key)
    for caller in callers:
        assert not await is_refused(caller)
    assert (await one.admin.delete(f"/v1/users/{name}")).status_code == 204
    for caller in callers:
        await eventually(lambda caller=caller: is_refused(caller))


async def test_what_was_verified_while_nobody_listened_is_forgotten_when_listening_begins(gateway: Any) -> None:
    cache = VerificationCache()
    cache.put(b"x", Principal(tenant="t", subject="ada", scopes=()), valid_seconds=3600)
    listening = asyncio.create_task(
        Revocations(PostgresEventLog(gateway.app.resources.pool), cache, Sessions()).follow()
    )
    await eventually(lambda: len(cache) == 0)
    listening.cancel()
    await asyncio.wait([listening])
