"""A value is in the table as it was written, or it is set aside: no rounding on the way, by either path."""

from __future__ import annotations

import io
from datetime import datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from lakegate_ingest.engine import Format, IncompatibleColumn


def table(kind: IcebergType) -> Schema:
    return Schema(NestedField(1, "n", LongType(), required=False), NestedField(2, "f", kind, required=False))


def parquet(values: pa.Array) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"n": pa.array(range(len(values)), pa.int64()), "f": values}), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (LongType(), "9007199254740993.5", None),
        (LongType(), "9223372036854775000.4", None),
        (LongType(), "0.9999999999999999999999", None),
        (LongType(), "-9223372036854775808.3", None),
        (LongType(), "12e-1", None),
        (LongType(), "123456789012345678.0", 123456789012345678),
        (LongType(), "1e3", 1000),
        (LongType(), "+07", 7),
        (DoubleType(), "9007199254740993", None),
        (DoubleType(), "12345678901234567890", None),
        (DoubleType(), "1" + "0" * 40, None),
        (DoubleType(), "1180591620717411303424", 2.0**70),
        (DoubleType(), "1e40", 1e40),
        (DoubleType(), "1e-400", None),
        (DoubleType(), "0.0e-400", 0.0),
        (FloatType(), "16777217", None),
        (FloatType(), "16777218", 16777218.0),
        (FloatType(), "1e-46", None),
        (TimeType(), "epoch", None),
        (TimeType(), "12:00:00 EST", None),
        (TimeType(), "12:00:00 UTC", time(12)),
        (DecimalType(38, 10), "0.12345678901", None),
        (DecimalType(38, 10), "12345678901234567890.1234567890", Decimal("12345678901234567890.1234567890")),
        (DecimalType(38, 2), "1.234", None),
        (DecimalType(38, 2), "1e-3", None),
        (DecimalType(10, 2), "1.2300000000000000000001", None),
        (DecimalType(10, 2), "1.2300000000000000000000", Decimal("1.23")),
        (DecimalType(10, 2), "123e-2", Decimal("1.23")),
        (DecimalType(18, 9), "-12.09505005000099599e8", None),  # DuckDB loses the last digit of it
    ],
    ids=str,
)
@pytest.mark.parametrize("late", ["", "x"])
def test_a_number_of_csv_is_exact_or_set_aside(load, kind: IcebergType, text: str, value: Any, late: str) -> None:
    """With a row that does not fit, for the tolerant path."""
    loaded = load(f"n,f\n1,{text}\n" + (f"{late},\n" if late else ""), schema=table(kind))
    assert [row["f"] for row in loaded.rows] == ([value] if value is not None else [])
    assert loaded.result.path == ("typed" if value is not None and not late else "tolerant")


@pytest.mark.parametrize(
    ("kind", "text", "value", "path"),
    [
        (LongType(), "123456789012345678.0", 123456789012345678, "tolerant"),
        (LongType(), "9007199254740993.5", None, "tolerant"),
        (DecimalType(10, 2), "12.34", Decimal("12.34"), "typed"),
        (
            DecimalType(38, 10),
            "12345678901234567890.1234567890",
            Decimal("12345678901234567890.1234567890"),
            "tolerant",
        ),
        (DecimalType(38, 10), "12.3400000000000000001", None, "tolerant"),
        (StringType(), "1e5", "1e5", "tolerant"),
        (StringType(), "1.10", "1.10", "tolerant"),
        (StringType(), '"1.1"', "1.1", "typed"),
        (StringType(), '"NaN"', "NaN", "typed"),
        (StringType(), "12345678901234567890", "12345678901234567890", "typed"),
        (StringType(), "NaN", None, "tolerant"),
        (DoubleType(), "NaN", None, "tolerant"),
        (DoubleType(), "9007199254740993", None, "tolerant"),
        (DoubleType(), "123456789012345678901", None, "tolerant"),
        (DoubleType(), "1152921504606846976", 2.0**60, "tolerant"),
        (DoubleType(), "1e20", 1e20, "tolerant"),
        (FloatType(), "16777217", None, "tolerant"),
        (FloatType(), "16777218", 16777218.0, "typed"),
        (LongType(), "1e-400", None, "tolerant"),
        (DoubleType(), "1e-400", None, "tolerant"),
        (DoubleType(), "-1E-0400", None, "tolerant"),
        (DoubleType(), '"1e-400"', None, "tolerant"),
        (DoubleType(), f"0.{'0' * 330}1", None, "tolerant"),
        (DoubleType(), "2e-324", None, "tolerant"),
        (DoubleType(), "5e-324", 5e-324, "tolerant"),
        (DoubleType(), "0e-400", 0.0, "tolerant"),
        (DoubleType(), "1e-99", 1e-99, "typed"),
        (DoubleType(), "-0.0", 0.0, "typed"),
        (FloatType(), "1e-400", None, "tolerant"),
        (FloatType(), f"-0.{'0' * 330}1", None, "tolerant"),
        (DecimalType(10, 2), "1e-400", None, "tolerant"),
        (DecimalType(10, 2), "15e-1", Decimal("1.5"), "typed"),
    ],
    ids=str,
)
@pytest.mark.parametrize("format", [Format.NDJSON, Format.JSON])
def test_a_number_of_json_is_exact_or_set_aside(
    load, format: Format, kind: IcebergType, text: str, value: Any, path: str
) -> None:
    line = f'{{"n": 1, "f": {text}}}'
    loaded = load(f"[{line}]" if format is Format.JSON else line + "\n", format=format, schema=table(kind))
    assert [row["f"] for row in loaded.rows] == ([value] if value is not None else [])
    assert loaded.result.path == path


@pytest.mark.parametrize("word", ["NaN", "nan", "INF", "-inf", "-iNfInItY"])
@pytest.mark.parametrize("kind", [FloatType(), DoubleType(), StringType(), LongType()], ids=str)
def test_a_word_that_is_no_json_is_set_aside_whatever_the_column(load, word: str, kind: IcebergType) -> None:
    loaded = load(f'{{"n": 1, "f": {word}}}\n', format=Format.NDJSON, schema=table(kind))
    assert loaded.rows == []
    assert loaded.rejects[0]["reason"] == "the line is not valid JSON"


@pytest.mark.parametrize("value", ['{"a": [1, NaN]}', "[inf]", '[{"a":-Infinity}]'])
def test_nor_is_it_json_within_an_object(load, value: str) -> None:
    loaded = load(f'{{"f": {value}}}\n{{"f": "x"}}\n', format=Format.NDJSON, schema=table(StringType()))
    assert [row["f"] for row in loaded.rows] == ["x"]
    assert loaded.rejects[0]["reason"] == "the line is not valid JSON"


@pytest.mark.parametrize("kind", [FloatType(), DoubleType(), StringType()], ids=str)
@pytest.mark.parametrize("late", ["", "nan"])
def test_the_same_word_in_quotes_is_a_text_and_a_number(load, kind: IcebergType, late: str) -> None:
    lines = '{"n": 1, "f": "inf"}\n' + (f'{{"f": {late}}}\n' if late else "")
    loaded = load(lines, format=Format.NDJSON, schema=table(kind))
    assert [str(row["f"]) for row in loaded.rows] == ["inf"]
    assert [row["reason"] for row in loaded.rejects] == (["the line is not valid JSON"] if late else [])


@pytest.mark.parametrize("late", ["", "nan"])
def test_an_object_that_only_speaks_of_such_words_is_kept(load, late: str) -> None:
    values = ['{"a":"x,nan"}', '["nancy","inf"]', '"{,nan"']
    lines = "".join(f'{{"n": 1, "f": {value}}}\n' for value in [*values, *filter(None, [late])])
    loaded = load(lines, format=Format.NDJSON, schema=table(StringType()))
    assert [row["f"] for row in loaded.rows] == ['{"a":"x,nan"}', '["nancy","inf"]', "{,nan"]


def test_a_text_beside_one_that_looks_like_a_number_keeps_its_escapes_and_nulls(load) -> None:
    values = ['"1.5"', '"\\u00e9 \\"q\\""', "null", '{"a":[1]}']
    lines = "".join(f'{{"n": 1, "f": {value}}}\n' for value in values)
    loaded = load(lines, format=Format.NDJSON, schema=table(StringType()))
    assert [row["f"] for row in loaded.rows] == ["1.5", 'é "q"', None, '{"a":[1]}']
    assert loaded.result.path == "typed"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (DateType(), "10000-01-01"),
        (DateType(), "-0044-01-01"),
        (DateType(), "epoch"),
        (TimestampType(), "12024-01-01 00:00:00"),
        (TimestampType(), "0044-03-15 (BC) 00:00:00"),
        (TimestamptzType(), "9999-12-31 23:59:59-05"),
        (TimeType(), "24:00:00"),
    ],
    ids=str,
)
def test_a_day_beyond_the_years_1_to_9999_is_set_aside(load, kind: IcebergType, text: str) -> None:
    loaded = load(f"n,f\n1,{text}\n", schema=table(kind))
    assert loaded.rows == []
    assert f"'{text}' is not a" in loaded.rejects[0]["reason"]
    first = load(f"n,f\n1,{text}\n2,x\n")  # as text, when the type is guessed
    assert [row["f"] for row in first.rows] == [text, "x"]


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.timestamp("ms")], ids=str)
def test_a_timestamp_of_parquet_beyond_the_year_9999_is_set_aside(load, kind: pa.DataType) -> None:
    factor = 1000 if pa.types.is_timestamp(kind) and kind.unit == "us" else 1
    data = parquet(pa.array([253402300800000 * factor, 0], pa.int64()).cast(kind))
    for schema in (None, table(TimestamptzType() if kind.tz else TimestampType())):
        loaded = load(data, format=Format.PARQUET, schema=schema)
        assert [row["f"].replace(tzinfo=None) for row in loaded.rows] == [datetime(1970, 1, 1)]
        assert "10000-01-01" in loaded.rejects[0]["value"]


@pytest.mark.parametrize(("kind", "first"), [(DoubleType(), 2**53 + 1), (FloatType(), 2**24 + 1)], ids=str)
def test_a_whole_number_of_parquet_is_not_rounded_to_a_fraction(load, kind: IcebergType, first: int) -> None:
    loaded = load(parquet(pa.array([first, 2**60, 3], pa.int64())), format=Format.PARQUET, schema=table(kind))
    assert [row["f"] for row in loaded.rows] == [2**60, 3]
    assert "can't hold exactly" in loaded.rejects[0]["reason"]


@pytest.mark.parametrize("place", [0, 200_000])
@pytest.mark.parametrize("format", [Format.CSV, Format.NDJSON])
def test_whole_numbers_that_a_double_would_round_make_a_column_text(load, format: Format, place: int) -> None:
    head, line = ("n,f\n", "1,{}\n") if format is Format.CSV else ("", '{{"n":1,"f":{}}}\n')
    rows = line.format("1.5") * (place + 1)
    loaded = load(head + rows + line.format("9007199254740993"), format=format)
    assert loaded.types["f"] == "string"
    assert loaded.rows[-1]["f"] == "9007199254740993"


@pytest.mark.parametrize(
    ("text", "place"), [("+491512345678", 0), ("+491512345678", 100_000), (" 007", 0), (" -007", 1)]
)
def test_a_number_that_a_guess_would_rewrite_makes_a_column_text(load, text: str, place: int) -> None:
    loaded = load("n,f\n" + "1,12345678\n" * place + f"1,{text}\n")
    assert loaded.types["f"] == "string"
    assert loaded.rows[-1]["f"] == text


def test_an_escaped_letter_hides_no_true_from_the_count(load) -> None:
    schema = Schema(
        NestedField(1, "v", DoubleType(), required=False), NestedField(2, "b", BooleanType(), required=False)
    )
    for escaped in ("\\u0074rue", "tru\\u0065"):
        loaded = load(
            f'{{"v": true, "b": "{escaped}"}}\n{{"v": 1.5, "b": true}}\n', format=Format.NDJSON, schema=schema
        )
        assert [row["v"] for row in loaded.rows] == [1.5]
        assert "'true' is not a number" in loaded.rejects[0]["reason"]


def test_a_duration_of_parquet_is_refused_for_tables_have_none(load) -> None:
    for kind in (pa.duration("s"), pa.list_(pa.duration("us"))):
        with pytest.raises(IncompatibleColumn, match="no type for a duration"):
            load(parquet(pa.array([None], kind)), format=Format.PARQUET)
