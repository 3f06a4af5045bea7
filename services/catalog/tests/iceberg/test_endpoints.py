"""Iceberg REST as the specification says it, and what each endpoint answers when it can't do what was asked."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from lakegate_catalog.iceberg.commits import Commits
from lakegate_catalog.iceberg.tables import Tables
from lakegate_chassis.testing import eventually
from lakegate_chassis.tokens import TokenSigner
from lakegate_contracts.identity import Principal

from .conftest import SCHEMA, Create, add_column, error, snapshot

Connect = Callable[..., httpx.AsyncClient]


def is_file(location: str) -> bool:
    return Path(location.removeprefix("file://")).is_file()


async def test_config_gives_the_tenant_as_prefix_and_only_endpoints_that_exist(
    client: httpx.AsyncClient, tenant: str
) -> None:
    answer = (await client.get("/iceberg/v1/config", params={"warehouse": "lakehouse"})).json()
    assert answer["overrides"] == {"prefix": tenant}
    for endpoint in answer["endpoints"]:
        method, path = endpoint.split(" ")
        path = path.format(prefix=tenant, namespace="none", table="none")
        answered = await client.request(method, f"/iceberg{path}")
        # nothing of that name is there, or the body is missing: but the route is
        assert answered.status_code in (200, 400, 404), endpoint
        if answered.status_code == 404 and method != "HEAD":
            assert answered.json()["error"]["type"].startswith("NoSuch"), endpoint


async def test_what_is_not_served_is_said_in_icebergs_words_too(client: httpx.AsyncClient, iceberg: str) -> None:
    for method, path in (
        ("GET", f"{iceberg}/namespaces/a/views"),
        ("PUT", f"{iceberg}/namespaces"),
        ("POST", f"{iceberg}/transactions/commit"),
    ):
        assert error(await client.request(method, path)) == (404, "UnsupportedOperationException")


async def test_a_token_that_the_chassis_refuses_is_told_in_icebergs_words(base_url: str) -> None:
    async with httpx.AsyncClient(base_url=base_url, headers={"authorization": "Bearer x.y.z"}, timeout=30) as stranger:
        answer = await stranger.get("/iceberg/v1/config")
        assert error(answer) == (401, "NotAuthorizedException")
        assert answer.headers["www-authenticate"] == "Bearer"
        other = await stranger.get("/v1/datasets")
        assert (other.status_code, other.json()["type"]) == (401, "/problems/unauthorized")


@pytest.mark.parametrize(
    ("method", "type_"), [("GET", "InternalServerException"), ("POST", "CommitStateUnknownException")]
)
async def test_what_nobody_foresaw_is_told_in_icebergs_words(
    client: httpx.AsyncClient, iceberg: str, monkeypatch: pytest.MonkeyPatch, method: str, type_: str
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(Tables, "load", broken)
    monkeypatch.setattr(Commits, "commit", broken)
    body = {"requirements": [], "updates": []} if method == "POST" else None
    answer = await client.request(method, f"{iceberg}/namespaces/a/tables/b", json=body)
    assert error(answer) == (500, type_)
    assert "secret" not in answer.text


async def test_an_unknown_warehouse_is_refused_by_name(client: httpx.AsyncClient) -> None:
    answer = await client.get("/iceberg/v1/config", params={"warehouse": "other"})
    assert error(answer) == (400, "BadRequestException")
    assert "lakehouse" in answer.text


async def test_another_tenants_prefix_is_forbidden(connect: Connect, iceberg: str) -> None:
    stranger = connect(of="t-stranger")
    assert error(await stranger.get(f"{iceberg}/namespaces")) == (403, "ForbiddenException")


async def test_without_a_token_nothing_is_answered(base_url: str, iceberg: str) -> None:
    async with httpx.AsyncClient(base_url=base_url, timeout=30) as anonymous:
        assert error(await anonymous.get(f"{iceberg}/namespaces")) == (401, "NotAuthorizedException")


async def test_a_clock_5_minutes_off_is_named_in_icebergs_own_words(
    base_url: str, iceberg: str, signer: TokenSigner
) -> None:
    now = int(time.time())
    token = signer.mint(Principal(tenant="t", subject="s", scopes=()), "catalog", iat=now + 300, exp=now + 360)
    async with httpx.AsyncClient(base_url=base_url, headers={"authorization": f"Bearer {token}"}, timeout=30) as early:
        answer = await early.get(f"{iceberg}/namespaces")
    assert error(answer) == (503, "ServiceUnavailableException")
    assert "compare the clocks" in answer.text


async def test_a_created_table_is_loaded_with_etag_version_and_metadata_file(
    client: httpx.AsyncClient, travel: str, create: Create, warehouse: Path, tenant: str
) -> None:
    created = await create(properties={"owner": "ann"})
    location = created["metadata"]["location"]
    assert location.startswith(f"file://{warehouse}/{tenant}/travel/flights-")
    assert is_file(created["metadata-location"])
    loaded = await client.get(f"{travel}/tables/flights")
    assert loaded.json()["metadata"] == created["metadata"]
    assert loaded.headers["lakegate-catalog-version"] == "1"
    again = await client.get(f"{travel}/tables/flights", headers={"if-none-match": loaded.headers["etag"]})
    assert again.status_code == 304


async def test_tables_with_bad_names_schemas_or_places_are_refused(
    client: httpx.AsyncClient, travel: str, warehouse: Path, tenant: str
) -> None:
    bodies: list[dict[str, Any]] = [
        {"name": "a.b", "schema": SCHEMA},
        {"name": "", "schema": SCHEMA},
        {"name": "t"},
        {"name": "t", "schema": {"type": "struct", "fields": [{"id": 1, "name": "x", "type": "nonsense"}]}},
        {"name": "t", "schema": SCHEMA, "location": "file:///etc"},
        {"name": "t", "schema": SCHEMA, "location": f"file://{warehouse}/another-tenant/t"},
        {"name": "t", "schema": SCHEMA, "location": f"file://{warehouse}/{tenant}/../another-tenant/t"},
        {"name": "t", "schema": SCHEMA, "location": f"file://{warehouse}/{tenant}/%2e%2e/another-tenant/t"},
        {"name": "t", "schema": SCHEMA, "location": f"file://{warehouse}/{tenant}/_quarantine/t"},
        {"name": "t", "schema": SCHEMA, "properties": {"format-version": "9"}},
    ]
    for body in bodies:
        answer = await client.post(f"{travel}/tables", json=body)
        assert error(answer) == (400, "BadRequestException"), body
    assert (await client.get(f"{travel}/tables")).json()["identifiers"] == []


async def test_a_commit_answers_the_version_and_a_token(client: httpx.AsyncClient, travel: str, create: Create) -> None:
    created = await create()
    at = created["metadata"]["location"]
    answer = await client.post(f"{travel}/tables/flights", json=snapshot(at, 11, 1))
    assert answer.status_code == 200, answer.text
    assert answer.headers["lakegate-catalog-version"] == "2"
    assert int(answer.headers["lakegate-consistency-token"]) > 0
    body = answer.json()
    assert body["metadata"]["current-snapshot-id"] == 11
    assert body["metadata"]["metadata-log"][-1]["metadata-file"] == created["metadata-location"]
    assert (await client.get(f"{travel}/tables/flights")).json()["metadata"] == body["metadata"]


async def test_a_commit_whose_requirement_fails_changes_nothing_and_leaves_no_file(
    client: httpx.AsyncClient, travel: str, create: Create
) -> None:
    created = await create()
    at = created["metadata"]["location"]
    await client.post(f"{travel}/tables/flights", json=snapshot(at, 11, 1))
    folder = Path(created["metadata-location"].removeprefix("file://")).parent
    files = sorted(folder.glob("*.json"))
    for late in (
        snapshot(at, 12, 2),  # main has a snapshot by now
        {
            "requirements": [{"type": "assert-table-uuid", "uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1"}],
            "updates": [],
        },
        {"requirements": [{"type": "assert-create"}], "updates": []},
        {"requirements": [], "updates": snapshot(at, 13, 1, 11)["updates"]},  # numbered behind the table
    ):
        answer = await client.post(f"{travel}/tables/flights", json=late)
        assert error(answer) == (409, "CommitFailedException")
    assert sorted(folder.glob("*.json")) == files
    assert (await client.get(f"{travel}/tables/flights")).json()["metadata"]["current-snapshot-id"] == 11


@pytest.mark.parametrize(
    "updates",
    [
        [{"action": "no-such-action"}],
        [{"action": "set-current-schema", "schema-id": 7}],
        [{"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 99}],
        [{"action": "set-location", "location": "file:///etc"}],
        [{"action": "upgrade-format-version", "format-version": 1}],
    ],
)
async def test_updates_that_do_not_fit_are_refused(
    client: httpx.AsyncClient, travel: str, create: Create, updates: list[dict[str, Any]]
) -> None:
    await create()
    answer = await client.post(f"{travel}/tables/flights", json={"requirements": [], "updates": updates})
    assert error(answer) == (400, "BadRequestException")


async def test_of_commits_on_one_base_exactly_one_wins_and_the_losers_files_are_deleted(
    client: httpx.AsyncClient, travel: str, create: Create
) -> None:
    created = await create()
    at = created["metadata"]["location"]
    parent = None
    for sequence in range(1, 4):
        rivals = [snapshot(at, sequence * 100 + number, sequence, parent) for number in range(8)]
        answers = await asyncio.gather(*(client.post(f"{travel}/tables/flights", json=rival) for rival in rivals))
        won = [answer for answer in answers if answer.status_code == 200]
        lost = [answer for answer in answers if answer.status_code != 200]
        assert len(won) == 1
        assert {error(answer) for answer in lost} == {(409, "CommitFailedException")}
        parent = won[0].json()["metadata"]["current-snapshot-id"]
    folder = Path(created["metadata-location"].removeprefix("file://")).parent
    assert len(list(folder.glob("*.json"))) == 4
    versions = await client.get(f"{travel}/tables/flights")
    assert versions.headers["lakegate-catalog-version"] == "4"


async def test_commits_that_do_not_exclude_each_other_all_succeed(
    client: httpx.AsyncClient, travel: str, create: Create
) -> None:
    await create()
    bodies = [
        {"requirements": [], "updates": [{"action": "set-properties", "updates": {f"k{number}": "v"}}]}
        for number in range(6)
    ]
    answers = await asyncio.gather(*(client.post(f"{travel}/tables/flights", json=body) for body in bodies))
    assert {answer.status_code for answer in answers} == {200}
    properties = (await client.get(f"{travel}/tables/flights")).json()["metadata"]["properties"]
    assert {f"k{number}" for number in range(6)} <= properties.keys()


async def test_a_commit_for_another_table_than_the_path_names_is_refused(
    client: httpx.AsyncClient, travel: str, create: Create
) -> None:
    at = (await create())["metadata"]["location"]
    body = {"identifier": {"namespace": ["travel"], "name": "other"}, **snapshot(at, 11, 1)}
    answer = await client.post(f"{travel}/tables/flights", json=body)
    assert error(answer) == (400, "BadRequestException")


async def test_a_schema_change_is_committed(client: httpx.AsyncClient, travel: str, create: Create) -> None:
    await create()
    answer = await client.post(f"{travel}/tables/flights", json=add_column("delay"))
    assert answer.json()["metadata"]["current-schema-id"] == 1
    assert error(await client.post(f"{travel}/tables/flights", json=add_column("gate"))) == (
        409,
        "CommitFailedException",
    )


async def test_a_rename_over_another_table_is_refused(client: httpx.AsyncClient, iceberg: str, create: Create) -> None:
    await create("a")
    await create("b")
    body = {
        "source": {"namespace": ["travel"], "name": "a"},
        "destination": {"namespace": ["travel"], "name": "b"},
    }
    assert error(await client.post(f"{iceberg}/tables/rename", json=body)) == (409, "AlreadyExistsException")
    body["destination"]["namespace"] = ["nowhere"]
    assert error(await client.post(f"{iceberg}/tables/rename", json=body)) == (404, "NoSuchNamespaceException")


async def test_a_rename_needs_the_right_in_both_namespaces(
    client: httpx.AsyncClient, connect: Connect, iceberg: str, create: Create
) -> None:
    await create("a")
    await client.post(f"{iceberg}/namespaces", json={"namespace": ["secret"]})
    mover = connect("datasets:write@travel.*")
    body = {
        "source": {"namespace": ["travel"], "name": "a"},
        "destination": {"namespace": ["secret"], "name": "a"},
    }
    assert error(await mover.post(f"{iceberg}/tables/rename", json=body)) == (403, "ForbiddenException")
    body["destination"] = {"namespace": ["travel"], "name": "z"}
    assert (await mover.post(f"{iceberg}/tables/rename", json=body)).status_code == 204


async def test_scopes_decide_who_may_do_what(
    client: httpx.AsyncClient, connect: Connect, iceberg: str, travel: str, create: Create
) -> None:
    at = (await create())["metadata"]["location"]
    await client.post(f"{iceberg}/namespaces", json={"namespace": ["secret"]})
    reader, producer = connect("datasets:read@travel.*"), connect("loads:write@travel.*")
    assert (await reader.get(f"{travel}/tables/flights")).status_code == 200
    assert (await reader.get(f"{iceberg}/namespaces")).json()["namespaces"] == [["travel"]]
    refused = [
        await reader.post(f"{travel}/tables", json={"name": "t", "schema": SCHEMA}),
        await reader.post(f"{travel}/tables/flights", json=snapshot(at, 11, 1)),
        await reader.get(f"{iceberg}/namespaces/secret"),
        await reader.post(f"{iceberg}/namespaces", json={"namespace": ["mine"]}),
        await producer.delete(f"{travel}/tables/flights"),
        await producer.post(f"{iceberg}/namespaces", json={"namespace": ["secret", "mine"]}),
        await producer.post(f"{travel}/properties", json={"updates": {"a": "b"}}),
        await connect("lineage:read").get(f"{travel}/tables/flights"),
    ]
    assert {error(answer) for answer in refused} == {(403, "ForbiddenException")}
    assert (await producer.post(f"{travel}/tables/flights", json=snapshot(at, 11, 1))).status_code == 200
    assert (await producer.post(f"{travel}/tables", json={"name": "t", "schema": SCHEMA})).status_code == 200


async def test_a_purged_tables_files_are_deleted(client: httpx.AsyncClient, travel: str, create: Create) -> None:
    created = await create()
    kept = await create("kept")
    folder = Path(created["metadata"]["location"].removeprefix("file://"))
    await client.delete(f"{travel}/tables/flights", params={"purgeRequested": "true"})
    await client.delete(f"{travel}/tables/kept")
    await eventually(lambda: not list(folder.glob("metadata/*.json")))
    assert is_file(kept["metadata-location"])


async def test_a_table_is_registered_from_its_tenants_folder_only(
    client: httpx.AsyncClient, travel: str, create: Create, warehouse: Path
) -> None:
    location = (await create())["metadata-location"]
    await client.delete(f"{travel}/tables/flights")
    for bad in ("file:///etc/passwd", f"file://{warehouse}/other/x.metadata.json", location + ".none"):
        answer = await client.post(f"{travel}/register", json={"name": "again", "metadata-location": bad})
        assert error(answer) == (400, "BadRequestException")
    answer = await client.post(f"{travel}/register", json={"name": "again", "metadata-location": location})
    assert answer.json()["metadata-location"] == location


async def test_a_table_is_the_dataset_with_its_uuid_whatever_it_is_called(
    client: httpx.AsyncClient, iceberg: str, travel: str, create: Create
) -> None:
    created = await create()
    table_uuid = created["metadata"]["table-uuid"]
    ways = [{"namespace": ["travel"], "name": name} for name in ("flights", "trips")]
    moved = await client.post(f"{iceberg}/tables/rename", json={"source": ways[0], "destination": ways[1]})
    assert moved.status_code == 204
    assert (await client.get(f"/v1/datasets/{table_uuid}")).json()["name"] == "travel.trips"
    await client.delete(f"{travel}/tables/trips")
    assert (await client.get(f"/v1/datasets/{table_uuid}")).status_code == 404
    register = {"name": "again", "metadata-location": created["metadata-location"]}
    assert (await client.post(f"{travel}/register", json=register)).status_code == 200


FOREIGN_PROPERTIES = (
    "py-io-impl", "PY-IO-IMPL", "py-catalog-impl", "io-impl", "write.py-location-provider.impl", "s3.endpoint",
    "gcs.token", "adls.account-key", "hdfs.host", "client.region", "header.x-api", "rest.sigv4-enabled",
    "oauth2-server-uri", "warehouse", "uri", "token", "credential",
)  # fmt: skip


@pytest.mark.parametrize("key", FOREIGN_PROPERTIES)
async def test_properties_that_name_code_or_credentials_are_refused_everywhere(
    client: httpx.AsyncClient, iceberg: str, travel: str, create: Create, warehouse: Path, key: str
) -> None:
    created = await create()
    bad = {key: "x"}
    table = {"name": "other", "schema": SCHEMA, "properties": bad}
    update = {"action": "set-properties", "updates": bad}
    document = Path(created["metadata-location"].removeprefix("file://"))
    copy = document.with_name("copy.metadata.json")
    metadata = created["metadata"]
    copy.write_text(json.dumps({**metadata, "properties": {**metadata["properties"], **bad}}))
    for answer in (
        await client.post(f"{travel}/tables", json=table),
        await client.post(f"{travel}/tables", json={**table, "stage-create": True}),
        await client.post(f"{travel}/tables/flights", json={"requirements": [], "updates": [update]}),
        await client.post(
            f"{travel}/tables/new", json={"requirements": [{"type": "assert-create"}], "updates": [update]}
        ),
        await client.post(f"{travel}/register", json={"name": "again", "metadata-location": f"file://{copy}"}),
        await client.post(f"{iceberg}/namespaces", json={"namespace": ["other"], "properties": bad}),
        await client.post(f"{travel}/properties", json={"updates": bad}),
    ):
        assert error(answer) == (400, "BadRequestException")
        assert key in answer.json()["error"]["message"]


async def test_page_tokens_that_are_not_ours_are_refused(client: httpx.AsyncClient, travel: str) -> None:
    for parameters in ({"pageToken": "%%%"}, {"pageSize": "0"}, {"pageSize": "x"}):
        answer = await client.get(f"{travel}/tables", params=parameters)
        assert error(answer) == (400, "BadRequestException"), parameters


async def test_a_page_token_names_no_namespace_that_is_not_shown(
    client: httpx.AsyncClient, iceberg: str, connect: Connect
) -> None:
    for name in ("a", "b1", "c", "d", "b2", "e"):
        assert (await client.post(f"{iceberg}/namespaces", json={"namespace": [name]})).status_code == 200
    reader = connect("datasets:read@b1", "datasets:read@b2")
    for size in (1, 2, 3):
        seen: list[list[str]] = []
        token: str | None = ""
        while token is not None:
            page = (await reader.get(f"{iceberg}/namespaces", params={"pageSize": size, "pageToken": token})).json()
            seen += page["namespaces"]
            token = page["next-page-token"]
            assert token is None or b64decode(token).decode() == seen[-1][0]
        assert seen == [["b1"], ["b2"]]


async def test_metrics_reports_are_taken(client: httpx.AsyncClient, travel: str, create: Create) -> None:
    await create()
    path = f"{travel}/tables/flights/metrics"
    assert (await client.post(path, json={"report-type": "scan-report"})).status_code == 204
    for content in (b"not json", b"null", b"[]", b'"scan-report"'):
        assert error(await client.post(path, content=content)) == (400, "BadRequestException")


@pytest.mark.parametrize(
    ("properties", "left"),
    [
        ({}, 3),  # the current one and two before
        ({"write.metadata.delete-after-commit.enabled": "false"}, 6),
    ],
)
async def test_metadata_files_go_when_they_leave_the_table_s_log(
    client: httpx.AsyncClient, travel: str, create: Create, properties: dict[str, str], left: int
) -> None:
    table = await create(properties={"write.metadata.previous-versions-max": "2", **properties})
    at = table["metadata"]["location"]
    for number in range(1, 6):
        body = snapshot(at, number, number, number - 1 or None)
        answer = await client.post(f"{travel}/tables/flights", json=body)
        assert answer.status_code == 200, answer.text
    loaded = (await client.get(f"{travel}/tables/flights")).json()
    named = [entry["metadata-file"] for entry in loaded["metadata"]["metadata-log"]] + [loaded["metadata-location"]]
    assert all(is_file(location) for location in named)
    folder = Path(at.removeprefix("file://")) / "metadata"
    await eventually(lambda: len(list(folder.glob("*.metadata.json"))) == left)
