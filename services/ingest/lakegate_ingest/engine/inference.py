"""Which types a column's values allow, by looking at a sample or, when the sample misled, at all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from lakegate_ingest.engine.batch import Batch
from lakegate_ingest.engine.duck import Session
from lakegate_ingest.engine.types import INFERRED, inference_tests, on

# How the JSON of a value begins for the type at the same place in INFERRED: "12" stays text, 12 is a number.
_JSON_KINDS = (
    "IN ('t', 'f')",
    "BETWEEN '-' AND '9'",
    "BETWEEN '-' AND '9'",
    "= '\"'",
    "= '\"'",
    "= '\"'",
)


@dataclass(slots=True)
class Evidence:
    """Of one column: which of INFERRED every value seen so far allows."""

    name: str
    values: int = 0
    allows: list[bool] = field(default_factory=lambda: [True] * len(INFERRED))

    def add(self, values: int, allows: Sequence[bool | None]) -> None:
        self.values += values
        self.allows = [old and new is not False for old, new in zip(self.allows, allows, strict=True)]

    def merge(self, other: Evidence) -> None:
        self.values += other.values
        self.allows = [old and new for old, new in zip(self.allows, other.allows, strict=True)]

    @property
    def kind(self) -> IcebergType:
        """The narrowest type that holds every value; text when there was none."""
        if self.values:
            for kind, allowed in zip(INFERRED, self.allows, strict=True):
                if allowed:
                    return kind
        return StringType()


def study(
    batch: Batch,
    names: Sequence[str],
    session: Session,
    known: Mapping[str, Evidence] | None = None,
) -> list[Evidence]:
    """Evidence for each of `names`, which are the columns c0, c1, … of the batch (and k0, k1, … for JSON).

    What `known` rules out already is not tested again: most columns cost nothing after the first block.
    """
    found = [Evidence(name) for name in names]
    if not names or not batch.table.num_rows:
        return found
    alike: dict[tuple[bool, ...], list[int]] = {}
    for position, evidence in enumerate(found):
        before = known.get(evidence.name) if known else None
        allowed = before.allows if before is not None and before.values else evidence.allows
        alike.setdefault(tuple(allowed), []).append(position)
    for possible, positions in alike.items():
        answers = session.ask(_statement(batch.table, possible), "texts", _stacked(batch.table, positions))
        for position, values, *allows in zip(*answers.to_pydict().values(), strict=True):
            found[position].add(values, allows)
    return found


def _stacked(table: pa.Table, positions: Sequence[int]) -> pa.Table:
    """The columns one below the other, without a copy: one short statement looks at a thousand as at one. A statement
    with conditions for each of them would take seconds to plan."""
    rows = table.num_rows
    place = [pa.repeat(pa.scalar(position, pa.int32()), rows) for position in positions]
    stacked: dict[str, Any] = {"position": pa.chunked_array(place)}
    for letter in _letters(table):
        chunks = [chunk for position in positions for chunk in table[f"{letter}{position}"].chunks]
        stacked[letter] = pa.chunked_array(chunks, table[f"{letter}{positions[0]}"].type)
    return pa.table(stacked)


def _letters(table: pa.Table) -> str:
    return "ck" if "k0" in table.column_names else "c"


def _statement(table: pa.Table, possible: Sequence[bool]) -> str:
    tests = []
    for test, kinds, maybe in zip(inference_tests(), _JSON_KINDS, possible, strict=True):
        guard = f"k {kinds} AND " if "k" in _letters(table) else ""
        tests.append(
            f"bool_and(CASE WHEN c IS NOT NULL THEN coalesce({guard}{on(test, 'c')}, false) END)" if maybe else "false"
        )
    allows = ", ".join(f"{test} AS allows{place}" for place, test in enumerate(tests))
    return f"SELECT position, count(c) AS filled, {allows} FROM texts GROUP BY position"


def kind_of_arrow(kind: pa.DataType) -> IcebergType:
    """The Iceberg type for a Parquet column that the table lacks; nested ones become JSON text."""
    if pa.types.is_dictionary(kind):
        return kind_of_arrow(kind.value_type)
    if pa.types.is_timestamp(kind):
        return TimestamptzType() if kind.tz else TimestampType()
    if pa.types.is_decimal(kind) and kind.precision <= 38:
        return DecimalType(kind.precision, kind.scale)
    for matches, result in _ARROW:
        if matches(kind):
            return result
    return StringType()


def is_bytes(kind: pa.DataType) -> bool:
    plain = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    return bool(plain or pa.types.is_fixed_size_binary(kind))


def _is_int(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind)) and kind.bit_width <= 32 and kind != pa.uint32()


_ARROW = (
    (pa.types.is_boolean, BooleanType()),
    (_is_int, IntegerType()),
    (lambda kind: kind == pa.uint64(), DecimalType(20, 0)),
    (pa.types.is_integer, LongType()),
    (lambda kind: kind in (pa.float16(), pa.float32()), FloatType()),
    (pa.types.is_floating, DoubleType()),
    (pa.types.is_date, DateType()),
    (pa.types.is_time, TimeType()),
    (lambda kind: kind == pa.uuid(), UUIDType()),
    (is_bytes, BinaryType()),
)
