"""What DuckDB takes, skips or says in ways of its own: no value is bent by it, and no load fails for it."""

from __future__ import annotations

import json

import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import (
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from lakegate_ingest import engine
from lakegate_ingest.engine import Format

GOOD = 2000  # rows of a sample, so that a type is guessed before the odd one is seen


def table(**columns: IcebergType) -> Schema:
    fields = [NestedField(place, name, kind, required=False) for place, (name, kind) in enumerate(columns.items(), 1)]
    return Schema(*fields)


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


# ---- a record that DuckDB quotes in an error, cut within a character ----


@pytest.mark.parametrize("shift", range(6))
@pytest.mark.parametrize("format", [Format.NDJSON, Format.JSON])
def test_text_of_several_bytes_a_character_and_a_key_that_is_missing(load, format: Format, shift: int) -> None:
    names = [
        "x" * shift + "東京都千代田区丸の内一丁目九番一号東京駅構内総合案内所",
        "大阪府大阪市北区梅田三丁目一番一号大阪駅構内総合案内所",
    ]
    records = [{"id": 1, "name": names[0], "note": "x"}, {"id": 2, "name": names[1]}]
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    text = "\n".join(lines) if format is Format.NDJSON else "[" + ",".join(lines) + "]"
    loaded = load(text, format=format)
    assert loaded.rejects == []
    assert sorted((row["id"], row["name"], row["note"]) for row in loaded.rows) == [
        (1, names[0], "x"),
        (2, names[1], None),
    ]


@pytest.mark.parametrize("shift", range(6))
@pytest.mark.parametrize(
    "bad",
    [
        '{"n": "東京都千代田区丸の内一丁目九番一号東京駅構内総合案内所"}',
        '{"n": 東京都千代田区丸の内一丁目九番一号東京駅構内}',
    ],
)
def test_a_bad_record_of_several_bytes_a_character_is_set_aside(load, bad: str, shift: int) -> None:
    loaded = load(f'{{"n": 1.5}}\n{" " * shift}{bad}\n', format=Format.NDJSON, schema=table(n=DoubleType()))
    assert [row["n"] for row in loaded.rows] == [1.5]
    assert [row["line"] for row in loaded.rejects] == [2]


# ---- values that say what errors say ----


@pytest.mark.parametrize(
    "said", ["No space left on device", "File too large", "Disk quota exceeded", "a text may be a number"]
)
@pytest.mark.parametrize("format", [Format.CSV, Format.NDJSON])
def test_a_value_that_reads_like_an_error_is_a_value(load, format: Format, said: str) -> None:
    text = f"id,n\n1,5\n2,{said}\n" if format is Format.CSV else f'{{"id":1,"n":5}}\n{{"id":2,"n":"{said}"}}\n'
    loaded = load(text, format=format, schema=table(id=LongType(), n=LongType()))
    assert [row["id"] for row in loaded.rows] == [1]
    assert [(row["line"], row["value"]) for row in loaded.rejects] == [(3 if format is Format.CSV else 2, said)]


# ---- quotes behind spaces ----


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("bad", [False, True], ids=["in a clean file", "beside a bad row"])
def test_a_row_is_read_the_same_whatever_else_is_in_the_file(load, delimiter: str, bad: bool) -> None:
    rows = [["id", "name", "n"], ["1", f' "Smith{delimiter} John"', "5"], ["2", ' "x"', "6"], ["3", '"a "', "7"]]
    text = "\n".join(delimiter.join(row) for row in rows + ([["4", "y", "bad"]] if bad else [])) + "\n"
    schema = table(id=LongType(), name=StringType(), n=LongType())
    loaded = load(text, schema=schema, options={"delimiter": delimiter})
    assert sorted((row["id"], row["name"]) for row in loaded.rows) == [(2, ' "x"'), (3, "a ")]
    assert [row["line"] for row in loaded.rejects] == ([2, 5] if bad else [2])


# ---- numbers ----


@pytest.mark.parametrize("text", ["- ", "+ ", "-  ", "1e ", "3E ", "1e0_1", "0x1F", "1_000"])
@pytest.mark.parametrize("kind", [LongType(), IntegerType(), DecimalType(9, 0), DecimalType(9, 2)], ids=str)
@pytest.mark.parametrize("format", [Format.CSV, Format.NDJSON])
def test_what_is_no_number_is_none(load, kind: IcebergType, text: str, format: Format) -> None:
    body = f"id,n\n1,5\n2,{quoted(text)}\n" if format is Format.CSV else f'{{"id":1,"n":5}}\n{{"id":2,"n":"{text}"}}\n'
    loaded = load(body, format=format, schema=table(id=LongType(), n=kind))
    assert [row["id"] for row in loaded.rows] == [1]
    assert [row["value"] for row in loaded.rejects] == [text]


@pytest.mark.parametrize(
    ("text", "number"), [("1.", 1), ("1e2", 100), ("+7", 7), (" 5 ", 5), ("15e1", 150), ("-0", 0), (".0", 0)]
)
def test_a_number_in_other_words_is_that_number(load, text: str, number: int) -> None:
    for kind in (LongType(), IntegerType(), DecimalType(9, 2)):
        loaded = load(f"id,n\n1,{quoted(text)}\n", schema=table(id=LongType(), n=kind))
        assert [row["n"] for row in loaded.rows] == [number], kind


@pytest.mark.parametrize("text", ["+-.5", "nan(1)", "+ -1", "1_0.5"])
@pytest.mark.parametrize("kind", [DoubleType(), FloatType()], ids=str)
def test_what_is_no_fraction_is_none(load, kind: IcebergType, text: str) -> None:
    loaded = load(f"id,n\n1,1.5\n2,{quoted(text)}\n", schema=table(id=LongType(), n=kind))
    assert [row["id"] for row in loaded.rows] == [1]
    assert [row["value"] for row in loaded.rejects] == [text]


def test_a_sign_alone_does_not_become_0_in_a_column_that_was_guessed(load) -> None:
    loaded = load("id,v\n" + "1,5\n" * GOOD + '2,"- "\n')
    assert loaded.types["v"] == "string"
    assert [row["v"] for row in loaded.rows if row["id"] == 2] == ["- "]


def test_a_number_too_small_for_a_double_makes_a_guessed_column_text(load) -> None:
    loaded = load("v\n" + "1.5\n" * GOOD + "1e-400\n")
    assert loaded.types["v"] == "string"
    assert loaded.rejects == []


# ---- dates and times ----


@pytest.mark.parametrize(
    "text", ["2024-1-1T9", "2024-1-1 9", "2024-1-1PM", "2024-1-1 x", "24-1-1T9:3", "20-4-03-05", "2024-01-01 10:00"]
)
def test_a_date_with_something_behind_it_is_set_aside(load, text: str) -> None:
    loaded = load(f"id,d\n1,2024-01-31\n2,{text}\n", schema=table(id=LongType(), d=DateType()))
    assert [row["id"] for row in loaded.rows] == [1]
    assert [row["value"] for row in loaded.rejects] == [text]


@pytest.mark.parametrize("text", ["2024-1-31", "2024/01/31", "2024-01-31 00:00:00", "2024-01-31T00:00:00Z"])
def test_a_date_in_other_words_is_that_date(load, text: str) -> None:
    loaded = load(f"d\n{text}\n", schema=table(d=DateType()))
    assert [str(row["d"]) for row in loaded.rows] == ["2024-01-31"]


def test_dates_that_are_times_later_make_a_guessed_column_one_of_times(load) -> None:
    loaded = load("d\n" + "2024-1-1\n" * GOOD + "2024-1-1 9:30\n")
    assert loaded.types["d"] == "timestamp"
    assert str(loaded.rows[-1]["d"]) == "2024-01-01 09:30:00"


@pytest.mark.parametrize(
    "text",
    [
        "10:00:00PM",
        "10:00:00,5",
        "2024 01 02",
        "10:00:00.5PM",
        "10:00:0x",
        "10:00:00Zx",
        "10:00 x",
        "epoch",
        "10:00:00+02",
    ],
)
def test_a_time_with_something_behind_it_is_set_aside(load, text: str) -> None:
    loaded = load(f"id,t\n1,10:00:00\n2,{quoted(text)}\n", schema=table(id=LongType(), t=TimeType()))
    assert [row["id"] for row in loaded.rows] == [1]
    assert [row["value"] for row in loaded.rejects] == [text]


@pytest.mark.parametrize(
    ("text", "time"),
    [("9:05", "09:05:00"), ("10:00:00Z", "10:00:00"), ("10:00:00 UTC", "10:00:00"), ("10:00:00.25", "10:00:00.250000")],
)
def test_a_time_in_other_words_is_that_time(load, text: str, time: str) -> None:
    loaded = load(f"t\n{text}\n", schema=table(t=TimeType()))
    assert [str(row["t"]) for row in loaded.rows] == [time]


# ---- files without a row ----


@pytest.mark.parametrize(
    ("format", "text", "says"),
    [
        (Format.CSV, "a\n\n\n", "no row under the header"),
        (Format.NDJSON, "hello\nworld\n", "is a JSON object"),
        (Format.NDJSON, "{}\n{}\n", "is a JSON object"),
        (Format.JSON, "[1, 2]", "is a JSON object"),
    ],
)
def test_a_file_without_a_row_is_told_what_it_lacks(load, format: Format, text: str, says: str) -> None:
    with pytest.raises(engine.HeaderOnly, match=says):
        load(text, format=format)


@pytest.mark.parametrize("kind", [DateType(), TimestampType(), TimestamptzType()], ids=str)
@pytest.mark.parametrize("day", ["13-01-31", "  13-01-31", "213-1-31", "02013-01-31"])
@pytest.mark.parametrize("beside", ["2013-01-31 00:00:00", "bad"])
def test_a_year_has_four_digits(load, kind: IcebergType, day: str, beside: str) -> None:
    loaded = load(f'id,d\n1,0987-01-31 00:00:00\n2,"{day} 00:00:00"\n3,{beside}\n', schema=table(id=LongType(), d=kind))
    assert [row["d"].year for row in loaded.rows if row["id"] != 3] == [987]
    assert loaded.rejects[0]["value"] == f"{day} 00:00:00"
