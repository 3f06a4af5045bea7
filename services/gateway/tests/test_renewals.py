"""Delegations that live on, for the streams of whoever still may write to them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from lakegate_chassis.testing import serving
from lakegate_chassis.tokens import ISSUER, TokenVerifier
from lakegate_contracts.identity import DELEGATION_TYPE, Principal
from lakegate_gateway.oauth.endpoints import management_routes

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
DELEGATION = "urn:lakegate:token-type:delegation"


@pytest.fixture
async def management(gateway: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(management_routes(lambda: gateway.app.resources))
    async with serving(app) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


async def renew(management: httpx.AsyncClient, delegation: str, scope: str = "loads:write@shop") -> httpx.Response:
    form = {"grant_type": EXCHANGE, "subject_token": delegation, "requested_token_type": DELEGATION, "scope": scope}
    return await management.post("/internal/token", data=form)


async def producer(gateway: Any, *scopes: str) -> tuple[Principal, dict[str, Any]]:
    """A principal with a key of its own, and the key."""
    subject = f"service-{uuid4().hex[:8]}"
    body = {"name": "producer", "subject": subject, "scopes": list(scopes)}
    key = (await gateway.admin.post("/v1/keys", json=body)).json()
    found = gateway.app.resources.authenticator
    return await found.authenticate(f"Bearer {key['key']}".encode(), "here"), key


async def test_a_successor_writes_to_one_namespace_and_can_be_renewed_again(
    gateway: Any, management: httpx.AsyncClient, signing_keys: Any
) -> None:
    principal, _ = await producer(gateway, "loads:write@shop", "lineage:read", "loads:write@travel")
    delegation = gateway.app.resources.tokens.delegation(principal, "ingest")
    for _ in range(2):
        answer = await renew(management, delegation)
        assert answer.status_code == 200, answer.text
        delegation = answer.json()["access_token"]
    form = {"grant_type": EXCHANGE, "subject_token": delegation, "audience": "catalog"}
    token = (await management.post("/internal/token", data=form)).json()["access_token"]
    spoken_for = TokenVerifier(signing_keys[1], "catalog").verify(token)
    assert (spoken_for.tenant, spoken_for.subject) == (principal.tenant, principal.subject)
    assert set(spoken_for.scopes) == {"loads:write@shop", "datasets:read@shop", "datasets:write@shop"}
    assert (await renew(management, delegation, "loads:write@travel")).status_code == 400


@pytest.mark.parametrize("scope", ["loads:write", "admin", "datasets:write@shop", "nonsense", ""])
async def test_a_successor_covers_no_more_than_its_predecessor(
    gateway: Any, management: httpx.AsyncClient, scope: str
) -> None:
    principal, _ = await producer(gateway, "loads:write@shop")
    assert (
        await renew(management, gateway.app.resources.tokens.delegation(principal, "ingest"), scope)
    ).status_code == 400


async def test_whoever_lost_the_scope_is_not_spoken_for_any_more(gateway: Any, management: httpx.AsyncClient) -> None:
    principal, key = await producer(gateway, "loads:write@shop")
    delegation = gateway.app.resources.tokens.delegation(principal, "ingest")
    assert (await renew(management, delegation)).status_code == 200
    assert (await gateway.admin.delete(f"/v1/keys/{key['id']}")).status_code == 204
    refused = await renew(management, delegation)
    assert refused.status_code == 400
    assert "any more" in refused.json()["error_description"]


async def test_a_month_after_the_callers_last_request_it_ends(gateway: Any, management: httpx.AsyncClient) -> None:
    principal, _ = await producer(gateway, "loads:write@shop")
    tokens = gateway.app.resources.tokens
    old = tokens._ring.signer.mint(
        principal, ISSUER, lifetime_seconds=60, token_type=DELEGATION_TYPE, azp="ingest",
        given_at=time.time() - 31 * 86_400,
    )  # fmt: skip
    assert (await renew(management, old)).status_code == 400
