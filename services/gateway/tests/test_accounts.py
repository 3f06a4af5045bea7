"""/v1/users and /v1/clients, and what a change of them ends."""

from __future__ import annotations

import base64
from typing import Any
from uuid import uuid4

import httpx
import pytest

from lakegate_contracts.identity import Principal

PASSWORD = "correct horse battery"


async def a_user(gateway: Any, name: str | None = None) -> str:
    name = name or f"ada-{uuid4()}"
    user = {"username": name, "password": PASSWORD, "scopes": ["datasets:read"]}
    assert (await gateway.admin.post("/v1/users", json=user)).status_code == 201
    return name


async def a_client(gateway: Any) -> tuple[str, str]:
    name = f"airflow/{uuid4()}"
    answer = await gateway.admin.post("/v1/clients", json={"client_id": name, "scopes": ["datasets:read"]})
    return name, answer.json()["client_secret"]


async def token(gateway: Any, **form: str) -> httpx.Response:
    answer: httpx.Response = await gateway.client().post("/oauth/token", data=form)
    return answer


async def log_in(gateway: Any, name: str, password: str = PASSWORD) -> httpx.Response:
    return await token(gateway, grant_type="password", username=name, password=password)


def basic(name: str, password: str = PASSWORD) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


async def test_a_new_password_ends_the_old_one_and_every_login_at_once(gateway: Any) -> None:
    name = await a_user(gateway, f"team/ada-{uuid4()}")
    refresh = (await log_in(gateway, name)).json()["refresh_token"]
    anonymous = gateway.client()
    assert (await anonymous.get("/v1/datasets", headers=basic(name))).status_code == 200
    changed = await gateway.admin.put(f"/v1/users/{name}/password", json={"password": "another horse battery"})
    assert changed.status_code == 204, changed.text
    assert (await anonymous.get("/v1/datasets", headers=basic(name))).status_code == 401
    assert (await token(gateway, grant_type="refresh_token", refresh_token=refresh)).status_code == 400
    assert (await log_in(gateway, name)).status_code == 400
    assert (await log_in(gateway, name, "another horse battery")).status_code == 200


async def test_a_deleted_user_is_gone_with_every_login(gateway: Any) -> None:
    name = await a_user(gateway)
    refresh = (await log_in(gateway, name)).json()["refresh_token"]
    await gateway.client().get("/v1/datasets", headers=basic(name))
    assert (await gateway.admin.delete(f"/v1/users/{name}")).status_code == 204
    assert (await gateway.client().get("/v1/datasets", headers=basic(name))).status_code == 401
    await a_user(gateway, name)  # whoever comes next by that name does not inherit the logins
    assert (await token(gateway, grant_type="refresh_token", refresh_token=refresh)).status_code == 400


@pytest.mark.parametrize("change", ["deleted", "deleted and made again", "another password"])
async def test_a_user_s_access_tokens_end_with_the_account_s_password(gateway: Any, change: str) -> None:
    name = await a_user(gateway)
    caller = gateway.client((await log_in(gateway, name)).json()["access_token"])
    assert (await caller.get("/v1/datasets")).status_code == 200
    if change == "another password":
        await gateway.admin.put(f"/v1/users/{name}/password", json={"password": "another horse battery"})
    else:
        await gateway.admin.delete(f"/v1/users/{name}")
    if change == "deleted and made again":
        await a_user(gateway, name)
    refused = await caller.get("/v1/datasets")
    assert (refused.status_code, refused.json()["type"]) == (401, "/problems/unauthorized")
    assert "void" in refused.json()["detail"]


async def _a_key(gateway: Any, subject: str) -> str:
    wanted = {"name": "theirs", "subject": subject, "scopes": ["datasets:read"]}
    return str((await gateway.admin.post("/v1/keys", json=wanted)).json()["key"])


@pytest.mark.parametrize("kind", ["user", "client"])
async def test_a_deleted_account_s_api_keys_end_with_it(gateway: Any, kind: str) -> None:
    name = await a_user(gateway) if kind == "user" else (await a_client(gateway))[0]
    subject = name if kind == "user" else f"client:{name}"
    theirs = gateway.client(await _a_key(gateway, subject))
    others = gateway.client(await _a_key(gateway, f"{subject}-2"))
    assert (await theirs.get("/v1/datasets")).status_code == 200
    assert (await gateway.admin.delete(f"/v1/{kind}s/{name}")).status_code == 204
    assert (await theirs.get("/v1/datasets")).status_code == 401
    assert (await others.get("/v1/datasets")).status_code == 200
    listed = (await gateway.admin.get("/v1/keys?limit=100")).json()["items"]
    assert subject not in {key["subject"] for key in listed}
    if kind == "user":
        await a_user(gateway, name)  # whoever comes next by that name does not bring them back
        assert (await theirs.get("/v1/datasets")).status_code == 401


async def test_a_user_that_is_called_bootstrap_does_not_take_the_operator_s_key_along(gateway: Any) -> None:
    await a_user(gateway, "bootstrap")
    assert (await gateway.admin.delete("/v1/users/bootstrap")).status_code == 204
    assert (await gateway.admin.get("/v1/keys")).status_code == 200


@pytest.mark.parametrize("change", ["deleted", "another secret"])
async def test_a_client_s_access_tokens_end_with_its_secret(gateway: Any, change: str) -> None:
    name, secret = await a_client(gateway)
    form = {"grant_type": "client_credentials", "client_id": name, "client_secret": secret}
    caller = gateway.client((await token(gateway, **form)).json()["access_token"])
    assert (await caller.get("/v1/datasets")).status_code == 200
    if change == "deleted":
        await gateway.admin.delete(f"/v1/clients/{name}")
    else:
        await gateway.admin.post(f"/v1/clients/{name}/secret")
    assert (await caller.get("/v1/datasets")).status_code == 401


async def test_an_access_token_of_the_release_before_is_good_while_its_account_is_there(gateway: Any) -> None:
    name = await a_user(gateway)
    settings, tokens = gateway.app.state.settings, gateway.app.resources.tokens
    principal = Principal(tenant=settings.bootstrap.tenant, subject=name, scopes=("datasets:read",))
    old = tokens._ring.signer.mint(
        principal, "lakegate", lifetime_seconds=60, token_type="at+jwt", issuer=settings.issuer.url
    )
    caller = gateway.client(old)
    assert (await caller.get("/v1/datasets")).status_code == 200
    await gateway.admin.delete(f"/v1/users/{name}")
    assert (await caller.get("/v1/datasets")).status_code == 401


async def test_a_login_that_a_new_password_overtakes_gets_no_refresh_token(
    gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakegate_gateway.accounts import service

    name = await a_user(gateway)
    check = service.verify_password

    async def overtaken(password: str, stored: str | None) -> bool:
        right = await check(password, stored)
        tenant = gateway.app.state.settings.bootstrap.tenant
        await gateway.app.resources.accounts.set_password(tenant, name, "another horse battery")
        return right

    monkeypatch.setattr(service, "verify_password", overtaken)
    answer = await log_in(gateway, name)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_a_client_s_new_secret_replaces_the_old_one(gateway: Any) -> None:
    name, old = await a_client(gateway)
    answer = await gateway.admin.post(f"/v1/clients/{name}/secret")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    new = answer.json()["client_secret"]
    form = {"grant_type": "client_credentials", "client_id": name}
    assert (await token(gateway, **form, client_secret=old)).status_code == 401
    assert (await token(gateway, **form, client_secret=new)).status_code == 200
    assert (await gateway.admin.delete(f"/v1/clients/{name}")).status_code == 204
    assert (await token(gateway, **form, client_secret=new)).status_code == 401


@pytest.mark.parametrize("noun", ["users", "clients"])
async def test_accounts_are_listed_page_by_page(start_gateway: Any, noun: str) -> None:
    async with start_gateway() as gateway:
        key = {"users": "username", "clients": "client_id"}[noun]
        made = [await a_user(gateway) if noun == "users" else (await a_client(gateway))[0] for _ in range(5)]
        names, link = [], f"/v1/{noun}?limit=2"
        while link:
            page = (await gateway.admin.get(link)).json()
            assert "secret" not in str(page)
            assert "password" not in str(page)
            names += [item[key] for item in page["items"]]
            link = page["next"]
        assert names == sorted(made)


async def test_accounts_of_another_tenant_are_out_of_reach(start_gateway: Any) -> None:
    async with start_gateway() as one, start_gateway() as two:
        user, (client, _) = await a_user(one), await a_client(one)
        assert (await two.admin.get("/v1/users")).json()["items"] == []
        assert (await two.admin.get("/v1/clients")).json()["items"] == []
        refused = [
            await two.admin.delete(f"/v1/users/{user}"),
            await two.admin.put(f"/v1/users/{user}/password", json={"password": PASSWORD}),
            await two.admin.delete(f"/v1/clients/{client}"),
            await two.admin.post(f"/v1/clients/{client}/secret"),
        ]
        assert {answer.status_code for answer in refused} == {404}
        assert [answer.json()["type"] for answer in refused[1:3]] == [
            "/problems/user-not-found",
            "/problems/client-not-found",
        ]
        assert (await log_in(one, user)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/users"),
        ("GET", "/v1/clients"),
        ("DELETE", "/v1/users/x"),
        ("DELETE", "/v1/clients/x"),
        ("PUT", "/v1/users/x/password"),
        ("POST", "/v1/clients/x/secret"),
    ],
)
async def test_accounts_are_for_admins(gateway: Any, method: str, path: str) -> None:
    caller = await gateway.caller("datasets:read", "loads:write")
    body = {"password": PASSWORD} if method == "PUT" else None
    assert (await caller.request(method, path, json=body)).status_code == 403


async def test_names_that_nobody_can_have_are_not_found(gateway: Any) -> None:
    assert (await gateway.admin.delete("/v1/users/a%00b")).status_code == 404
    assert (await gateway.admin.delete("/v1/clients/a%00b")).status_code == 404
    assert (await gateway.admin.get("/v1/users?cursor=a%00")).status_code == 422


async def test_the_document_describes_the_paths(gateway: Any) -> None:
    paths = (await gateway.client().get("/openapi.json")).json()["paths"]
    assert paths["/v1/users"].keys() == {"get", "post"}
    assert "put" in paths["/v1/users/{username}/password"]
    assert "post" in paths["/v1/clients/{client_id}/secret"]
