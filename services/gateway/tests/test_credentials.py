"""Who gets in, as whom, and with what rights."""

from __future__ import annotations

import asyncio
import base64
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lakegate_chassis.testing import eventually


def basic(name: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer lgk_unknown",
        "Bearer not.a.token",
        "Basic !!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"key:lgk_unknown").decode(),
        "Basic " + base64.b64encode(b"nobody:nothing").decode(),
        "Digest x",
        "Bearer " + "x" * 9000,
    ],
)
@pytest.mark.parametrize("path", ["/v1/datasets", "/v1/keys"])
async def test_what_is_no_credential_is_401(gateway: Any, header: str | None, path: str) -> None:
    anonymous = gateway.client()
    answer = await anonymous.get(path, headers={} if header is None else {"authorization": header})
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert gateway.services["catalog"].requests == []


async def test_a_key_that_was_not_copied_whole_is_told_to_be_checked(gateway: Any) -> None:
    answer = await gateway.client().get("/v1/keys", headers={"authorization": "Bearer 9fQx2LmA"})
    assert answer.status_code == 401
    assert "begins with lgk_" in answer.json()["detail"]


async def test_an_unauthenticated_upload_sees_its_401_while_it_sends(gateway: Any) -> None:
    answer = await gateway.client().post("/v1/loads/a/b", content=bytes(3 << 20))
    assert answer.status_code == 401
    assert gateway.services["ingest"].requests == []


async def test_a_key_works_as_bearer_and_as_the_password_of_anybody(gateway: Any) -> None:
    key = await gateway.key("datasets:read")
    assert (await gateway.client(key).get("/v1/datasets")).status_code == 200
    assert (await gateway.client().get("/v1/datasets", headers=basic("whoever", key))).status_code == 200


async def test_a_user_logs_in_with_basic(gateway: Any) -> None:
    name = f"ada-{uuid4()}"
    user = {"username": name, "password": "correct horse battery", "scopes": ["datasets:read"]}
    assert (await gateway.admin.post("/v1/users", json=user)).status_code == 201
    answer = await gateway.client().get("/v1/datasets", headers=basic(name, "correct horse battery"))
    assert answer.json()["principal"] == {
        "tenant": gateway.app.state.settings.bootstrap.tenant,
        "subject": name,
        "scopes": ["datasets:read"],
    }
    assert (await gateway.client().get("/v1/datasets", headers=basic(name, "wrong"))).status_code == 401


@pytest.mark.parametrize(
    ("scopes", "method", "path", "status"),
    [
        (["datasets:read"], "GET", "/v1/datasets", 200),
        (["datasets:read"], "PATCH", "/v1/datasets/1", 403),
        (["lineage:read"], "GET", "/v1/datasets", 403),
        (["lineage:read"], "POST", "/api/v1/lineage", 403),
        (["lineage:write"], "POST", "/api/v1/lineage", 200),
        (["loads:write"], "POST", "/v1/loads/shop/orders", 200),
        (["loads:write"], "GET", "/v1/loads/1", 200),
        (["datasets:read"], "GET", "/v1/loads/1", 200),
        (["datasets:read"], "POST", "/v1/loads/shop/orders", 403),
        (["loads:write@travel.*"], "POST", "/v1/loads/travel/flights", 200),
        (["loads:write@travel.*"], "POST", "/v1/loads/travel.europe/flights", 200),
        (["loads:write@travel.*"], "POST", "/v1/loads/travels/flights", 403),
        (["loads:write@travel.*"], "POST", "/v1/loads/shop/orders", 403),
        (["loads:write@travel.*"], "POST", "/v1/loads/shop%2Ftravel/orders", 403),
        (["loads:write@travel.*"], "GET", "/v1/loads/1", 200),
        (["datasets:read@travel.*"], "GET", "/v1/tables/travel/flights/rows", 200),
        (["datasets:read@travel.*"], "GET", "/v1/tables/shop/orders/rows", 403),
        (["datasets:read@travel.*"], "GET", "/v1/search?q=x", 200),
        (["admin"], "POST", "/v1/loads/shop/orders", 200),
    ],
)
async def test_scopes_and_their_namespaces(
    gateway: Any, scopes: list[str], method: str, path: str, status: int
) -> None:
    caller = await gateway.caller(*scopes)
    answer = await caller.request(method, path)
    assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.json()["type"] == "/problems/forbidden"


@pytest.mark.parametrize(
    ("scopes", "method", "path", "status"),
    [
        (["datasets:read"], "GET", "namespaces", 200),
        (["datasets:read"], "POST", "namespaces", 403),
        (["datasets:read"], "POST", "namespaces/travel/tables/t", 403),
        (["datasets:read"], "POST", "namespaces/travel/tables/t/metrics", 200),
        (["datasets:read", "datasets:write@travel.*"], "POST", "namespaces/travel/tables", 200),
        (["datasets:read", "datasets:write@travel.*"], "POST", "namespaces/travel%1Feurope/tables", 200),
        (["datasets:read", "datasets:write@travel.*"], "POST", "namespaces/shop%1Ftravel/tables", 403),
        (["datasets:write@travel.*"], "DELETE", "namespaces/travel/tables/t", 200),
        (["datasets:write@travel.*"], "DELETE", "namespaces/shop/tables/t", 403),
        (["datasets:write@travel.*"], "POST", "tables/rename", 200),  # names in the body are the catalog's to check
    ],
)
async def test_iceberg_paths_and_their_namespaces(
    gateway: Any, scopes: list[str], method: str, path: str, status: int
) -> None:
    tenant = gateway.app.state.settings.bootstrap.tenant
    answer = await (await gateway.caller(*scopes)).request(method, f"/iceberg/v1/{tenant}/{path}")
    assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.json()["error"] | {"message": ""} == {"message": "", "type": "ForbiddenException", "code": 403}


async def test_another_tenant_s_iceberg_prefix_is_403(gateway: Any) -> None:
    answer = await gateway.admin.get("/iceberg/v1/other/namespaces")
    assert answer.status_code == 403
    assert "prefix 'other'" in answer.json()["error"]["message"]
    assert gateway.services["catalog"].requests == []


async def test_an_iceberg_client_reads_401_in_its_own_words(gateway: Any) -> None:
    answer = await gateway.client().get("/iceberg/v1/config")
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "NotAuthorizedException")


async def test_tokens_of_other_issuers_kinds_and_audiences_are_401(gateway: Any) -> None:
    tokens = gateway.app.resources.tokens
    claims = {"iss": "http://127.0.0.1:8080", "aud": "lakegate", "sub": "eve", "tenant": "t", "scope": "admin"}
    stranger = jwt.encode(
        claims | {"exp": 4_000_000_000}, Ed25519PrivateKey.generate(), "EdDSA", headers={"typ": "at+jwt"}
    )
    unsigned = jwt.encode(claims | {"exp": 4_000_000_000}, "", "none", headers={"typ": "at+jwt"})
    principal = await gateway.app.resources.authenticator.authenticate(f"Bearer {gateway.admin_key}".encode(), "x")
    internal = dict(tokens.for_service(principal, "catalog"))[b"authorization"].decode().removeprefix("Bearer ")
    delegation = tokens.delegation(principal, "ingest")
    for token in (stranger, unsigned, internal, delegation):
        assert (await gateway.client(token).get("/v1/datasets")).status_code == 401


async def test_the_cache_of_verified_credentials_is_bounded_and_short(gateway: Any) -> None:
    from lakegate_contracts.identity import Principal
    from lakegate_gateway.identity.verified import VerificationCache

    cache = VerificationCache(max_entries=3)
    someone = Principal(tenant="t", subject="s", scopes=())
    for number in range(10):
        cache.put(bytes([number]), someone, valid_seconds=100)
    assert len(cache) == 3
    assert cache.get(bytes([9])) is not None
    cache.put(b"over", someone, valid_seconds=-1)
    assert cache.get(b"over") is None


async def test_a_credential_is_looked_up_once_and_then_remembered(gateway: Any) -> None:
    caller = await gateway.caller("datasets:read")
    await caller.get("/v1/datasets")
    size = len(gateway.app.resources.verified)
    for _ in range(5):
        await caller.get("/v1/datasets")
    assert len(gateway.app.resources.verified) == size


async def test_the_last_use_of_a_key_is_written_later(gateway: Any) -> None:
    key = await gateway.key("datasets:read", expires_in_seconds=600)
    await gateway.client(key).get("/v1/datasets")
    await gateway.app.resources.keys.flush_used()

    async def used() -> bool:
        items = (await gateway.admin.get("/v1/keys?limit=200")).json()["items"]
        return any(item["prefix"] == key[:12] and item["last_used_at"] for item in items)

    assert await eventually(used)


async def test_many_at_once_with_one_password_cost_one_hash(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from lakegate_gateway.accounts import service

    name = f"ada-{uuid4()}"
    user = {"username": name, "password": "correct horse battery", "scopes": ["datasets:read"]}
    await gateway.admin.post("/v1/users", json=user)
    checked = 0
    check = service.verify_password

    async def counting(password: str, stored: str | None) -> bool:
        nonlocal checked
        checked += 1
        return await check(password, stored)

    monkeypatch.setattr(service, "verify_password", counting)
    client = gateway.client()
    header = basic(name, "correct horse battery")
    answers = await asyncio.gather(*(client.get("/v1/datasets", headers=header) for _ in range(30)))
    assert {answer.status_code for answer in answers} == {200}
    assert checked == 1
