"""Which columns and types come out: first loads, evolution, matching to an existing table."""

from __future__ import annotations

import datetime as dt
import io
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DecimalType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from lakegate_ingest import engine
from lakegate_ingest.engine import Format

FILLER = 100_000  # rows that push a value out of the sample


def table(**kinds: object) -> Schema:
    return Schema(*(NestedField(i, name, kind, required=False) for i, (name, kind) in enumerate(kinds.items(), 1)))


def test_a_first_load_infers_the_narrowest_type(load) -> None:
    loaded = load(
        "l,d,b,day,at,tz,s,zip,big,nothing\n"
        "1,1.5,true,2013-01-01,2013-01-01 05:00:00,2013-01-01T05:00:00Z,x,02134,9223372036854775808,\n"
        "-2,3,FALSE,2013-1-2,2013-01-02,2013-01-01T05:00:00+02:00,7,10001,1,\n"
    )
    assert loaded.types == {
        "l": "long",
        "d": "double",
        "b": "boolean",
        "day": "date",
        "at": "timestamp",
        "tz": "timestamptz",
        "s": "string",
        "zip": "string",
        "big": "string",
        "nothing": "string",
    }
    assert loaded.rows[0]["zip"] == "02134"
    assert loaded.rows[1]["tz"] == dt.datetime(2013, 1, 1, 3, tzinfo=dt.UTC)
    assert [field.field_id for field in loaded.result.schema.fields] == list(range(1, 11))


def test_data_files_carry_the_field_ids(load) -> None:
    for content in ("a,b\n1,2\n", "a,b\n1,2\n3\n"):  # typed, tolerant
        loaded = load(content)
        schema = pq.read_schema(loaded.result.data_files[0].path)
        assert [field.metadata[b"PARQUET:field_id"] for field in schema] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("first", "late", "kind"),
    [
        ("1", "1.5", "double"),
        ("1", "abc", "string"),
        ("1.5", "abc", "string"),
        ("1", "007", "string"),
        ("1.5", "-007", "string"),
        ("2013-01-01 05:00", "2013-01-01 05:00:00.1234567", "string"),
        ("1", "9223372036854775808", "string"),
        ("2013-01-01", "2013-01-01 05:00", "timestamp"),
        ("2013-01-01", "x", "string"),
        ("true", "7", "string"),
        ("2013-01-01T05:00:00Z", "later", "string"),
    ],
)
def test_a_first_load_widens_a_type_instead_of_quarantining(load, first: str, late: str, kind: str) -> None:
    loaded = load(f"a,b\n{first},x\n" + f"{first},abcdefghij\n" * FILLER + f"{late},y\n")
    assert loaded.rows[-1]["a"] == late if kind == "string" else True
    assert loaded.types == {"a": kind, "b": "string"}
    assert loaded.result.rows_in == loaded.result.rows_written == FILLER + 2
    assert loaded.result.path == "typed"


def test_widening_looks_at_all_columns_at_once_and_quarantines_what_is_no_row(load) -> None:
    loaded = load("a,b\n1,1\n" + "1,1000000000\n" * FILLER + "1.5,2\n2,abc\n3\n4,5\n")
    assert loaded.types == {"a": "double", "b": "string"}
    assert [(row["line"], row["row"]) for row in loaded.rejects] == [(FILLER + 5, "3")]


def test_a_json_key_that_appears_late_becomes_a_column(load) -> None:
    text = '{"a": 1, "s": "12"}\n' * FILLER + '{"a": 2, "new": 1.5}\n{"a": "x"}\n'
    loaded = load(text, format=Format.NDJSON)
    assert loaded.types == {"a": "string", "s": "string", "new": "double"}
    assert loaded.rows[-2]["new"] == 1.5
    assert loaded.result.path == "typed"


def test_a_late_json_key_evolves_an_existing_table(load) -> None:
    text = '{"a": 1}\n' * FILLER + '{"a": 2, "new": "x"}\n'
    loaded = load(text, format=Format.NDJSON, schema=table(a=LongType()), last_column_id=7)
    assert loaded.result.new_columns == ("new",)
    assert loaded.result.schema.find_field("new").field_id == 8
    assert loaded.rows[-1] == {"a": 2, "new": "x"}


def test_new_columns_are_added_as_optional_with_fresh_ids(load) -> None:
    schema = Schema(NestedField(3, "a", LongType(), required=True))
    loaded = load("a,b\n1,2.5\n", schema=schema)
    assert loaded.result.new_columns == ("b",)
    added = loaded.result.schema.find_field("b")
    assert (added.field_id, str(added.field_type), added.required) == (4, "double", False)


def test_an_unchanged_schema_comes_back_equal(load) -> None:
    schema = table(a=LongType(), b=StringType())
    assert load("b\nx\n", schema=schema).result.schema == schema


def test_columns_match_by_name_exactly_or_else_without_case(load) -> None:
    loaded = load("ID,Name\n1,x\n", schema=table(id=LongType(), Name=StringType()))
    assert loaded.rows == [{"id": 1, "Name": "x"}]
    assert loaded.result.new_columns == ()
    assert load('{"ID": 1}', format=Format.NDJSON, schema=table(id=LongType())).rows == [{"id": 1}]


def test_without_header_the_columns_are_those_of_the_table_from_left_to_right(load) -> None:
    options = {"header": False}
    assert load("1,x\n", schema=table(a=LongType(), b=StringType(), c=LongType()), options=options).rows == [
        {"a": 1, "b": "x"}
    ]
    assert load("1,x\n", options=options).rows == [{"column_1": 1, "column_2": "x"}]
    bad = load("1,x\ny,z\n", schema=table(a=LongType(), b=StringType()), options=options)
    assert [row["line"] for row in bad.rejects] == [2]
    with pytest.raises(engine.TooManyColumns):
        load("1,2,3\n", schema=table(a=LongType()), options=options)


def test_several_files_become_one_load_with_the_union_of_their_columns(load) -> None:
    loaded = load("a,b\n1,x\n", "b,c\ny,2013-01-01\n", "a\n2.5\n")
    assert loaded.types == {"a": "double", "b": "string", "c": "date"}
    assert loaded.result.rows_written == 3


def test_rejects_of_several_files_name_the_file_and_number_the_rows_of_the_load(load) -> None:
    schema = table(a=LongType())
    loaded = load("a\n1\nx\n", "a\n2\n", "a\ny\n", schema=schema)
    assert [(row["file"], row["line"], row["row_id"]) for row in loaded.rejects] == [
        ("0.csv", 3, 1),
        ("2.csv", 2, 3),
    ]


def test_null_spellings_are_null_beside_the_empty_field(load) -> None:
    for tail in ("", "x,y,z\n"):  # typed, tolerant
        loaded = load(f'a,b\n1,NA\nNA,\n"NA","x"\n{tail}', options={"null_values": ("NA",)})
        assert loaded.types == {"a": "long", "b": "string"}
        assert loaded.rows == [{"a": 1, "b": None}, {"a": None, "b": None}, {"a": None, "b": "x"}]


def test_nested_json_is_kept_as_text(load) -> None:
    text = '{"a": {"x": [1, 2]}, "b": [1], "c": "s"}\n{"a": 5, "b": null, "c": true}\n'
    for tail in ("", "{bad\n"):
        loaded = load(text + tail, format=Format.NDJSON)
        assert loaded.rows == [
            {"a": '{"x":[1,2]}', "b": "[1]", "c": "s"},
            {"a": "5", "b": None, "c": "true"},
        ]


def test_json_keys_with_any_characters_are_columns(load) -> None:
    key = 'a/b~c"d.e $[0]'
    text = '{"a/b~c\\"d.e $[0]": 1}\n'
    for tail in ("", "[]\n"):
        assert load(text + tail, format=Format.NDJSON).rows == [{key: 1}]


@pytest.mark.parametrize("tail", ["", "x,,,,,,,\n"])
def test_every_primitive_type_is_read_from_text_by_both_paths(load, tail: str) -> None:
    schema = table(
        i=IntegerType(),
        f=FloatType(),
        d=DecimalType(10, 2),
        b=BooleanType(),
        t=TimeType(),
        u=UUIDType(),
        z=TimestamptzType(),
    )
    text = "i,f,d,b,t,u,z\n1,1.5,12.30,true,23:59:01,12345678-1234-5678-1234-567812345678,2013-01-01 05:00:00Z\n"
    row = load(text + tail, schema=schema).rows[0]
    assert row["i"] == 1
    assert row["f"] == 1.5
    assert row["d"] == Decimal("12.30")
    assert row["b"] is True
    assert row["t"] == dt.time(23, 59, 1)
    assert (
        UUID(bytes=row["u"])
        if isinstance(row["u"], bytes)
        else row["u"] == UUID(int=0x12345678123456781234567812345678)
    )
    assert row["z"] == dt.datetime(2013, 1, 1, 5, tzinfo=dt.UTC)


@pytest.mark.parametrize(("value", "good"), [("1.23", True), ("1.234", False), ("1.230", True), ("123456789", False)])
def test_a_decimal_is_never_rounded(load, value: str, good: bool) -> None:
    assert load(f"d\n1\n{value}\n", schema=table(d=DecimalType(10, 2))).result.rows_written == 1 + good


def test_a_column_that_text_cannot_fill_is_refused(load) -> None:
    nested = table(a=LongType(), n=ListType(element_id=9, element_type=LongType(), element_required=False))
    with pytest.raises(engine.UnsupportedColumn, match="'n'"):
        load("a,n\n1,2\n", schema=nested)
    assert load("a\n1\nx\n", schema=nested).rows == [{"a": 1}]  # left out, it is null
    with pytest.raises(engine.UnsupportedColumn):
        load("a\nx\n", schema=table(a=BinaryType()))


def parquet(**columns: pa.Array) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_parquet_keeps_its_types(load) -> None:
    loaded = load(
        parquet(
            i=pa.array([1, None], pa.int32()),
            l=pa.array([1, 2**60]),
            d=pa.array([1.5, 2.5]),
            s=pa.array(["x", "y"], pa.large_string()),
            t=pa.array([0, 1000], pa.timestamp("ns")),
            z=pa.array([0, 1], pa.timestamp("ms", tz="UTC")),
            day=pa.array([0, 1], pa.date32()),
            n=pa.array([[1], [2]]),
            u=pa.array([1, 2**63], pa.uint64()),
        ),
        format=Format.PARQUET,
    )
    assert loaded.types == {
        "i": "int",
        "l": "long",
        "d": "double",
        "s": "string",
        "t": "timestamp",
        "z": "timestamptz",
        "day": "date",
        "n": "string",
        "u": "decimal(20, 0)",
    }
    assert loaded.rows[1]["l"] == 2**60
    assert loaded.rows[0]["n"] == "[1]"
    assert loaded.rows[1]["u"] == 2**63
    assert loaded.result.path == "typed"


def test_parquet_values_that_do_not_fit_the_table_are_quarantined(load) -> None:
    data = parquet(a=pa.array([1.0, 2.5, None]), s=pa.array([[1], [2], [3]]))
    loaded = load(data, format=Format.PARQUET, schema=table(a=LongType(), s=StringType()))
    assert loaded.rows == [{"a": 1, "s": "[1]"}, {"a": None, "s": "[3]"}]
    assert [(row["line"], row["column"], row["value"]) for row in loaded.rejects] == [(2, "a", "2.5")]
    assert loaded.rejects[0]["row"] == '{"a": 2.5, "s": [2]}'


@pytest.mark.parametrize("late", [3, 2.5])  # typed, tolerant
def test_parquet_bytes_are_kept(load, late: float) -> None:
    data = parquet(a=pa.array([1.0, late]), b=pa.array([b"\x00\xff", None]))
    loaded = load(data, format=Format.PARQUET, schema=table(a=LongType(), b=BinaryType()))
    assert loaded.rows[0] == {"a": 1, "b": b"\x00\xff"}
    with pytest.raises(engine.IncompatibleColumn, match="'b'"):
        load(data, format=Format.PARQUET, schema=table(a=LongType(), b=StringType()))


def test_parquet_without_rows_is_refused(load) -> None:
    with pytest.raises(engine.HeaderOnly):
        load(parquet(a=pa.array([], pa.int64())), format=Format.PARQUET)


@pytest.mark.parametrize("nested", [False, True])
def test_parquet_decimals_beyond_38_digits_are_refused(load, nested: bool) -> None:
    values = pa.array([Decimal(10**59 + 1)], pa.decimal256(60, 0))
    data = parquet(d=pa.array([[Decimal(1)]], pa.list_(values.type)) if nested else values)
    with pytest.raises(engine.IncompatibleColumn, match=r"'d' of .* 38 digits"):
        load(data, format=Format.PARQUET)
    with pytest.raises(engine.IncompatibleColumn, match=r"'d' of .* 38 digits"):
        load(data, format=Format.PARQUET, schema=table(d=StringType()))


@pytest.mark.parametrize("late", [3, 2.5])  # typed, tolerant
def test_parquet_bytes_of_a_fixed_size_are_binary_on_a_first_load(load, late: float) -> None:
    data = parquet(b=pa.array([b"ab", None], pa.binary(2)))
    assert load(data, format=Format.PARQUET).types == {"b": "binary"}
    data = parquet(a=pa.array([1.0, late]), b=pa.array([b"ab", None], pa.binary(2)))
    loaded = load(data, format=Format.PARQUET, schema=table(a=LongType(), b=BinaryType()))
    assert loaded.rows[0] == {"a": 1, "b": b"ab"}


@pytest.mark.parametrize("kind", [pa.timestamp("ns"), pa.timestamp("ns", tz="UTC"), pa.time64("ns")])
def test_parquet_nanoseconds_are_never_cut(load, kind: pa.DataType) -> None:
    whole = pa.array([1_000, None], kind)
    assert load(parquet(t=whole), format=Format.PARQUET).result.path == "typed"
    loaded = load(parquet(i=pa.array([1, 2, 3]), t=pa.array([1_000, 123_456_789, None], kind)), format=Format.PARQUET)
    assert [row["i"] for row in loaded.rows] == [1, 3]
    assert [(row["line"], row["column"], row["reason"]) for row in loaded.rejects] == [
        (2, "t", "more precise than a microsecond")
    ]
    assert "123456789" in loaded.rejects[0]["value"]


@pytest.mark.parametrize(
    ("kind", "wrap"),
    [
        (pa.list_(pa.timestamp("ns")), lambda at: [0, at]),
        (pa.large_list(pa.timestamp("ns")), lambda at: [at]),
        (pa.list_(pa.timestamp("ns"), 2), lambda at: [at, None]),
        (pa.struct([("at", pa.timestamp("ns", tz="UTC")), ("n", pa.int64())]), lambda at: {"at": at, "n": 1}),
        (pa.list_(pa.struct([("at", pa.time64("ns"))])), lambda at: [{"at": None}, {"at": at}]),
        (pa.map_(pa.string(), pa.timestamp("ns")), lambda at: [("k", at)]),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)
def test_parquet_nanoseconds_inside_nested_values_are_never_cut(load, kind: pa.DataType, wrap) -> None:
    assert load(parquet(n=pa.array([wrap(1_000), None], kind)), format=Format.PARQUET).result.path == "typed"
    values = pa.array([wrap(1_000), None, wrap(123_456_789), wrap(2_000)], kind)
    loaded = load(parquet(i=pa.array([1, 2, 3, 4]), n=values), format=Format.PARQUET)
    assert [row["i"] for row in loaded.rows] == [1, 2, 4]
    assert [(row["line"], row["column"], row["reason"]) for row in loaded.rejects] == [
        (3, "n", "more precise than a microsecond")
    ]
    assert "123456789" in loaded.rejects[0]["value"]
    assert "123456789" in loaded.rejects[0]["row"]


def test_a_whole_number_beyond_the_range_is_told_apart_from_what_is_none(load) -> None:
    loaded = load("a\n1\n99999999999999999999\nabc\n", schema=table(a=LongType()))
    assert [row["reason"] for row in loaded.rejects] == [
        "'99999999999999999999' is beyond the range of long (±9223372036854775807)",
        "'abc' is not a whole number (long)",
    ]
