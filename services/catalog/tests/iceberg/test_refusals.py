"""What a client can send and must not: each gets a 400 that says what is wrong, and nothing is changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import SCHEMA, Create, error, snapshot

BAD = (400, "BadRequestException")
SPEC: dict[str, Any] = {"spec-id": 0, "fields": []}


@pytest.mark.parametrize(
    "updates",
    [
        [],
        [{"action": "set-properties", "updates": {"a": "b"}}],
        [{"action": "add-schema", "schema": SCHEMA}],
        [{"action": "add-schema", "schema": SCHEMA}, {"action": "set-current-schema", "schema-id": 0}],
        [{"action": "add-spec", "spec": SPEC}, {"action": "set-default-spec", "spec-id": 0}],
        [{"action": "set-current-schema", "schema-id": -1}],
        [{"action": "set-default-spec", "spec-id": -1}],
    ],
)
async def test_a_creation_that_leaves_out_a_part_of_the_table_is_answered(
    client: httpx.AsyncClient, travel: str, updates: list[dict[str, Any]]
) -> None:
    body = {"requirements": [{"type": "assert-create"}], "updates": updates}
    assert error(await client.post(f"{travel}/tables/new", json=body)) == BAD
    assert (await client.head(f"{travel}/tables/new")).status_code == 404


async def test_a_property_that_is_not_set_can_be_removed(
    client: httpx.AsyncClient, travel: str, create: Create
) -> None:
    """As the specification has it, and Spark's UNSET TBLPROPERTIES IF EXISTS needs it."""
    await create(properties={"kept": "1", "gone": "1"})
    updates = [
        {"action": "set-properties", "updates": {"new": "1"}},
        {"action": "remove-properties", "removals": ["gone", "gone", "never", "new"]},
        {"action": "remove-properties", "removals": ["gone"]},
    ]
    answer = await client.post(f"{travel}/tables/flights", json={"requirements": [], "updates": updates})
    assert answer.status_code == 200, answer.text
    assert answer.json()["metadata"]["properties"] == {"kept": "1"}


def columns(*kinds: Any) -> dict[str, Any]:
    fields = [{"id": id_, "name": f"c{id_}", "type": kind, "required": False} for id_, kind in enumerate(kinds, 1)]
    return {"type": "struct", "schema-id": 0, "fields": fields}


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        {"schema": SCHEMA, "properties": {"format-version": "3"}},
        {"schema": SCHEMA, "properties": {"format-version": "two"}},
        {"schema": columns("decimal(99,1)")},
        {"schema": columns("decimal(9)")},
        {"schema": columns("fixed[x]")},
        {"schema": columns({"type": "list"})},
        {"schema": columns("timestamp_ns")},
        {"schema": SCHEMA, "partition-spec": {"fields": [{"source-id": 1, "transform": "truncate[-1]", "name": "x"}]}},
    ],
)
async def test_a_table_that_can_not_be_made_is_refused(
    client: httpx.AsyncClient, travel: str, body: dict[str, Any], staged: bool
) -> None:
    answer = await client.post(f"{travel}/tables", json={"name": "t", "stage-create": staged, **body})
    assert error(answer) == BAD, answer.text
    assert (await client.get(f"{travel}/tables")).json()["identifiers"] == []


@pytest.mark.parametrize("at", [9 * 10**17, -9 * 10**17])
async def test_a_snapshot_of_no_calendar_is_refused(
    client: httpx.AsyncClient, travel: str, create: Create, at: int
) -> None:
    created = await create()
    body = snapshot(created["metadata"]["location"], 11, 1)
    body["updates"][0]["snapshot"]["timestamp-ms"] = at
    assert error(await client.post(f"{travel}/tables/flights", json=body)) == BAD


async def test_a_statistics_update_without_statistics_is_refused(
    client: httpx.AsyncClient, travel: str, create: Create
) -> None:
    await create()
    body = {"requirements": [], "updates": [{"action": "set-statistics", "snapshot-id": 1}]}
    assert error(await client.post(f"{travel}/tables/flights", json=body)) == BAD


@pytest.mark.parametrize(
    "change",
    [
        {"format-version": 9},
        {"current-schema-id": 7},
        {"format-version": 1, "schema": SCHEMA, "current-schema-id": 7},
        {"schemas": None},
        {"snapshots": [{"snapshot-id": 1, "timestamp-ms": 9 * 10**17, "manifest-list": "x", "summary": None}]},
    ],
)
async def test_a_file_that_describes_no_table_is_not_registered(
    client: httpx.AsyncClient, travel: str, create: Create, change: dict[str, Any]
) -> None:
    created = await create()
    copy = Path(created["metadata-location"].removeprefix("file://")).with_name("copy.metadata.json")
    copy.write_text(json.dumps({**created["metadata"], **change}))
    body = {"name": "again", "metadata-location": f"file://{copy}"}
    assert error(await client.post(f"{travel}/register", json=body)) == BAD


async def test_a_number_in_a_query_that_is_none_is_refused(
    client: httpx.AsyncClient, iceberg: str, travel: str
) -> None:
    for digits in ("²", "9" * 5_000, "٣"):
        for path in (f"{travel}/tables", f"{iceberg}/namespaces"):
            assert error(await client.get(path, params={"pageSize": digits})) == BAD
        for parameter in ("cursor", "consistency_token"):
            assert (await client.get("/v1/search", params={"q": "x", parameter: digits})).status_code == 422


@pytest.mark.parametrize("text", ["²", "9" * 5_000])
async def test_a_count_that_is_none_in_a_summary_is_no_count(
    client: httpx.AsyncClient, travel: str, create: Create, text: str
) -> None:
    created = await create()
    body = snapshot(created["metadata"]["location"], 11, 1, **{"total-records": text})
    assert (await client.post(f"{travel}/tables/flights", json=body)).status_code == 200
    described = await client.get(f"/v1/datasets/{created['metadata']['table-uuid']}")
    assert described.json()["rows"] is None
