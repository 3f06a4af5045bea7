"""Commits and creations that would break a table are refused; what the specification leaves open is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import SCHEMA, Create, add_column, error, snapshot

BAD = (400, "BadRequestException")
LARGE = 2**70


@pytest.fixture
async def at(client: httpx.AsyncClient, travel: str, create: Create) -> str:
    """The location of travel.flights, which has snapshot 11."""
    location: str = (await create())["metadata"]["location"]
    assert (await client.post(f"{travel}/tables/flights", json=snapshot(location, 11, 1))).status_code == 200
    return location


def schema(*columns: tuple[int, str, Any], schema_id: int = 1) -> dict[str, Any]:
    fields = [{"id": id_, "name": name, "type": kind, "required": False} for id_, name, kind in columns]
    return {"type": "struct", "schema-id": schema_id, "fields": fields}


def changed(to: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"action": "add-schema", "schema": to}, {"action": "set-current-schema", "schema-id": -1}]


def spec(transform: str = "identity", source: int = 1, **more: Any) -> dict[str, Any]:
    field = {"source-id": source, "field-id": 1000, "transform": transform, "name": "part"}
    return {"spec-id": 1, "fields": [field, *more.get("and_", [])]}


def order(source: int, transform: str = "identity") -> dict[str, Any]:
    field = {"source-id": source, "transform": transform, "direction": "asc", "null-order": "nulls-first"}
    return {"order-id": 1, "fields": [field]}


def statistics(snapshot_id: int, **more: Any) -> dict[str, Any]:
    return {
        "snapshot-id": snapshot_id, "statistics-path": "", "file-size-in-bytes": 1, "file-footer-size-in-bytes": 1,
        "blob-metadata": [], **more,
    }  # fmt: skip


LONG_TO_STRING = schema((1, "flight", "string"), (2, "carrier", "string"))
TWICE = {"source-id": 1, "field-id": 1000, "transform": "bucket[4]", "name": "part_bucket"}
BREAKING: dict[str, list[dict[str, Any]]] = {
    "another UUID": [{"action": "assign-uuid", "uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1"}],
    "long to string": changed(LONG_TO_STRING),
    "long to struct": changed(schema((1, "flight", schema((3, "x", "int"))), (2, "carrier", "string"))),
    "no columns": changed(schema()),
    "an id twice": changed(schema((1, "flight", "long"), (3, "x", schema((1, "y", "int"))))),
    "a name twice": changed(schema((1, "flight", "long"), (3, "flight", "long"))),
    "an id of 33 bits": changed(schema((1, "flight", "long"), (2**31, "x", "long"))),
    "an endless fixed": changed(schema((1, "flight", "long"), (3, "x", "fixed[99999999999]"))),
    "nanoseconds in format 2": changed(schema((1, "flight", "long"), (3, "x", "timestamp_ns"))),
    "another schema 0": [{"action": "add-schema", "schema": {**LONG_TO_STRING, "schema-id": 0}}],
    "a schema in use": [*changed(schema((1, "flight", "long"))), {"action": "remove-schemas", "schema-ids": [0]}],
    "a spec of no column": [{"action": "add-spec", "spec": spec(source=9)}],
    "a spec of another type": [{"action": "add-spec", "spec": spec("year")}],
    "an unknown transform": [{"action": "add-spec", "spec": spec("foo[3]")}],
    "no buckets": [{"action": "add-spec", "spec": spec("bucket[0]")}],
    "no width": [{"action": "add-spec", "spec": spec("truncate[0]", 2)}],
    "a partition id twice": [{"action": "add-spec", "spec": spec(and_=[TWICE])}],
    "an order of no column": [{"action": "add-sort-order", "sort-order": order(9)}],
    "an order of another type": [{"action": "add-sort-order", "sort-order": order(1, "day")}],
    "statistics of no snapshot": [{"action": "set-statistics", "statistics": statistics(12)}],
    "partition statistics of no snapshot": [
        {"action": "set-partition-statistics", "partition-statistics": statistics(12)}
    ],
    "main as a tag": [{"action": "set-snapshot-ref", "ref-name": "main", "type": "tag", "snapshot-id": 11}],
    "an age of 71 bits": [
        {"action": "set-snapshot-ref", "ref-name": "b", "type": "tag", "snapshot-id": 11, "max-ref-age-ms": LARGE}
    ],
}


@pytest.mark.parametrize("name", BREAKING)
async def test_updates_that_would_break_a_table_are_refused(
    client: httpx.AsyncClient, travel: str, at: str, name: str
) -> None:
    updates = BREAKING[name]
    for update in updates:
        for files in (update.get("statistics"), update.get("partition-statistics")):
            if files:
                files["statistics-path"] = f"{at}/metadata/snap-11.avro"
    before = (await client.get(f"{travel}/tables/flights")).json()
    answer = await client.post(f"{travel}/tables/flights", json={"requirements": [], "updates": updates})
    assert error(answer) == BAD, answer.text
    assert (await client.get(f"{travel}/tables/flights")).json() == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sequence-number", LARGE),
        ("snapshot-id", LARGE),
        ("parent-snapshot-id", 10),
        ("schema-id", 7),
        ("timestamp-ms", LARGE),
        ("manifest-list", "missing.avro"),
    ],
)
async def test_a_snapshot_that_nobody_could_read_is_refused(
    client: httpx.AsyncClient, travel: str, at: str, field: str, value: Any
) -> None:
    body = snapshot(at, 12, 2, 11)
    added = body["updates"][0]["snapshot"]
    added[field] = f"{at}/metadata/{value}" if field == "manifest-list" else value
    body["updates"][1]["snapshot-id"] = added["snapshot-id"]
    assert error(await client.post(f"{travel}/tables/flights", json=body)) == BAD
    assert (await client.post(f"{travel}/tables/flights", json=snapshot(at, 12, 2, 11))).status_code == 200


async def test_statistics_whose_file_is_missing_are_refused(client: httpx.AsyncClient, travel: str, at: str) -> None:
    update = {
        "action": "set-statistics",
        "statistics": statistics(11, **{"statistics-path": f"{at}/metadata/a.puffin"}),
    }
    body = {"requirements": [], "updates": [update]}
    assert error(await client.post(f"{travel}/tables/flights", json=body)) == BAD
    touch(f"{at}/metadata/a.puffin")
    assert (await client.post(f"{travel}/tables/flights", json=body)).status_code == 200


def touch(location: str) -> None:
    Path(location.removeprefix("file://")).touch()


@pytest.mark.parametrize(
    "body",
    [
        {"schema": schema((1, "a", "long"), (1, "b", "long"))},
        {"schema": schema((1, "a", "long"), (2, "a", "long"))},
        {"schema": schema((1, "a", "fixed[99999999999]"))},
        {"schema": schema((LARGE, "a", "long"))},
        {"schema": SCHEMA, "partition-spec": spec("foo[3]")},
        {"schema": SCHEMA, "partition-spec": spec("bucket[0]")},
        {"schema": SCHEMA, "partition-spec": spec("year")},
        {"schema": SCHEMA, "partition-spec": spec(source=9)},
        {"schema": SCHEMA, "write-order": order(1, "year")},
    ],
)
async def test_a_table_that_nobody_could_read_is_not_made(
    client: httpx.AsyncClient, travel: str, body: dict[str, Any]
) -> None:
    for staged in (False, True):
        answer = await client.post(f"{travel}/tables", json={"name": "t", "stage-create": staged, **body})
        assert error(answer) == BAD, answer.text
    updates = [
        *changed({**body["schema"], "schema-id": 0}),
        {"action": "add-spec", "spec": body.get("partition-spec", {"spec-id": 0, "fields": []})},
        {"action": "set-default-spec", "spec-id": -1},
        {"action": "add-sort-order", "sort-order": body.get("write-order", {"order-id": 0, "fields": []})},
        {"action": "set-default-sort-order", "sort-order-id": -1},
    ]
    commit = {"requirements": [{"type": "assert-create"}], "updates": updates}
    assert error(await client.post(f"{travel}/tables/t", json=commit)) == BAD
    assert (await client.get(f"{travel}/tables")).json()["identifiers"] == []


NARROW = schema((1, "a", "long"), (2, "b", "int"), (3, "c", "float"), (4, "d", "decimal(5,2)"), schema_id=0)
ALLOWED: dict[str, list[dict[str, Any]]] = {
    "a wider type": changed(schema((1, "a", "long"), (2, "b", "long"), (3, "c", "double"), (4, "d", "decimal(9,2)"))),
    "columns dropped and added": changed(schema((6, "other", "string"))),
    "a schema that is there already": [{"action": "add-schema", "schema": NARROW}],
    "a schema without columns, for later": [{"action": "add-schema", "schema": schema(schema_id=9)}],
    "its own UUID": [],
    "a void field of a column that is gone": [{"action": "add-spec", "spec": spec("void", 99)}],
    # what Spark's CREATE OR REPLACE TABLE sends: ids stay with names, and main begins anew
    "replaced": [{"action": "remove-snapshot-ref", "ref-name": "main"}, *changed(LONG_TO_STRING)],
}


async def test_what_engines_do_to_a_table_is_allowed(client: httpx.AsyncClient, travel: str, create: Create) -> None:
    for number, (name, updates) in enumerate(ALLOWED.items()):
        made = await create(f"t{number}", schema=NARROW)
        if name == "its own UUID":
            updates = [{"action": "assign-uuid", "uuid": made["metadata"]["table-uuid"]}]
        at, path = made["metadata"]["location"], f"{travel}/tables/t{number}"
        assert (await client.post(path, json=snapshot(at, 11, 1))).status_code == 200
        answer = await client.post(path, json={"requirements": [], "updates": updates})
        assert answer.status_code == 200, (name, answer.text)


async def test_an_empty_table_may_be_replaced_by_any_other(
    client: httpx.AsyncClient, travel: str, create: Create
) -> None:
    await create()
    body = {"requirements": [], "updates": changed(LONG_TO_STRING)}
    answer = await client.post(f"{travel}/tables/flights", json=body)
    assert answer.status_code == 200, answer.text


async def test_a_spec_of_a_column_added_with_it_is_taken(client: httpx.AsyncClient, travel: str, at: str) -> None:
    body = add_column("at", "timestamp")
    body["updates"] = [
        {"action": "add-spec", "spec": spec("day", 3)},
        *body["updates"],
        {"action": "set-default-spec", "spec-id": 1},
    ]
    answer = await client.post(f"{travel}/tables/flights", json=body)
    assert answer.status_code == 200, answer.text
