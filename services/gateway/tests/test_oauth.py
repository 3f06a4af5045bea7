"""The built-in issuer: RFC 6749's grants and errors, rotation, limits, discovery, exchange."""

from __future__ import annotations

import asyncio
import base64
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import jwt
import pytest
from fastapi import FastAPI

from lakegate_chassis.testing import serving
from lakegate_chassis.tokens import TokenVerifier
from lakegate_contracts.identity import Principal
from lakegate_gateway.oauth.endpoints import management_routes
from lakegate_gateway.sweep import sweep

PASSWORD = "correct horse battery"


async def make_user(gateway: Any, *scopes: str) -> str:
    name = f"ada-{uuid4().hex[:12]}"
    body = {"username": name, "password": PASSWORD, "scopes": list(scopes or ("datasets:read", "loads:write@travel.*"))}
    answer = await gateway.admin.post("/v1/users", json=body)
    assert answer.status_code == 201, answer.text
    return name


async def make_client(gateway: Any, *scopes: str) -> tuple[str, str]:
    body = {"client_id": f"airflow-{uuid4().hex[:12]}", "scopes": list(scopes)}
    made = (await gateway.admin.post("/v1/clients", json=body)).json()
    return made["client_id"], made["client_secret"]


async def grant(gateway: Any, **form: str) -> httpx.Response:
    answer: httpx.Response = await gateway.client().post("/oauth/token", data=form)
    return answer


async def log_in(gateway: Any, name: str, **form: str) -> dict[str, Any]:
    answer = await grant(gateway, grant_type="password", username=name, password=PASSWORD, **form)
    assert answer.status_code == 200, answer.text
    token: dict[str, Any] = answer.json()
    return token


async def test_the_password_grant_gives_tokens_that_work(gateway: Any) -> None:
    name = await make_user(gateway)
    answer = await grant(gateway, grant_type="password", username=name, password=PASSWORD)
    token = answer.json()
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 3600)
    assert token["scope"] == "datasets:read loads:write@travel.*"
    assert answer.headers["cache-control"] == "no-store"
    caller = gateway.client(token["access_token"])
    assert (await caller.get("/v1/datasets")).json()["principal"]["subject"] == name
    assert (await caller.post("/v1/loads/shop/orders")).status_code == 403


async def test_a_token_can_be_checked_by_anybody_with_the_published_keys(gateway: Any) -> None:
    token = await log_in(gateway, await make_user(gateway))
    about = (await gateway.client().get("/.well-known/oauth-authorization-server")).json()
    assert about["token_endpoint"] == about["issuer"] + "/oauth/token"
    assert set(about["grant_types_supported"]) == {"password", "client_credentials", "refresh_token"}
    keys = jwt.PyJWKSet.from_dict((await gateway.client().get("/.well-known/jwks.json")).json())
    key = keys[jwt.get_unverified_header(token["access_token"])["kid"]]
    claims = jwt.decode(token["access_token"], key, ["EdDSA"], audience="lakegate", issuer=about["issuer"])
    assert claims["tenant"] == gateway.app.state.settings.bootstrap.tenant


async def test_fewer_scopes_can_be_asked_for_and_not_more(gateway: Any) -> None:
    name = await make_user(gateway)
    assert (await log_in(gateway, name, scope="loads:write@travel.europe"))["scope"] == "loads:write@travel.europe"
    for scope in ("admin", "datasets:write", "loads:write", "loads:write@shop", "loads:write@*", "nonsense"):
        answer = await grant(gateway, grant_type="password", username=name, password=PASSWORD, scope=scope)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope"), scope


async def test_client_credentials_by_form_and_by_basic(gateway: Any) -> None:
    client_id, secret = await make_client(gateway, "lineage:write")
    form = await grant(gateway, grant_type="client_credentials", client_id=client_id, client_secret=secret)
    assert "refresh_token" not in form.json()
    header = "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    basic = await gateway.client().post(
        "/oauth/token", data={"grant_type": "client_credentials"}, headers={"authorization": header}
    )
    for answer in (form, basic):
        caller = gateway.client(answer.json()["access_token"])
        seen = (await caller.post("/api/v1/lineage")).json()["principal"]
        assert (seen["subject"], seen["scopes"]) == (f"client:{client_id}", ["lineage:write"])


async def test_a_wrong_client_is_401_and_told_how(gateway: Any) -> None:
    client_id, _ = await make_client(gateway, "lineage:write")
    answer = await grant(gateway, grant_type="client_credentials", client_id=client_id, client_secret="wrong")
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic")


async def test_an_iceberg_client_s_credential_works_as_it_is_sent(gateway: Any) -> None:
    client_id, secret = await make_client(gateway, "datasets:read")
    form = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": secret,
        "scope": "catalog",  # PyIceberg's default
    }
    answer = await gateway.client().post("/iceberg/v1/oauth/tokens", data=form)
    token = answer.json()
    assert token["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert (await gateway.client(token["access_token"]).get("/iceberg/v1/config")).status_code == 200
    refused = await gateway.client().post("/iceberg/v1/oauth/tokens", data=form | {"client_secret": "x"})
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")


async def test_pyiceberg_gets_its_token_here(gateway: Any) -> None:
    from pyiceberg.catalog.rest import RestCatalog

    client_id, secret = await make_client(gateway, "datasets:read")

    async def handler(request: Any, send: Any) -> None:
        body: dict[str, Any] = {"defaults": {}, "overrides": {}}
        if request.path.endswith("/namespaces"):
            body = {"namespaces": [["travel"]]}
        await gateway.services["catalog"].answer_json(send, body)

    gateway.services["catalog"].handler = handler

    def namespaces() -> Any:
        uri = f"{gateway.url}/iceberg"
        tenant = gateway.app.state.settings.bootstrap.tenant
        return RestCatalog("lake", uri=uri, credential=f"{client_id}:{secret}", prefix=tenant).list_namespaces()

    assert await asyncio.to_thread(namespaces) == [("travel",)]


async def test_a_refresh_token_is_good_once_and_its_reuse_voids_the_login(gateway: Any) -> None:
    first = await log_in(gateway, await make_user(gateway))
    second = (await grant(gateway, grant_type="refresh_token", refresh_token=first["refresh_token"])).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert (await gateway.client(second["access_token"]).get("/v1/datasets")).status_code == 200
    stolen = await grant(gateway, grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_grant")
    after = await grant(gateway, grant_type="refresh_token", refresh_token=second["refresh_token"])
    assert (after.status_code, after.json()["error"]) == (400, "invalid_grant")


async def test_of_two_refreshes_at_once_one_wins(gateway: Any) -> None:
    token = (await log_in(gateway, await make_user(gateway)))["refresh_token"]
    answers = await asyncio.gather(*(grant(gateway, grant_type="refresh_token", refresh_token=token) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]


async def test_a_refresh_gives_no_scope_that_was_taken_since(gateway: Any, database: Any) -> None:
    name = await make_user(gateway, "datasets:read", "loads:write")
    token = (await log_in(gateway, name))["refresh_token"]
    admin = await asyncpg.connect(database.admin_url)
    await admin.execute("UPDATE gateway.users SET scopes = '{datasets:read}' WHERE username = $1", name)
    renewed = (await grant(gateway, grant_type="refresh_token", refresh_token=token)).json()
    assert renewed["scope"] == "datasets:read"
    await admin.execute("DELETE FROM gateway.users WHERE username = $1", name)
    await admin.close()
    gone = await grant(gateway, grant_type="refresh_token", refresh_token=renewed["refresh_token"])
    assert (gone.status_code, gone.json()["error"]) == (400, "invalid_grant")


async def test_an_expired_refresh_token_is_refused(gateway: Any, database: Any) -> None:
    name = await make_user(gateway)
    token = (await log_in(gateway, name))["refresh_token"]
    admin = await asyncpg.connect(database.admin_url)
    await admin.execute("UPDATE gateway.refresh_tokens SET expires_at = now() WHERE subject = $1", name)
    await admin.close()
    answer = await grant(gateway, grant_type="refresh_token", refresh_token=token)
    assert (answer.status_code, "expired" in answer.json()["error_description"]) == (400, True)


async def test_expired_refresh_tokens_are_dropped_by_a_sweep_and_others_stay(gateway: Any, database: Any) -> None:
    expired, valid = await make_user(gateway), await make_user(gateway)
    await log_in(gateway, expired)
    token = (await log_in(gateway, valid))["refresh_token"]
    admin = await asyncpg.connect(database.admin_url)
    await admin.execute(
        "UPDATE gateway.refresh_tokens SET expires_at = now() - interval '100 days' WHERE subject = $1", expired
    )
    assert await sweep(gateway.app.state.resources.settings)
    left = await admin.fetch(
        "SELECT subject FROM gateway.refresh_tokens WHERE subject = ANY($1::text[])", [expired, valid]
    )
    await admin.close()
    assert [row["subject"] for row in left] == [valid]
    assert (await grant(gateway, grant_type="refresh_token", refresh_token=token)).status_code == 200


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "implicit"}, "unsupported_grant_type"),
        ({"grant_type": "password"}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "lgr_unknown"}, "invalid_grant"),
        ({"grant_type": "password", "username": "nobody\x00", "password": "x"}, "invalid_grant"),
    ],
)
async def test_what_is_no_grant_gets_its_rfc_error(gateway: Any, form: dict[str, str], error: str) -> None:
    answer = await grant(gateway, **form)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_a_token_request_is_a_form_and_names_nothing_twice(gateway: Any) -> None:
    anonymous = gateway.client()
    json = await anonymous.post("/oauth/token", json={"grant_type": "password"})
    assert (json.status_code, json.json()["error"]) == (400, "invalid_request")
    form = {"content-type": "application/x-www-form-urlencoded"}
    twice = await anonymous.post("/oauth/token", content="grant_type=password&grant_type=password", headers=form)
    assert (twice.status_code, "twice" in twice.json()["error_description"]) == (400, True)
    huge = await anonymous.post("/oauth/token", content="x=" + "y" * 100_000, headers=form)
    assert (huge.status_code, huge.json()["error"]) == (413, "invalid_request")


async def test_guessing_is_bounded_also_when_done_all_at_once(start_gateway: Any) -> None:
    async with start_gateway() as gateway:
        guesses = [grant(gateway, grant_type="password", username="ada", password=f"guess {n}") for n in range(12)]
        statuses = sorted(answer.status_code for answer in await asyncio.gather(*guesses))
        assert statuses == [400] * 5 + [429] * 7
        refused = await grant(gateway, grant_type="password", username="ada", password="x")
        assert (refused.json()["error"], 0 < int(refused.headers["retry-after"]) <= 61) == ("slow_down", True)
        header = "Basic " + base64.b64encode(b"ada:x").decode()
        by_basic = await gateway.client().get("/v1/datasets", headers={"authorization": header})
        assert (by_basic.status_code, by_basic.json()["type"]) == (429, "/problems/too-many-requests")
        event = await gateway.client().post("/api/v1/lineage", headers={"authorization": header}, json={})
        assert (event.status_code, "retry-after" in event.headers) == (503, True)  # OpenLineage drops at a 429


async def test_logins_that_succeed_are_not_counted(start_gateway: Any) -> None:
    async with start_gateway() as gateway:
        name = await make_user(gateway)
        for _ in range(12):
            await log_in(gateway, name)


async def test_names_are_taken_once_in_all_tenants(start_gateway: Any) -> None:
    async with start_gateway() as one, start_gateway() as two:
        name = await make_user(one)
        body = {"username": name, "password": PASSWORD, "scopes": ["datasets:read"]}
        answer = await two.admin.post("/v1/users", json=body)
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/name-taken")
        client_id, _ = await make_client(one, "datasets:read")
        answer = await two.admin.post("/v1/clients", json={"client_id": client_id, "scopes": ["datasets:read"]})
        assert answer.status_code == 409


async def test_a_short_password_is_422_and_not_repeated_in_the_answer(gateway: Any) -> None:
    body = {"username": "bob", "password": "hunter2", "scopes": ["datasets:read"]}
    answer = await gateway.admin.post("/v1/users", json=body)
    assert answer.status_code == 422
    assert "hunter2" not in answer.text


async def test_ingest_exchanges_its_delegation_on_the_management_listener_only(gateway: Any, signing_keys: Any) -> None:
    app = FastAPI()
    app.include_router(management_routes(lambda: gateway.app.resources))
    tokens = gateway.app.resources.tokens
    producer = Principal(tenant="acme", subject="ada", scopes=("loads:write@travel.*",))
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": tokens.delegation(producer, "ingest"),
        "audience": "catalog",
    }
    async with serving(app) as url, httpx.AsyncClient(base_url=url, timeout=30) as management:
        answer = (await management.post("/internal/token", data=form)).json()
        principal = TokenVerifier(signing_keys[1], "catalog").verify(answer["access_token"])
        assert answer["expires_in"] == 60
        assert (principal.tenant, principal.subject) == ("acme", "ada")
        # who may load into a namespace may have its tables made and read there, and nowhere else
        assert set(principal.scopes) == {
            "loads:write@travel.*",
            "datasets:read@travel.*",
            "datasets:write@travel.*",
        }
        internal = dict(tokens.for_service(producer, "ingest"))[b"authorization"].decode().removeprefix("Bearer ")
        for wrong in (
            {"audience": "lineage"},
            {"audience": ""},
            {"subject_token": "x"},
            {"subject_token": internal},
            {"subject_token": tokens.access_token(producer, uuid4())},
            {"grant_type": "password"},
        ):
            refused = await management.post("/internal/token", data=form | wrong)
            assert refused.status_code == 400, wrong
    assert (await gateway.admin.post("/internal/token", data=form)).status_code == 404
