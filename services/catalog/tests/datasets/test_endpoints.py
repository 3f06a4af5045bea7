"""Datasets over HTTP: what a person and a program see of the catalog's nodes."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

Connect = Callable[..., httpx.AsyncClient]
COLUMNS = [
    {"id": 1, "name": "flight", "type": "long", "required": True},
    {"id": 2, "name": "carrier", "type": "string", "required": False},
]
Make = Callable[..., Awaitable[dict[str, Any]]]


def problem(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert body["status"] == answer.status_code
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, body["type"].removeprefix("/problems/")


@pytest.fixture
def table(client: httpx.AsyncClient, iceberg: str, tenant: str) -> Make:
    """Create a table through Iceberg; returns its dataset."""

    async def make(name: str = "travel.flights") -> dict[str, Any]:
        namespace, _, short = name.rpartition(".")
        await client.post(f"{iceberg}/namespaces", json={"namespace": namespace.split(".")})
        body = {
            "name": short,
            "schema": {"type": "struct", "fields": COLUMNS},
            "properties": {"comment": "All flights"},
        }
        path = f"{iceberg}/namespaces/{namespace.replace('.', '%1F')}/tables"
        assert (await client.post(path, json=body)).status_code == 200
        return await find(client, tenant, name)

    return make


async def find(client: httpx.AsyncClient, tenant: str, name: str) -> dict[str, Any]:
    found = await client.get("/v1/datasets", params={"namespace": f"lakegate://{tenant}", "name": name})
    items: list[dict[str, Any]] = found.json()["items"]
    assert len(items) == 1
    return items[0]


async def test_every_table_is_a_dataset(client: httpx.AsyncClient, table: Make, tenant: str) -> None:
    dataset = await table()
    assert dataset["namespace"] == f"lakegate://{tenant}"
    assert dataset["name"] == "travel.flights"
    assert dataset["kind"] == "table"
    assert dataset["description"] == "All flights"
    assert dataset["version"] == 1
    assert dataset["snapshot_id"] is None
    assert [
        (field["name"], field["type"], field["nullable"], field["field_id"]) for field in dataset["schema"]["fields"]
    ] == [
        ("flight", "long", False, 1),
        ("carrier", "string", True, 2),
    ]
    answer = await client.get(f"/v1/datasets/{dataset['id']}")
    assert answer.json() == dataset
    assert answer.headers["etag"] == '"1"'
    unchanged = await client.get(f"/v1/datasets/{dataset['id']}", headers={"if-none-match": '"1"'})
    assert unchanged.status_code == 304


async def test_a_name_nobody_has_finds_nothing(client: httpx.AsyncClient, tenant: str) -> None:
    for name in ("travel.none", "none", "", "a/b.c"):
        answer = await client.get("/v1/datasets", params={"namespace": f"lakegate://{tenant}", "name": name})
        assert answer.json() == {"items": [], "next": None}


async def test_owner_description_and_tags_are_changed_and_cleared(client: httpx.AsyncClient, table: Make) -> None:
    path = f"/v1/datasets/{(await table())['id']}"
    changed = await client.patch(path, json={"owner": "ann@example.org", "tags": ["gold", "pii", "gold"]})
    assert changed.status_code == 200
    assert changed.headers["etag"] == '"2"'
    assert int(changed.headers["lakegate-consistency-token"]) > 0
    body = changed.json()
    assert (body["owner"], body["tags"], body["description"]) == ("ann@example.org", ["gold", "pii"], "All flights")
    cleared = (await client.patch(path, json={"owner": None, "description": None})).json()
    assert (cleared["owner"], cleared["tags"], cleared["description"]) == (None, ["gold", "pii"], None)
    assert (await client.patch(path, json={"tags": []})).json()["tags"] == []


async def test_a_change_that_changes_nothing_makes_no_version(client: httpx.AsyncClient, table: Make) -> None:
    path = f"/v1/datasets/{(await table())['id']}"
    await client.patch(path, json={"owner": "ann"})
    assert (await client.patch(path, json={"owner": "ann"})).json()["version"] == 2


async def test_with_if_match_only_the_first_of_two_changes_is_made(client: httpx.AsyncClient, table: Make) -> None:
    path = f"/v1/datasets/{(await table())['id']}"
    answers = await asyncio.gather(
        *(client.patch(path, json={"owner": f"o{n}"}, headers={"if-match": '"1"'}) for n in range(6))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 5
    lost = next(answer for answer in answers if answer.status_code == 412)
    assert problem(lost) == (412, "dataset-modified")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "x"}, "/body/name"),
        ({"tags": "gold"}, "/body/tags"),
        ({"tags": [""]}, "/body/tags/0"),
        ({"owner": 5}, "/body/owner"),
        ({"description": "x" * 20_001}, "/body/description"),
    ],
)
async def test_a_bad_change_is_refused_with_its_place(
    client: httpx.AsyncClient, table: Make, body: dict[str, Any], pointer: str
) -> None:
    answer = await client.patch(f"/v1/datasets/{(await table())['id']}", json=body)
    assert problem(answer) == (422, "invalid-request")
    assert answer.json()["errors"][0]["pointer"].endswith(pointer.removeprefix("/body"))


async def test_what_was_said_of_a_table_survives_commits_and_renames(
    client: httpx.AsyncClient, table: Make, iceberg: str, tenant: str
) -> None:
    dataset = await table()
    await client.patch(f"/v1/datasets/{dataset['id']}", json={"owner": "ann", "tags": ["gold"]})
    path = f"{iceberg}/namespaces/travel/tables/flights"
    body = {"requirements": [], "updates": [{"action": "set-properties", "updates": {"k": "v"}}]}
    assert (await client.post(path, json=body)).status_code == 200
    move = {
        "source": {"namespace": ["travel"], "name": "flights"},
        "destination": {"namespace": ["travel"], "name": "trips"},
    }
    assert (await client.post(f"{iceberg}/tables/rename", json=move)).status_code == 204
    after = await find(client, tenant, "travel.trips")
    assert after["id"] == dataset["id"]
    assert (after["owner"], after["tags"], after["version"]) == ("ann", ["gold"], 4)
    versions = (await client.get(f"/v1/datasets/{dataset['id']}/versions")).json()["items"]
    assert [(each["version"], each["kind"], each["changed_by"]) for each in versions] == [
        (4, "renamed", "ann"),
        (3, "committed", "ann"),
        (2, "described", "ann"),
        (1, "created", "ann"),
    ]


def touch(location: str) -> None:
    Path(location.removeprefix("file://")).touch()


async def test_versions_carry_schema_and_snapshot_and_come_in_pages(
    client: httpx.AsyncClient, table: Make, iceberg: str
) -> None:
    dataset = await table()
    path = f"{iceberg}/namespaces/travel/tables/flights"
    location = (await client.get(path)).json()["metadata"]["location"]
    added = {
        "snapshot-id": 5,
        "sequence-number": 1,
        "timestamp-ms": 1_767_323_045_678,
        "manifest-list": f"{location}/metadata/5.avro",
        "summary": {"operation": "append", "total-records": "336776", "total-files-size": "1234"},
        "schema-id": 0,
    }
    touch(f"{location}/metadata/5.avro")
    updates = [
        {"action": "add-snapshot", "snapshot": added},
        {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 5},
    ]
    assert (await client.post(path, json={"requirements": [], "updates": updates})).status_code == 200
    described = (await client.get(f"/v1/datasets/{dataset['id']}")).json()
    assert (described["snapshot_id"], described["rows"], described["size_bytes"]) == (5, 336_776, 1234)
    first = (await client.get(f"/v1/datasets/{dataset['id']}/versions", params={"limit": 1})).json()
    assert first["items"][0]["snapshot"]["operation"] == "append"
    assert first["items"][0]["snapshot"]["at"] == "2026-01-02T03:04:05.678000Z"
    second = await client.get(f"/v1/datasets/{dataset['id']}/versions", params={"limit": 1, "cursor": first["next"]})
    assert [each["version"] for each in second.json()["items"]] == [1]
    assert second.json()["next"] is None


async def test_the_diff_of_two_versions_names_added_removed_and_changed_columns(
    client: httpx.AsyncClient, table: Make, iceberg: str
) -> None:
    dataset = await table()
    fields = [
        {"id": 1, "name": "flight_number", "type": "long", "required": False},
        {"id": 3, "name": "delay", "type": "double", "required": False},
    ]
    updates = [
        {"action": "add-schema", "schema": {"type": "struct", "schema-id": 1, "fields": fields}, "last-column-id": 3},
        {"action": "set-current-schema", "schema-id": -1},
    ]
    path = f"{iceberg}/namespaces/travel/tables/flights"
    assert (await client.post(path, json={"requirements": [], "updates": updates})).status_code == 200
    diff = (await client.get(f"/v1/datasets/{dataset['id']}/diff", params={"from": 1, "to": 2})).json()
    assert [column["name"] for column in diff["added"]] == ["delay"]
    assert [column["name"] for column in diff["removed"]] == ["carrier"]
    assert [(c["before"]["name"], c["after"]["name"], c["what"]) for c in diff["changed"]] == [
        ("flight", "flight_number", ["name", "nullable"])
    ]
    missing = await client.get(f"/v1/datasets/{dataset['id']}/diff", params={"from": 1, "to": 9})
    assert problem(missing) == (404, "version-not-found")


async def test_something_that_lives_elsewhere_is_registered_once(client: httpx.AsyncClient) -> None:
    body = {
        "namespace": "postgres://erp:5432",
        "name": "sales.public.orders%2F1",
        "kind": "relation",
        "tags": ["erp"],
        "schema": {"fields": [{"name": "id", "type": "bigint"}]},
    }
    made = await client.post("/v1/datasets", json=body)
    assert made.status_code == 201
    assert (await client.get(made.headers["location"])).json() == made.json()
    found = await client.get("/v1/datasets", params={"namespace": body["namespace"], "name": body["name"]})
    assert [each["id"] for each in found.json()["items"]] == [made.json()["id"]]
    assert problem(await client.post("/v1/datasets", json=body)) == (409, "dataset-exists")


@pytest.mark.parametrize(
    "body",
    [
        {"namespace": "lakegate://default", "name": "a.b"},
        {"namespace": "x", "name": ""},
        {"namespace": "x", "name": "a\x1fb"},
        {"namespace": "x", "name": "é" * 1000},
        {"namespace": "x", "name": "y", "kind": "table"},
        {"namespace": "x"},
    ],
)
async def test_a_registration_that_makes_no_sense_is_refused(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert problem(await client.post("/v1/datasets", json=body)) == (422, "invalid-request")


async def test_lists_come_in_pages_without_gaps(client: httpx.AsyncClient, table: Make, tenant: str) -> None:
    for name in ("a.x", "a.y", "b.z"):
        await table(name)
    await client.post("/v1/datasets", json={"namespace": "kafka://k", "name": "topic"})
    names, cursor = [], None
    while True:
        page = (await client.get("/v1/datasets", params={"limit": 3} | ({"cursor": cursor} if cursor else {}))).json()
        names += [each["name"] for each in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert names == ["topic", "a.x", "a.y", "b.z"]
    ours = await client.get("/v1/datasets", params={"namespace": f"lakegate://{tenant}"})
    assert [each["name"] for each in ours.json()["items"]] == ["a.x", "a.y", "b.z"]


@pytest.mark.parametrize(("pattern", "first"), [("b.*", []), ("b*", []), ("?", ["a.x"]), ("[b]", []), ("[!a]", [])])
async def test_pages_hold_what_the_caller_may_see_and_their_cursors_name_nothing_else(
    client: httpx.AsyncClient, connect: Connect, table: Make, pattern: str, first: list[str]
) -> None:
    for name in ("a.x", "b.x", "b.y", "b.z", "secret.salaries", "secret.wages"):
        await table(name)
    await client.post("/v1/datasets", json={"namespace": "kafka://k", "name": "topic"})
    pages, cursors = [], [""]
    while len(cursors) > len(pages):
        params = {"limit": 2} | ({"cursor": cursors[-1]} if cursors[-1] else {})
        page = (await connect(f"datasets:read@{pattern}").get("/v1/datasets", params=params)).json()
        pages.append([each["name"] for each in page["items"]])
        cursors += [page["next"]] if page["next"] else []
    seen = [*first, "b.x", "b.y", "b.z"]
    assert [name for page in pages for name in page] == seen
    assert all(pages[:-1])
    assert {base64.urlsafe_b64decode(cursor + "==").decode().rpartition("\x1f")[2] for cursor in cursors[1:]} <= set(
        seen
    )


async def test_a_dataset_that_is_not_there_is_not_found(client: httpx.AsyncClient, table: Make, iceberg: str) -> None:
    dataset = await table()
    await client.delete(f"{iceberg}/namespaces/travel/tables/flights")
    for dataset_id in (uuid4(), dataset["id"]):
        path = f"/v1/datasets/{dataset_id}"
        answers = [
            await client.get(path),
            await client.patch(path, json={"owner": "x"}),
            await client.get(f"{path}/versions"),
            await client.get(f"{path}/diff", params={"from": 1, "to": 1}),
        ]
        assert {problem(answer) for answer in answers} == {(404, "dataset-not-found")}
    assert problem(await client.get("/v1/datasets/no-uuid")) == (422, "invalid-request")


async def test_parameters_and_cursors_that_are_not_ours_are_refused(client: httpx.AsyncClient, table: Make) -> None:
    path = f"/v1/datasets/{(await table())['id']}"
    refused = {
        "/v1/datasets?limt=3": "invalid-request",
        "/v1/datasets?limit=0": "invalid-request",
        "/v1/datasets?name=travel.flights": "invalid-request",
        "/v1/datasets?cursor=%25%25": "invalid-cursor",
        f"{path}/versions?cursor=YWJj": "invalid-cursor",
        f"{path}/versions?cursor=wrI": "invalid-cursor",  # a digit, of those that are no number
        f"{path}/diff?from=1": "invalid-request",
        f"{path}/diff?from=0&to=1": "invalid-request",
    }
    for asked, slug in refused.items():
        assert problem(await client.get(asked)) == (422, slug), asked


async def test_datasets_of_another_namespace_or_tenant_are_kept_from_the_caller(
    client: httpx.AsyncClient, connect: Connect, table: Make
) -> None:
    mine, secret = await table("travel.flights"), await table("secret.salaries")
    reader = connect("datasets:read@travel.*")
    assert (await reader.get(f"/v1/datasets/{mine['id']}")).status_code == 200
    assert problem(await reader.get(f"/v1/datasets/{secret['id']}")) == (403, "forbidden")
    assert problem(await reader.patch(f"/v1/datasets/{mine['id']}", json={"owner": "x"})) == (403, "forbidden")
    assert [each["name"] for each in (await reader.get("/v1/datasets")).json()["items"]] == ["travel.flights"]
    stranger = connect(of="t-stranger")
    assert problem(await stranger.get(f"/v1/datasets/{mine['id']}")) == (404, "dataset-not-found")
    assert problem(await connect("lineage:read").get("/v1/datasets")) == (403, "forbidden")
    body = {"namespace": "kafka://k", "name": "t"}
    assert problem(await reader.post("/v1/datasets", json=body)) == (403, "forbidden")
