"""A time is at the instant that is written: a zone says when its own value was, and nothing about the next one."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType, TimestampType, TimestamptzType

from lakegate_ingest.engine import Format

ZONED = Schema(NestedField(1, "n", LongType(), required=False), NestedField(2, "at", TimestamptzType(), required=False))
NOON = datetime(2013, 1, 31, 12, tzinfo=UTC)


def records(format: Format, *texts: str) -> str:
    if format is Format.CSV:
        return "n,at\n" + "".join(f"{n},{text}\n" for n, text in enumerate(texts))
    return "".join(json.dumps({"n": n, "at": text}) + "\n" for n, text in enumerate(texts))


@pytest.mark.parametrize("format", [Format.CSV, Format.NDJSON])
@pytest.mark.parametrize(
    "text",
    [
        "2013-01-31 12:00:00 America/New_York",
        "2013-01-31 12:00:00 EST",
        "2013-01-31 12:00:00 Etc/GMT+5",
        "2013-01-31 12:00:00 UTC+5",
        "2013-01-31 12:00:00+19:00",
        "2013-01-31 12:00:00-18:01",
        "2013-01-31T12:00:00+99:99",
        "2013-01-31T12:00:00+02:60",
    ],
)
def test_a_named_zone_or_one_too_far_off_is_set_aside_and_moves_no_other_time(load, format: Format, text: str) -> None:
    loaded = load(
        records(format, "2013-01-31 12:00:00", text, "2013-01-31 12:00:00", "2013-01-31", "2013-01-31T12:00:00Z"),
        format=format,
        schema=ZONED,
    )
    assert [row["at"] for row in loaded.rows] == [NOON, NOON, NOON.replace(hour=0), NOON]
    assert [row["value"] for row in loaded.rejects] == [text]
    assert loaded.result.path == "tolerant"


@pytest.mark.parametrize("format", [Format.CSV, Format.NDJSON])
@pytest.mark.parametrize(("late", "path"), [((), "typed"), (("x",), "tolerant")])
def test_an_offset_counts_for_its_own_time_alone(load, format: Format, late: tuple[str, ...], path: str) -> None:
    texts = [
        "2013-01-31T14:00:00+02:00",
        "2013-01-31 12:00:00",
        "2013-01-31 12:00:00 UTC",
        "2013-01-31 12:00:00 GMT",
        "2013-01-31T17:30:00+05:30",
        "2013-01-31 02:00:00-10",
        "2013-01-31T12:00:00",
        "2013-01-30 18:00:00-18:00",
        "2013-01-31 12:00:00+00",
    ]
    loaded = load(records(format, *texts, *late), format=format, schema=ZONED)
    assert [row["at"] for row in loaded.rows] == [NOON] * len(texts)
    assert loaded.result.path == path


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("2013-01-31 12:00:00 UTC", "timestamptz"),
        ("2013-01-31 12:00:00 GMT", "timestamptz"),
        ("2013-01-31 12:00:00Z", "timestamptz"),
        ("2013-01-31 12:00:00 Europe/Zurich", "string"),
        ("2013-01-31 12:00:00 EST", "string"),
        ("2013-01-31 12:00:00+19:00", "string"),
        ("2013-01-31T12:00:00", "timestamp"),
    ],
)
@pytest.mark.parametrize("format", [Format.CSV, Format.NDJSON])
def test_what_stands_behind_a_time_decides_the_type_of_a_new_column(load, format: Format, text: str, kind: str) -> None:
    for texts in ([text], [text] * 3):
        loaded = load(records(format, *texts), format=format)
        assert loaded.types["at"] == kind
        assert loaded.result.rows_quarantined == 0


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("2013-01-31 12:00:00 UTC", True),
        ("2013-01-31 12:00:00Z", True),
        ("2013-01-31 12:00:00-00:00", True),
        ("2013-01-31 12:00:00+02", False),
        ("2013-01-31 12:00:00 EST", False),
    ],
)
@pytest.mark.parametrize("late", ["", "x"])
def test_a_time_without_a_zone_takes_none_but_utc(load, text: str, fits: bool, late: str) -> None:
    schema = Schema(
        NestedField(1, "n", LongType(), required=False),
        NestedField(2, "at", TimestampType(), required=False),
        NestedField(3, "s", StringType(), required=False),
    )
    loaded = load(f"n,at,s\n1,{text},a\n" + (f"{late},,b\n" if late else ""), schema=schema)
    assert [row["at"] for row in loaded.rows] == ([datetime(2013, 1, 31, 12)] if fits else [])
