"""A table to work on, and the requests that make commits."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

SCHEMA: dict[str, Any] = {
    "type": "struct",
    "schema-id": 0,
    "fields": [
        {"id": 1, "name": "flight", "type": "long", "required": True},
        {"id": 2, "name": "carrier", "type": "string", "required": False, "doc": "two letters"},
    ],
}
Create = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
async def travel(client: httpx.AsyncClient, iceberg: str) -> str:
    """The path of a namespace."""
    answer = await client.post(f"{iceberg}/namespaces", json={"namespace": ["travel"]})
    assert answer.status_code == 200, answer.text
    return f"{iceberg}/namespaces/travel"


@pytest.fixture
def create(client: httpx.AsyncClient, travel: str) -> Create:
    """Create a table in `travel`; returns its LoadTableResult."""

    async def make(name: str = "flights", **body: Any) -> dict[str, Any]:
        answer = await client.post(f"{travel}/tables", json={"name": name, "schema": SCHEMA, **body})
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result

    return make


def snapshot(at: str, snapshot_id: int, sequence: int, parent: int | None = None, **summary: str) -> dict[str, Any]:
    """The updates that append a snapshot to main, for a table at the location `at`; of its files, only the manifest
    list is there, and is empty.
    """
    listed = f"{at}/metadata/snap-{snapshot_id}.avro"
    folder = Path(listed.removeprefix("file://")).parent
    if folder.is_dir():  # else it is a place that is refused
        (folder / Path(listed).name).touch()
    added: dict[str, Any] = {
        "snapshot-id": snapshot_id,
        "sequence-number": sequence,
        "timestamp-ms": int(time.time() * 1000),
        "manifest-list": listed,
        "summary": {"operation": "append", **summary},
        "schema-id": 0,
    }
    if parent is not None:
        added["parent-snapshot-id"] = parent
    return {
        "requirements": [{"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": parent}],
        "updates": [
            {"action": "add-snapshot", "snapshot": added},
            {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": snapshot_id},
        ],
    }


def add_column(name: str, kind: str = "double") -> dict[str, Any]:
    """A commit that adds an optional column with field id 3 as schema 1."""
    fields = [*SCHEMA["fields"], {"id": 3, "name": name, "type": kind, "required": False}]
    return {
        "requirements": [{"type": "assert-current-schema-id", "current-schema-id": 0}],
        "updates": [
            {
                "action": "add-schema",
                "schema": {"type": "struct", "schema-id": 1, "fields": fields},
                "last-column-id": 3,
            },
            {"action": "set-current-schema", "schema-id": -1},
        ],
    }


def error(answer: httpx.Response) -> tuple[int, str]:
    """Status and type, once the shape is checked."""
    body = answer.json()["error"]
    assert body["code"] == answer.status_code
    assert body["message"]
    return answer.status_code, body["type"]
