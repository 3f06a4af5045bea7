"""Parquet: whichever path reads it, the same values come out, and no type that a file can have is too much for one."""

from __future__ import annotations

import base64
import gc
import io
import math
import struct
from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BooleanType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
)

from lakegate_ingest.engine import Format, IncompatibleColumn
from lakegate_ingest.engine.footers import check_chunks

_LARGE = 3.4028234663852886e38  # the largest of 32 bits
_DOUBLES = [0.0, 1.5, 0.1, 123456792.0, 2.0**60, 2.0**62, -(2.0**62), 2.0**63, 2.0**70, 2.0**127, 16777217.0, 1e22]
_DOUBLES += [1.1e38, 1.7e38, -1.1e38, 1e300, -1e300, 5e-324, 1e-300, 1e39, 99999999999999.995, _LARGE, math.inf]
_SINGLES = [0.0, 1.5, 0.1, 123456792.0, 1073741824.0, 2.0**31, 2.0**62, 2.0**63, 2.0**127, _LARGE, 1e-45, 1e10, -7.0]
_HALVES = [0.0, 1.5, 0.1, 65504.0, -2049.0, 6e-8]


# {"a": [1, 2], "i128": [2**70, None]}, with a column of polars.Int128, by polars 1.
WHOLE_OF_128_BITS = (
    "UEFSMRUEFSAVMkwVBBUAAAAotS/9IBCBAAABAAAAAAAAAAIAAAAAAAAAFQAVEhUkLBUEFRAVBhUGHDYAKAgCAAAAAAAAABgIAQAAAAAAAAAAAA"
    "AotS/9IAlJAAACAAAABAEBAwIVBBk1AAYQGRgBYRUMFgQWngEWwgEmVCYIHDYAKAgCAAAAAAAAABgIAQAAAAAAAAAAABUAFSwVPiwVBBUAFQYV"
    "Bhw2AgAAACi1L/0gFrEAAAIAAAADAQAAAAAAAAAAQAAAAAAAAAAVDhklAAYZGARpMTI4FQwWBBZWFmgmrgI8NgIAABkRAhkYCAEAAAAAAAAAGR"
    "gIAgAAAAAAAAAVABkWAAAZHBZUFXYWAAAAGRwWrgIVaBYAAAAVAhk8SARyb290FQQAFQQlAhgBYQAVDhUgFQIYBGkxMjgAFgQZHBksJpYCHBUE"
    "GTUABhAZGAFhFQwWBBaeARbCASZUJggcNgAoCAIAAAAAAAAAGAgBAAAAAAAAAAAAFo4EFRQW0AMVPgAmlgMcFQ4ZJQAGGRgEaTEyOBUMFgQWVh"
    "ZoJq4CPDYCAAAWogQVFgAW9AEWBCYIFqoCFAAAGRwYDEFSUk9XOnNjaGVtYRjwAS8vLy8vNm9BQUFBRUFBQUE4di8vL3hRQUFBQUVBQUVBQUFB"
    "S0FBc0FDQUFLQUFRQStQLy8vd3dBQUFBSUFBZ0FBQUFFQUFJQUFBQTRBQUFBQkFBQUFMei8vLzhnQUFBQUVBQUFBQWdBQUFBQkFnQUFBQUFBQU"
    "xULy8vK0FBQUFBQVFBQUFBUUFBQUJwTVRJNEFBQUFBT3ovLy84NEFBQUFJQUFBQUJnQUFBQUJBZ0FBRUFBU0FBUUFFQUFSQUFnQUFBQU1BQUFB"
    "QUFEMC8vLy9RQUFBQUFFQUFBQUlBQWtBQkFBSUFBRUFBQUJoQUE9PQAYTlBvbGFycyAocHl0aG9uKSB2ZXJzaW9uIDIuMS4wIChidWlsZCA3Zj"
    "kwMmJkM2ZmZDI3ZmY4MmQxNDI3OGEwOWEyOTVmZjJmN2FlZDkyKRksHAAAHAAAAPoBAABQQVIx"
)


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_a_footer_that_was_checked_is_let_go() -> None:
    """The error that ends the check is kept by Arrow, and leads to the file that has the footer."""

    def held() -> list[pq.ParquetFile]:
        gc.collect()
        # not isinstance, which asks a proxy for the class of what it stands for, which may be gone
        return [thing for thing in gc.get_objects() if type(thing) is pq.ParquetFile]

    metadata = pq.read_metadata(io.BytesIO(parquet(a=[1, 2], b=["x", "y"])))
    others = held()  # of tests before, which may go at any time: kept, so that none is taken for a new one
    check_chunks(metadata, [0], ["a", "b"])
    assert [file for file in held() if not any(file is other for other in others)] == []


def table(kind: IcebergType) -> Schema:
    return Schema(NestedField(1, "n", LongType(), required=False), NestedField(2, "f", kind, required=False))


def bits(values: list[Any]) -> list[Any]:
    """-0.0 is 0.0, and NaN is not itself."""
    return [struct.pack(">d", value) if isinstance(value, float) else value for value in values]


def single(value: float) -> float:
    try:
        (found,) = struct.unpack("f", struct.pack("f", value))
    except OverflowError:
        return math.inf
    return float(found)


def expected(value: float, kind: IcebergType) -> Any:
    """What the table gets; None for what does not fit."""
    whole = math.isfinite(value) and value == math.trunc(value)
    if isinstance(kind, (LongType, IntegerType)):
        limit = 2**63 if isinstance(kind, LongType) else 2**31
        return int(value) if whole and -limit <= value < limit else None
    if isinstance(kind, DecimalType):
        number = Decimal(int(value) if whole else repr(value)) if math.isfinite(value) else Decimal("NaN")
        fits = number.is_finite() and abs(number) < 10 ** (kind.precision - kind.scale)
        return number if fits and number == round(number, kind.scale) else None
    if isinstance(kind, FloatType) and math.isfinite(value):
        near = single(value)
        if whole:
            return value if near == value else None
        return near or None
    return value


@pytest.mark.parametrize("kind", [LongType(), IntegerType(), DecimalType(38, 3), FloatType(), DoubleType()], ids=str)
@pytest.mark.parametrize(
    ("source", "numbers"), [(pa.float64(), _DOUBLES), (pa.float32(), _SINGLES), (pa.float16(), _HALVES)], ids=str
)
def test_a_float_is_in_the_table_as_it_is_or_set_aside(load, source: Any, numbers: list[float], kind: Any) -> None:
    values = pa.array(numbers, pa.float64())
    for narrower in (pa.float32(), pa.float16()) if source == pa.float16() else (source,):
        values = values.cast(narrower)
    found = [expected(number, kind) for number in values.to_pylist()]
    fitting = [place for place, value in enumerate(found) if value is not None]
    rows = pa.array(range(len(values)), pa.int64())

    clean = load(parquet(n=rows.take(fitting), f=values.take(fitting)), format=Format.PARQUET, schema=table(kind))
    assert clean.result.path == "typed"
    assert {row["n"]: row["f"] for row in clean.rows} == {place: found[place] for place in fitting}

    rows, values = pa.concat_arrays([rows, pa.array([None], rows.type)]), pa.concat_arrays([values, values[:1]])
    late = pa.array([None] * len(numbers) + [1], pa.timestamp("ns"))
    loaded = load(parquet(n=rows, f=values, t=late), format=Format.PARQUET, schema=table(kind))
    assert loaded.result.path == "tolerant"
    assert {row["n"]: row["f"] for row in loaded.rows} == {place: found[place] for place in fitting}
    assert {row["line"] - 1 for row in loaded.rejects} == set(range(len(values))) - set(fitting)


def test_the_sign_of_zero_and_what_is_no_number_are_kept_on_the_tolerant_path(load) -> None:
    late = pa.array([None, None, 1], pa.timestamp("ns"))
    for source, kind in ((pa.float32(), DoubleType()), (pa.float32(), FloatType()), (pa.float64(), DoubleType())):
        values = pa.array([-0.0, math.nan, 1.0], source)
        loaded = load(parquet(f=values, t=late), format=Format.PARQUET, schema=table(kind))
        assert str([row["f"] for row in loaded.rows]) == "[-0.0, nan]"


def test_a_float_does_not_turn_into_true_nor_its_text_into_another(load) -> None:
    data = parquet(n=[1, 2], f=pa.array([1.0, 0.1], pa.float32()))
    assert load(data, format=Format.PARQUET, schema=table(BooleanType())).rows == []
    late = parquet(
        n=[1, 2, 3], f=pa.array([1.0, 0.1, 1], pa.float32()), t=pa.array([None, None, 1], pa.timestamp("ns"))
    )
    for content in (data, late):
        loaded = load(content, format=Format.PARQUET, schema=table(StringType()))
        assert [row["f"] for row in loaded.rows] == ["1.0", "0.1"]


def test_a_whole_number_is_told_with_all_its_digits_when_it_does_not_fit(load) -> None:
    loaded = load(parquet(n=[1], f=[2.0**70]), format=Format.PARQUET, schema=table(LongType()))
    assert loaded.rejects[0]["value"] == "1180591620717411303424"
    assert "beyond the range of long" in loaded.rejects[0]["reason"]


def of(kind: pa.DataType, *values: Any) -> pa.Array:
    return pa.array([*values, None], kind)


def inside(values: Any) -> list[Any]:
    """The array itself, and in each kind of nested value."""
    ends = list(range(len(values) + 1))
    names = pa.array([f"k{place}" for place in range(len(values))])
    return [
        values,
        pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values),
        pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), values),
        pa.FixedSizeListArray.from_arrays(values, 1),
        pa.StructArray.from_arrays(
            [values, names], names=["a", "b"], mask=pa.array([False] * (len(values) - 1) + [True])
        ),
        pa.MapArray.from_arrays(pa.array(ends, pa.int32()), names, values),
    ]


def written(values: Any) -> bool:
    """Whether Arrow can write it, twice."""
    try:
        parquet(f=pa.chunked_array([values, values]))
    except pa.ArrowNotImplementedError:
        return False
    return True


_TYPES = [
    of(pa.float16(), 1.5, -2.0),
    of(pa.string_view(), "a", "longer than what fits into a view"),
    of(pa.binary_view(), b"a", b"longer than what fits into a view"),
    of(pa.list_view(pa.float16()), [1.5], [2.0, None]),
    of(pa.large_list_view(pa.timestamp("ns")), [1000], []),
    of(pa.large_string(), "a", "b"),
    of(pa.large_binary(), b"a", b"b"),
    of(pa.decimal32(5, 2), Decimal("1.50"), Decimal("-2.25")),
    of(pa.decimal64(15, 2), Decimal("1.50"), Decimal("-2.25")),
    of(pa.decimal256(38, 2), Decimal("1.50"), Decimal("-2.25")),
    of(pa.string(), "a", "b").dictionary_encode(),
    of(pa.null(), None, None),
    of(pa.uint64(), 1, 2**64 - 1),
    of(pa.date64(), 0, 86_400_000),
    of(pa.time32("ms"), 0, 1000),
    pa.ExtensionArray.from_storage(pa.uuid(), of(pa.binary(16), b"a" * 16, b"\xff" * 16)),
    pa.ExtensionArray.from_storage(pa.json_(pa.string_view()), of(pa.string_view(), "{}", "[1]")),
    pa.ExtensionArray.from_storage(pa.opaque(pa.binary(), "type", "vendor"), of(pa.binary(), b"a", b"\xff")),
    pa.ExtensionArray.from_storage(pa.opaque(pa.timestamp("ns"), "type", "vendor"), of(pa.timestamp("ns"), 0, 1000)),
]


@pytest.mark.parametrize("values", _TYPES, ids=lambda values: str(values.type))
def test_both_paths_read_the_same_of_every_type(load, values: Any) -> None:
    columns = {f"f{place}": column for place, column in enumerate(inside(values)) if written(column)}
    late = {name: pa.chunked_array([column, column]) for name, column in columns.items()}
    typed = load(parquet(**columns), format=Format.PARQUET)
    assert typed.result.path == "typed"
    tolerant = load(parquet(**late, t=pa.array([None] * 5 + [1], pa.timestamp("ns"))), format=Format.PARQUET)
    assert tolerant.result.path == "tolerant"
    assert [row | {"t": None} for row in typed.rows + typed.rows[:2]] == tolerant.rows
    assert typed.types | {"t": "timestamp"} == tolerant.types


def test_views_of_many_rows_are_read_in_batches(load) -> None:
    texts = [f"text {row} of a long column" for row in range(40_000)]
    lists = pa.array([[row, None] if row % 3 else None for row in range(40_000)], pa.list_view(pa.int64()))
    late = pa.array([None] * 39_999 + [1], pa.timestamp("ns"))
    loaded = load(parquet(s=pa.array(texts, pa.string_view()), v=lists, t=late), format=Format.PARQUET)
    assert [row["s"] for row in loaded.rows] == texts[:-1]
    assert [row["v"] for row in loaded.rows] == [f"[{row},null]" if row % 3 else None for row in range(39_999)]


def test_nanoseconds_behind_an_extension_are_not_cut(load) -> None:
    kind = pa.opaque(pa.timestamp("ns"), "type", "vendor")
    data = parquet(n=[1, 2], f=pa.ExtensionArray.from_storage(kind, pa.array([1000, 1], pa.timestamp("ns"))))
    loaded = load(data, format=Format.PARQUET)
    assert [row["n"] for row in loaded.rows] == [1]
    assert "more precise than a microsecond" in loaded.rejects[0]["reason"]


FAR = [datetime(9999, 12, 31), datetime(1600, 1, 1), None, datetime(2020, 1, 1, 1, 2, 3, 456789)]


def old_timestamps(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, use_deprecated_int96_timestamps=True)
    return sink.getvalue()


@pytest.mark.parametrize("beside", ["4", "bad"], ids=["typed", "tolerant"])
def test_timestamps_of_96_bits_are_those_that_were_written_in_any_year(load, beside: str) -> None:
    far = pa.array(FAR, pa.timestamp("us"))
    lists = pa.array([[FAR[0]], [], None, [FAR[3]]], pa.list_(pa.timestamp("us")))
    more = pa.array(["1", "2", "3", beside])
    schema = Schema(
        NestedField(1, "t", TimestampType()), NestedField(2, "l", StringType()), NestedField(3, "n", LongType())
    )
    loaded = load(old_timestamps(t=far, l=lists, n=more), format=Format.PARQUET, schema=schema)
    assert [row["t"] for row in loaded.rows] == FAR[: 3 if beside == "bad" else 4]
    assert loaded.rows[0]["l"] == '["9999-12-31 00:00:00"]'


def test_timestamps_of_96_bits_with_nanoseconds_are_set_aside_or_refused_beside_far_ones(load) -> None:
    fine = pa.array([1, 1577840523456789000, 1577840523456789123], pa.timestamp("ns"))
    loaded = load(old_timestamps(t=fine), format=Format.PARQUET)
    assert [row["t"] for row in loaded.rows] == [FAR[3]]
    fine_ones = ["1970-01-01 00:00:00.000000001", "2020-01-01 01:02:03.456789123"]
    assert [row["value"] for row in loaded.rejects] == fine_ones
    far = old_timestamps(t=pa.array(FAR, pa.timestamp("us")))
    with pytest.raises(IncompatibleColumn, match="TIMESTAMP_MICROS"):
        load(old_timestamps(t=fine, u=pa.array(FAR[:3], pa.timestamp("us"))), format=Format.PARQUET)
    assert load(far, format=Format.PARQUET).result.path == "typed"


def test_a_type_that_arrow_can_not_read_is_refused(load) -> None:
    """A whole number of 128 bits, as polars writes it."""
    data = base64.b64decode(WHOLE_OF_128_BITS)
    with pytest.raises(IncompatibleColumn, match="Cast it"):
        load(data, format=Format.PARQUET)


@pytest.mark.parametrize("value", ["INTERVAL 1 MONTH", "[INTERVAL 1 DAY]", "{'a': INTERVAL 1 SECOND}"])
def test_an_interval_is_refused_for_tables_have_none(load, tmp_path, value: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT {value} AS f) TO '{tmp_path}/interval.parquet' (FORMAT parquet)")
    with pytest.raises(IncompatibleColumn, match=r"'f.* is an interval"):
        load((tmp_path / "interval.parquet").read_bytes(), format=Format.PARQUET)


@pytest.mark.parametrize("late", [0, 1], ids=["for the fast path", "for the tolerant path"])
def test_a_variant_is_refused_for_each_path_would_make_another_text_of_it(load, tmp_path, late: int) -> None:
    """The second row has a time that is no time of Iceberg: the fast path would leave the file to the other."""
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT {'a': 1}::VARIANT AS \"my data\", make_timestamp_ns(1000 + range) AS t "
            f"FROM range(1 + {late})) TO '{tmp_path}/variant.parquet' (FORMAT parquet)"
        )
    with pytest.raises(IncompatibleColumn, match=r"'my data' of .* is a variant: .* Cast it before sending"):
        load((tmp_path / "variant.parquet").read_bytes(), format=Format.PARQUET)


@pytest.mark.parametrize(
    ("kinds", "type_", "values"),
    [
        ((pa.float32(), pa.float64()), "double", [0.5, 2.0]),
        ((pa.int64(), pa.int32()), "long", [0, 2]),
        ((pa.int64(), pa.float64()), "string", ["0", "2.0"]),
        ((pa.bool_(), pa.int64()), "string", ["2", "false"]),
    ],
    ids=str,
)
def test_a_new_column_of_two_files_takes_what_both_have(load, kinds, type_: str, values: list[Any]) -> None:
    first = {pa.float32(): 0.5, pa.bool_(): False}.get(kinds[0], 0)
    files = [parquet(f=pa.array([value], kind)) for value, kind in zip((first, 2), kinds, strict=True)]
    loaded = load(*files, format=Format.PARQUET)
    assert loaded.rejects == []
    assert loaded.types["f"] == type_
    assert sorted(row["f"] for row in loaded.rows) == values


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        (FloatType(), pa.array([16777217.0]), "'16777217' is a whole number that a float can't hold exactly"),
        (FloatType(), pa.array([16777217]), "'16777217' is a whole number that a float can't hold exactly"),
        (FloatType(), pa.array(["1.5e300"]), "'1.5e300' is outside the range of a float (1.4e-45 to 3.4e38)"),
        (FloatType(), pa.array([1e-300]), "'1e-300' is outside the range of a float (1.4e-45 to 3.4e38)"),
        (FloatType(), pa.array(["12a"]), "'12a' is not a number (float)"),
        (DoubleType(), pa.array([2**53 + 1]), "'9007199254740993' is a whole number that a double can't hold exactly"),
        (DoubleType(), pa.array(["1e400"]), "'1e400' is outside the range of a double (4.9e-324 to 1.8e308)"),
    ],
    ids=str,
)
def test_why_a_number_is_set_aside_is_said_as_it_is(load, kind: IcebergType, values: Any, says: str) -> None:
    loaded = load(parquet(n=pa.array([1]), f=values), format=Format.PARQUET, schema=table(kind))
    assert [row["reason"] for row in loaded.rejects] == [says]
    if not isinstance(values[0].as_py(), float):
        assert [row["reason"] for row in load(f"n,f\n1,{values[0]}\n", schema=table(kind)).rejects] == [says]
