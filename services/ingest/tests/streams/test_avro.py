"""Avro by which a few bytes would be more rows than memory holds."""

from __future__ import annotations

from typing import Any

import pytest

from lakegate_ingest.errors import BadStreamSchema
from lakegate_ingest.streams import avro
from lakegate_ingest.streams.avro import AvroReader, BadAvro

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


SURROGATE = {"type": "record", "name": "r", "doc": "\ud800", "fields": [{"name": "a", "type": "long"}]}
NESTED: dict[str, Any] = {"type": "array", "items": "long"}
for _ in range(2000):
    NESTED = {"type": "array", "items": NESTED}
DEEP = {"type": "record", "name": "r", "fields": [{"name": "a", "type": NESTED}]}


@pytest.mark.parametrize("schema", [SURROGATE, DEEP], ids=["surrogate", "nested"])
def test_a_schema_that_can_not_be_written_down_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(BadStreamSchema):
        AvroReader(schema)


def test_a_list_of_records_and_a_tree_are_read() -> None:
    point = {"type": "record", "name": "P", "fields": [{"name": "x", "type": "long"}, {"name": "n", "type": "null"}]}
    reader = AvroReader(record({"type": "array", "items": point}, ["null", "R"], {"type": "array", "items": "R"}))
    assert reader.json(bytes([2, 4, 0, 0, 0])) == b'{"f0":[{"x":2,"n":null}],"f1":null,"f2":[]}'


def sparse(nulls: int, name: str = "n") -> dict[str, Any]:
    """A record of one byte and many values."""
    fields = [{"name": f"{name}{index}", "type": "null"} for index in range(nulls)]
    return {"type": "record", "name": "Sparse", "fields": [{"name": "x", "type": "long"}, *fields]}


@pytest.mark.parametrize(
    "schema",
    [
        record({"type": "array", "items": sparse(1000)}),
        record({"type": "map", "values": sparse(1000)}),
        record({"type": "array", "items": ["null", sparse(1000)]}),
    ],
)
def test_data_that_may_be_more_values_than_memory_holds_is_not_decoded(
    schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: Any) -> Any:
        raise AssertionError("decoded")

    reader = AvroReader(schema)
    monkeypatch.setattr(avro.fastavro, "schemaless_reader", decode)
    with pytest.raises(BadAvro, match="more than 2,000,000 values"):
        reader.json(bytes(3000))


def test_data_that_would_be_a_huge_line_of_json_is_refused() -> None:
    reader = AvroReader(
        record({"type": "array", "items": sparse(0) | {"fields": [{"name": "x" * 1000, "type": "int"}]}})
    )
    items = 20_000
    data = bytes([0x80 | (2 * items & 0x7F), 0x80 | (2 * items >> 7 & 0x7F), 2 * items >> 14]) + bytes(items) + b"\0"
    with pytest.raises(BadAvro, match="as JSON"):
        reader.json(data)
    few = bytes([200, 1]) + bytes(100) + b"\0"
    assert reader.json(few).count(b"x" * 1000) == 100
