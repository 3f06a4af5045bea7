"""Avro schemas by which a few bytes would be more rows than memory holds."""

from __future__ import annotations

from typing import Any

import pytest

from lakegate_ingest.errors import BadStreamSchema
from lakegate_ingest.streams.avro import AvroReader

EMPTY = {"type": "record", "name": "E", "fields": [{"name": "n", "type": "null"}]}


def record(*types: Any) -> dict[str, Any]:
    fields = [{"name": f"f{index}", "type": kind} for index, kind in enumerate(types)]
    return {"type": "record", "name": "R", "namespace": "x", "fields": fields}


def doubling(levels: int) -> dict[str, Any]:
    """Each record twice in the next one, by its name."""
    kind: Any = "null"
    for level in range(levels):
        name = kind["name"] if isinstance(kind, dict) else kind
        fields = [{"name": "a", "type": kind}, {"name": "b", "type": name}]
        kind = {"type": "record", "name": f"L{level}", "fields": fields}
    return record(kind)


@pytest.mark.parametrize(
    "schema",
    [
        record({"type": "array", "items": "null"}),
        record({"type": "array", "items": {"type": "null"}}),
        record({"type": "map", "values": "null"}),
        record({"type": "array", "items": ["null"]}),
        record({"type": "array", "items": EMPTY}),
        record(EMPTY, {"type": "array", "items": "E"}),
        record({"type": "array", "items": {"type": "record", "name": "O", "fields": [{"name": "e", "type": EMPTY}]}}),
        record({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}),
        record(["null", {"type": "array", "items": "null"}]),
        record({"type": "array", "items": {"type": "array", "items": "null"}}),
        record("R"),
        record({"type": "record", "name": "S", "fields": [{"name": "r", "type": "R"}]}),
        doubling(40),
        record({"type": "array", "items": "null"}) | {"__fastavro_parsed": True, "__named_schemas": {}},
    ],
)
def test_a_schema_of_values_without_bytes_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(BadStreamSchema):
        AvroReader(schema)


def test_a_list_of_records_and_a_tree_are_read() -> None:
    point = {"type": "record", "name": "P", "fields": [{"name": "x", "type": "long"}, {"name": "n", "type": "null"}]}
    reader = AvroReader(record({"type": "array", "items": point}, ["null", "R"], {"type": "array", "items": "R"}))
    assert reader.json(bytes([2, 4, 0, 0, 0])) == b'{"f0":[{"x":2,"n":null}],"f1":null,"f2":[]}'
