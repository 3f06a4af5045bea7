"""Avro by which a few bytes would be more rows than memory holds; and what its types make of new columns."""

from __future__ import annotations

import datetime
import io
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import pyarrow.parquet as pq
import pytest
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import LongType, NestedField

from lakegate_ingest.errors import BadStreamSchema
from lakegate_ingest.streams import avro
from lakegate_ingest.streams.avro import AvroReader, BadAvro, frame
from lakegate_ingest.streams.backlog import Batch
from lakegate_ingest.streams.door import LIMITS
from lakegate_ingest.streams.preparing import Prepared, prepare

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


@pytest.mark.parametrize("declared", [{}, {"precision": 0}, {"scale": 2}, {"precision": 9, "scale": None}])
def test_a_decimal_that_does_not_say_what_it_is_costs_nobody_the_other_fields(declared: dict[str, Any]) -> None:
    reader = AvroReader(record(["null", logical("bytes", "decimal", **declared)], "int"))
    assert reader.json(bytes([0, 2])) == b'{"f0":null,"f1":1}'
    assert str(reader.columns["f0"]) == ("decimal(9, 0)" if declared.get("precision") else "None")


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


def logical(kind: Any, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": name, **more}


MONEY = logical("bytes", "decimal", precision=10, scale=2)
COLUMNS: list[tuple[Any, str, Any]] = [
    ("long", "long", 1),
    ("int", "int", 2),
    (["null", "double"], "double", float("nan")),
    ("float", "float", 0.5),
    ("boolean", "boolean", True),
    ("string", "string", "2026-01-01"),
    (["string", "null"], "string", "12345"),
    ("bytes", "string", b"10"),
    ({"type": "enum", "name": "E", "symbols": ["true", "false"]}, "string", "true"),
    ("E", "string", "false"),
    ({"type": "fixed", "name": "F", "size": 2}, "string", b"20"),
    (MONEY, "decimal(10, 2)", Decimal("1.50")),
    (logical("bytes", "decimal", precision=50), "string", Decimal(7)),
    (logical("int", "date"), "date", datetime.date(2026, 1, 1)),
    (logical("int", "time-millis"), "time", datetime.time(23, 59)),
    (logical("long", "timestamp-micros"), "timestamptz", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)),
    (logical("long", "local-timestamp-micros"), "timestamp", datetime.datetime(2026, 1, 1)),
    (logical("string", "uuid"), "uuid", UUID(int=7)),
    (["null", "long"], "long", None),
    ({"type": "array", "items": "long"}, "string", []),
    ({"type": "map", "values": "long"}, "string", {}),
    # whatever comes first
    (["null", "long", "string"], "string", 1),
    (["string", {"type": "array", "items": "long"}], "string", "2026-01-01"),
    (["int", "long"], "long", 1),
    (["int", "null", "double"], "double", 1),
    (["long", "double"], "string", 1),
    (["float", "double"], "double", 0.5),
    ([logical("int", "date"), "string"], "string", datetime.date(2026, 1, 1)),
]


def prepared(schema: dict[str, Any], row: dict[str, Any], policy: Any, folder: Path) -> Prepared:
    """A record of Avro and one of JSON, for a table of F0 and id."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), row)
    own = Schema(NestedField(1, "F0", LongType()), NestedField(4, "id", LongType()))
    metadata = new_table_metadata(own, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, "file:///nowhere")
    batch = Batch({0: 0}, {0: 2}, [frame(7, out.getvalue()), b'{"id": 2}'])
    return prepare(
        batch, metadata, {7: AvroReader(schema)}, folder, on_new_column=policy, most_row_bytes=1 << 20,
        most_bytes=1 << 20, limits=LIMITS,
    )  # fmt: skip


def test_a_field_whose_name_no_column_may_have_makes_none(tmp_path: Path) -> None:
    name = "x" * 256
    schema = {"type": "record", "name": "r", "fields": [{"name": "id", "type": "long"}, {"name": name, "type": "long"}]}
    done = prepared(schema, {"id": 1, name: 1}, "evolve", tmp_path)
    assert ([reject.index for reject in done.rejects], done.read.schema.column_names) == ([0], ["F0", "id"])
    assert done.read.rows_written == 1


@pytest.mark.parametrize("policy", ["evolve", "reject"])
def test_columns_that_a_table_lacks_are_of_the_types_that_the_schema_declares(policy: Any, tmp_path: Path) -> None:
    schema = record(*(kind for kind, _, _ in COLUMNS))
    row = {f"f{place}": value for place, (_, _, value) in enumerate(COLUMNS)}
    done = prepared(schema, row, policy, tmp_path)
    if policy == "reject":
        assert ([reject.index for reject in done.rejects], done.read.schema.column_names) == ([0], ["F0", "id"])
        return
    assert done.rejects == []
    assert [(field.name, str(field.field_type)) for field in done.read.schema.fields] == [
        ("F0", "long"), ("id", "long"), *((f"f{place}", kind) for place, (_, kind, _) in enumerate(COLUMNS) if place)
    ]  # fmt: skip
    ids = [field.field_id for field in done.read.schema.fields]
    assert len(set(ids)) == len(ids)
    found, _ = pq.read_table(done.read.files[0].path).to_pylist()
    assert (found["f5"], found["f6"], found["f7"], found["f8"]) == ("2026-01-01", "12345", "3130", "true")
    assert (str(found["f2"]), found["f11"], found["f13"]) == ("nan", Decimal("1.50"), datetime.date(2026, 1, 1))
