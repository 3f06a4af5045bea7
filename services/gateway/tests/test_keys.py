"""/v1/keys."""

from __future__ import annotations

import asyncio
import base64
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr, ValidationError

from lakegate_chassis.settings import load
from lakegate_gateway.keys import queries
from lakegate_gateway.settings import BootstrapSettings, GatewaySettings


async def test_a_key_is_shown_once_and_only_its_hash_is_kept(gateway: Any, database: Any) -> None:
    answer = await gateway.admin.post("/v1/keys", json={"name": "nightly", "scopes": ["loads:write@travel.*"]})
    made = answer.json()
    assert answer.status_code == 201
    assert made["key"].startswith(made["prefix"])
    assert made["key"].startswith("lgk_")
    assert (answer.headers["cache-control"], answer.headers["location"]) == ("no-store", f"/v1/keys/{made['id']}")
    listed = (await gateway.admin.get("/v1/keys")).json()["items"]
    assert next(item for item in listed if item["id"] == made["id"]) == {
        name: value for name, value in made.items() if name != "key"
    }
    admin = await asyncpg.connect(database.admin_url)
    rows = await admin.fetch("SELECT api_keys::text AS text FROM gateway.api_keys")
    await admin.close()
    assert not any(made["key"] in row["text"] for row in rows)


async def test_a_revoked_key_is_refused_at_once_though_it_was_verified_a_moment_ago(gateway: Any) -> None:
    made = (await gateway.admin.post("/v1/keys", json={"name": "x", "scopes": ["datasets:read"]})).json()
    caller = gateway.client(made["key"])
    assert (await caller.get("/v1/datasets")).status_code == 200
    assert (await gateway.admin.delete(f"/v1/keys/{made['id']}")).status_code == 204
    assert (await caller.get("/v1/datasets")).status_code == 401
    again = await gateway.admin.delete(f"/v1/keys/{made['id']}")
    assert (again.status_code, again.json()["type"]) == (404, "/problems/key-not-found")


async def test_an_expired_key_is_refused(gateway: Any, database: Any) -> None:
    made = (
        await gateway.admin.post("/v1/keys", json={"name": "x", "scopes": ["datasets:read"], "expires_in_seconds": 60})
    ).json()
    admin = await asyncpg.connect(database.admin_url)
    await admin.execute("UPDATE gateway.api_keys SET expires_at = now() - interval '1 s' WHERE id = $1", made["id"])
    await admin.close()
    answer = await gateway.client(made["key"]).get("/v1/datasets")
    assert answer.status_code == 401
    assert "expired" in answer.json()["detail"]


async def test_a_key_is_not_remembered_beyond_its_expiry(gateway: Any) -> None:
    made = (
        await gateway.admin.post("/v1/keys", json={"name": "x", "scopes": ["datasets:read"], "expires_in_seconds": 1})
    ).json()
    caller = gateway.client(made["key"])
    until = datetime.fromisoformat(made["expires_at"])
    begun, status = datetime.now(UTC), 200
    while status == 200:
        assert begun < until + timedelta(seconds=5)  # by when it was asked: how long an answer takes is not the matter
        begun = datetime.now(UTC)
        status = (await caller.get("/v1/datasets")).status_code
    assert status == 401
    assert datetime.now(UTC) >= until


async def test_keys_are_listed_page_by_page_newest_first(start_gateway: Any) -> None:
    async with start_gateway() as gateway:
        for number in range(5):
            await gateway.admin.post("/v1/keys", json={"name": f"key {number}", "scopes": ["datasets:read"]})
        names, link = [], "/v1/keys?limit=2"
        while link:
            page = (await gateway.admin.get(link)).json()
            names += [item["name"] for item in page["items"]]
            link = page["next"]
        assert names == [f"key {number}" for number in reversed(range(5))] + ["bootstrap"]


async def test_tenants_see_and_revoke_only_their_own(start_gateway: Any) -> None:
    async with start_gateway(tenant="tenant-one") as one, start_gateway(tenant="tenant-two") as two:
        made = (await one.admin.post("/v1/keys", json={"name": "mine", "scopes": ["datasets:read"]})).json()
        assert "mine" not in (await two.admin.get("/v1/keys")).text
        assert (await two.admin.delete(f"/v1/keys/{made['id']}")).status_code == 404
        # the key opens every gateway of the installation, and always as its own tenant
        seen = (await two.client(made["key"]).get("/v1/datasets")).json()
        assert seen["principal"]["tenant"] == "tenant-one"


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ({}, "invalid-request"),
        ({"name": "x", "scopes": []}, "invalid-request"),
        ({"name": "x", "scopes": ["everything"]}, "invalid-scope"),
        ({"name": "x", "scopes": ["admin@travel"]}, "invalid-scope"),
        ({"name": "x", "scopes": ["datasets:read@"]}, "invalid-scope"),
        ({"name": "x", "scopes": ["datasets:read@a b"]}, "invalid-scope"),
        ({"name": "x", "scopes": ["datasets:read"], "expires_at": "2001-01-01T00:00:00Z"}, "invalid-request"),
        ({"name": "x", "scopes": ["datasets:read"], "expires_at": "2101-01-01T00:00:00"}, "invalid-request"),
        ({"name": "x", "scopes": ["datasets:read"], "tenant": "other"}, "invalid-request"),
        ({"name": "a\0b", "scopes": ["datasets:read"]}, "invalid-request"),
        ({"name": "x", "scopes": ["datasets:read@a\0b"]}, "invalid-scope"),
        ({"name": "x", "scopes": ["datasets:read"], "expires_at": "9999-12-31T23:59:59-14:00"}, "invalid-request"),
        ({"name": "x", "scopes": ["datasets:read"], "expires_at": "0001-01-01T00:00:00+14:00"}, "invalid-request"),
    ],
)
async def test_a_bad_key_request_is_422(gateway: Any, body: dict[str, Any], slug: str) -> None:
    answer = await gateway.admin.post("/v1/keys", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, f"/problems/{slug}")


async def test_a_bad_cursor_is_422(gateway: Any) -> None:
    assert (await gateway.admin.get("/v1/keys?cursor=%C3%BF")).status_code == 422
    assert (await gateway.admin.get("/v1/keys?cursor=bm90aGluZw==")).status_code == 422
    for moment in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        cursor = base64.urlsafe_b64encode(f"{moment} {uuid4()}".encode()).decode()
        assert (await gateway.admin.get("/v1/keys", params={"cursor": cursor})).status_code == 422


async def test_a_key_revoked_while_it_is_looked_up_is_not_remembered(
    gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (await gateway.admin.post("/v1/keys", json={"name": "x", "scopes": ["datasets:read"]})).json()
    caller = gateway.client(made["key"])
    keys = gateway.app.resources.keys
    find, found, go_on = keys.find, asyncio.Event(), asyncio.Event()

    async def overtaken(plaintext: str) -> Any:
        key = await find(plaintext)
        if plaintext == made["key"]:
            found.set()
            await go_on.wait()
        return key

    monkeypatch.setattr(keys, "find", overtaken)
    early = asyncio.create_task(caller.get("/v1/datasets"))
    await found.wait()
    assert (await gateway.admin.delete(f"/v1/keys/{made['id']}")).status_code == 204
    monkeypatch.setattr(keys, "find", find)
    assert (await caller.get("/v1/datasets")).status_code == 401  # nor does it join the look-up from before
    go_on.set()
    await early
    assert (await caller.get("/v1/datasets")).status_code == 401


async def test_uses_that_could_not_be_written_are_written_the_next_time(
    gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await gateway.key("datasets:read")
    await gateway.client(key).get("/v1/datasets")
    keys = gateway.app.resources.keys

    async def away(pool: Any, used: Any) -> None:
        raise ConnectionRefusedError

    with monkeypatch.context() as patched:
        patched.setattr(queries, "touch", away)
        with pytest.raises(ConnectionRefusedError):
            await keys.flush_used()
    await keys.flush_used()
    items = (await gateway.admin.get("/v1/keys?limit=200")).json()["items"]
    assert next(item for item in items if item["prefix"] == key[:12])["last_used_at"]


async def test_what_a_path_takes_is_named_over_all_its_routes(gateway: Any) -> None:
    answer = await gateway.admin.put("/v1/keys")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/keys"), ("POST", "/v1/keys"), ("POST", "/v1/users"), ("POST", "/v1/clients")]
)
async def test_identity_is_for_admins(gateway: Any, method: str, path: str) -> None:
    caller = await gateway.caller("datasets:read", "datasets:write", "loads:write", "lineage:write")
    assert (await caller.request(method, path, json={})).status_code == 403
    assert (await caller.delete(f"/v1/keys/{uuid4()}")).status_code == 403


async def test_the_bootstrap_key_is_the_same_after_a_restart(start_gateway: Any) -> None:
    async with start_gateway(tenant="boot") as first:
        assert (await first.admin.get("/v1/keys")).status_code == 200
        await first.app.resources.keys.bootstrap(first.admin_key, "boot")
        keys = (await first.admin.get("/v1/keys")).json()["items"]
        assert [(key["subject"], key["scopes"]) for key in keys] == [("bootstrap", ["admin"])]


async def test_the_reader_s_key_is_made_at_start_and_may_do_nothing_but_read(start_gateway: Any) -> None:
    reader_key = SecretStr("lgk_" + secrets.token_urlsafe(32))
    async with start_gateway(tenant=f"t{secrets.token_hex(4)}", reader_key=reader_key) as started:
        keys = (await started.admin.get("/v1/keys")).json()["items"]
        assert {key["name"]: key["scopes"] for key in keys} == {
            "bootstrap": ["admin"],
            "reader": ["datasets:read", "lineage:read"],
        }
        reader = started.client(reader_key.get_secret_value())
        assert (await reader.get("/v1/datasets")).status_code == 200
        assert (await reader.get("/v1/keys")).status_code == 403
        assert (await reader.post("/v1/loads/a/b", content=b"x")).status_code == 403


def test_one_key_is_not_the_admin_s_and_the_reader_s() -> None:
    one = SecretStr("lgk_" + "k" * 43)
    with pytest.raises(ValidationError, match="the same"):
        BootstrapSettings(key=one, reader_key=one)


def test_a_weak_bootstrap_key_is_refused_by_name_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], signing_keys: Any
) -> None:
    monkeypatch.setenv("GATEWAY_POSTGRES__URL", "postgresql://x")
    monkeypatch.setenv("GATEWAY_TOKEN__PRIVATE_KEY", str(signing_keys[0]))
    for weak in ("hunter2", "lgk_hunter2"):
        monkeypatch.setenv("GATEWAY_BOOTSTRAP__KEY", weak)
        with pytest.raises(SystemExit) as exit:
            load(GatewaySettings)
        said = capsys.readouterr().err
        assert (exit.value.code, "GATEWAY_BOOTSTRAP__KEY" in said, "hunter2" in said) == (78, True, False)
