"""The door and the worker are of one mind: what is answered 202 is not set aside afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from lakegate_chassis.problems import MAX_ERRORS
from lakegate_ingest.errors import BadRows
from lakegate_ingest.streams.backlog import Batch
from lakegate_ingest.streams.door import LIMITS, Door
from lakegate_ingest.streams.preparing import prepare
from lakegate_ingest.streams.scratch import Scratch
from lakegate_ingest.streams.shape import Shape
from lakegate_ingest.streams.tables import Known

KINDS = {
    "flag": BooleanType(), "small": IntegerType(), "large": LongType(), "real": FloatType(), "double": DoubleType(),
    "text": StringType(), "day": DateType(), "time": TimeType(), "local": TimestampType(), "at": TimestamptzType(),
    "uuid": UUIDType(), "money": DecimalType(9, 2),
}  # fmt: skip

# All of these in their combinations, each in a column of every type.
DAYS = (
    "2026-01-31", "0001-01-01", "9999-12-31", "0000-01-01", "2026-02-29", "2024-02-29", "2026-1-3", "10000-01-01",
)  # fmt: skip
BETWEEN = ("T", "t", " ", "", "_")
CLOCKS = (
    "00:00:00", "23:59:59", "23:59:60", "24:00:00", "23:59:59.999999", "23:59:59.9999999", "12:00", "12", "12:00:00.",
    "12:00:00,5", "12:00:00.1234560",
)  # fmt: skip
OFFSETS = (
    "", "Z", "z", "+00:00", "-00:00", "+02:00", "+0200", "+02", "+17:00", "-17:00", "+17:59", "-17:59", "+18:00",
    "+18:01", "-18:01", "+19:00", "-23:59", "+24:00", " UTC", " Z", "+00:60",
)  # fmt: skip
DIGITS = (
    "0", "-0", "1", "-1", "1.0", "1.5", "0.1", "0.30000000000000004", "123456789.123456789", "0.0", "-0.0",
    "0.000000000000001", f"0.{'0' * 50}1", f"-0.{'0' * 250}1", f"0.{'0' * 330}1", f"1{'0' * 20}", "9" * 40, "16777216",
    "16777217", "2147483647", "2147483648", "9007199254740991", "9007199254740993", "9223372036854775807",
    "9223372036854775808",
)  # fmt: skip
EXPONENTS = (
    "", "e0", "e1", "E5", "e+5", "e-5", "e-19", "e-20", "e-29", "e-38", "e-45", "e-46", "e-50", "E-050", "e-99",
    "e-100", "e-200", "e-308", "e-324", "e-325", "e-400", "e-0400", "e38", "e39", "e308", "e309", "e-99999999999",
)  # fmt: skip
UUIDS = (
    "6f9619ff-8b86-d011-b42d-00c04fc964ff", "6F9619FF-8B86-D011-B42D-00C04FC964FF", "6f9619ff8b86d011b42d00c04fc964ff",
    "{6f9619ff-8b86-d011-b42d-00c04fc964ff}", "6f9619ff-8b86-d011-b42d-00c04fc964f",
    "6f9619ff-8b86d011b42d-00c04fc964ff",
)  # fmt: skip
OTHERS = [
    b"null", b"true", b"false", b"True", b"NaN", b"Infinity", b"-Infinity", b"1_000", b"01", b"+1", b".5", b"1.",
    b"0x1F", b'""', b'" "', b'"1"', b'"x"', b'"true"', b'"NaN"', b'"null"', b"[]", b"[1]", b"{}", b'{"a": 1}',
    b'"a:b"', b'":"', b'"\\":"', b'"a\\":1"', b'"\\\\"', b'"\\\\\\":x"', b'"\\ud800"', b'"\\ud83d\\ude00"',
    b'"\\u0000"', b'"\\n"', b'"\t"', b'"\\x"', b'"\xff"', b'"\xed\xa0\x80"', b'"\x7f"', b'"a\x00b"', '"é"'.encode(),
    b'"2026-01-01T00:00:00\\u007a"', b'"2026-01-01\\u007400:00:00"', b'"12:00:00\\u007a"', b'"\\u0032026-01-01"',
    b'"2026-01-01T00:00:00\\u002b19:00"', b'"2026-01-01T00:00:00.123456\\u0037"', b'"12:00\\u003a00"',
    b'"000\\u0031-01-01T00:00:00+10:00"',
]  # fmt: skip
TWICE = [
    b'{"small":1,"small":2}', b'{"small":1,"smal\\u006c":2}', b'{"small" :1,"small" :2}', b'{"small"\t:1,"small":2}',
    b'{"text":":","text":"x"}', b'{"text":"a\\":","text":"x"}', b'{"text":"\\\\","text":"x"}',
    b'{"text":"x","small":null,"small":1}', b'{"small":1,"text":"x","small":1}', b'{"at":null,"at":null,"small":1}',
]  # fmt: skip
ONCE = [b'{"small" : 1, "text":":"}', b'{"text":"\\":\\":","small":1}', b'{"small":1,"text":"a\\\\"}']


def nasty() -> list[bytes]:
    times = [f"{day}{between}{clock}{offset}" for day in DAYS[:3] for between in BETWEEN for clock in CLOCKS
             for offset in OFFSETS]  # fmt: skip
    clocks = [f"{clock}{offset}" for clock, offset in itertools.product(CLOCKS, OFFSETS)]
    texts = [f'"{text}"'.encode() for text in (*DAYS, *times, *clocks, *UUIDS)]
    return [*OTHERS, *texts, *(f"{digits}{exponent}".encode() for digits in DIGITS for exponent in EXPONENTS)]


def schema_of(*names: str, required: bool = False) -> Schema:
    return Schema(*(NestedField(i, name, KINDS[name], required=required) for i, name in enumerate(names, 1)))


def set_aside(rows: Sequence[bytes], schema: Schema, folder: Path) -> list[tuple[bytes, str]]:
    """What the worker makes of records with these values."""
    batch = Batch({0: 0}, {0: len(rows)}, list(rows))
    metadata = new_table_metadata(schema, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, "file:///nowhere")
    folder.mkdir()
    done = prepare(
        batch, metadata, {}, folder, on_new_column="reject", most_row_bytes=1 << 20, most_bytes=1 << 30, limits=LIMITS
    )  # fmt: skip
    assert (done.records, done.read.unread) == (len(rows), None)
    return [(rows[reject.index], reject.reason) for reject in sorted(done.rejects, key=lambda reject: reject.index)]


@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_what_the_quick_check_takes_the_worker_takes(name: str, required: bool, tmp_path: Path) -> None:
    schema = schema_of(name, required=required)
    shape = Shape(schema)
    rows = [b'{"%s":%s}' % (name.encode(), value) for value in nasty()]
    doubted = set(shape.uncertain(rows))
    certain = [row for index, row in enumerate(rows) if index not in doubted]
    assert len(certain) >= (0 if name == "money" else 2)
    assert [row for row in certain if shape.uncertain([row])] == []  # alone as among others
    if certain:
        assert set_aside(certain, schema, tmp_path / "worker") == []


@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\x7fb", "", "x" * 256, "a.b", "\u00df"], ids=ascii)
def test_a_column_of_any_name_costs_nobody_the_other_columns(name: str, required: bool, tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "small", IntegerType(), True), NestedField(2, name, StringType(), required))
    rows = [msgspec.json.encode(row) for row in ({"small": 1}, {"small": 2, name: "x"})]
    doubted = Shape(schema).uncertain(rows)
    aside = [row for row, _ in set_aside(rows, schema, tmp_path / "worker")]
    assert not {row for place, row in enumerate(rows) if place not in doubted} & set(aside)
    assert (rows[0] in aside) == required
    assert (rows[1] in aside) == (name in ("a\nb", "a\x7fb", "", "x" * 256))


def test_ordinary_rows_are_certain() -> None:
    rows = [
        b'{"large":71,"double":10.142857142857142,"at":"2026-01-01T05:17:00.250000Z","text":"some words"}',
        b'{"large": 71, "double": 1e-05, "local": "2026-01-01 05:17:00", "text": "at 05:17: \\u00e9t\\u00e9 t12:00"}',
        b'{"double":0.0,"at":"9999-12-31T23:59:59Z","uuid":"6f9619fe-8666-d011-b42d-00c04fc964ff","text":"\\"a\\":"}',
        b'{"flag":null,"real":0.1,"day":"0001-01-01","time":"23:59:59.999999","at":"2026-01-01T00:00:00+05:30"}',
    ]
    assert Shape(schema_of(*KINDS)).uncertain(rows) == []


async def test_the_door_refuses_just_what_the_worker_sets_aside(tmp_path: Path) -> None:
    schema = schema_of(*KINDS)
    values = [*OTHERS, b"1e-50", b"1e-400", f"0.{'0' * 330}1".encode(), b"1.5", b'"0001-01-01T00:00:00+17:00"',
              b'"9999-12-31T23:59:59-17:00"', b'"2026-01-01t00:00:00"', b'"2026-01-01T00:00:00z"', b'"12:00:00+02:00"',
              b'"2026-01-01T00:00:00Z"', b'"2026-01-01"']  # fmt: skip
    rows = [b'{"%s":%s}' % (name.encode(), value) for name in KINDS for value in values]
    rows += (
        TWICE + ONCE + [b"{}", b"[]", b'{"new":1}', b'{"small":1,"new":1}', b'{"SMALL":1}', b'{"small":1,"SMALL":2}']
    )
    refused: list[bytes] = []
    scratch = Scratch(tmp_path / "scratch")
    with ThreadPoolExecutor(1) as threads:
        door = Door(threads, scratch, judges=1)
        for part in (rows[start : start + MAX_ERRORS] for start in range(0, len(rows), MAX_ERRORS)):
            try:
                await door.check(part, Known(Shape(schema), len(KINDS)), "reject")
            except BadRows as problem:
                refused += [part[int(str(error.pointer).split("/")[1])] for error in problem.errors]
    scratch.close()
    aside = [row for row, _ in set_aside(rows, schema, tmp_path / "worker")]
    assert refused == aside
    assert set(TWICE) <= set(aside)
    assert not set(ONCE) & set(aside)
