"""What a client can send and must not: each gets a 400 that says what is wrong, and nothing is changed."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from .conftest import SCHEMA, error

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
