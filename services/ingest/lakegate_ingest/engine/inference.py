"""Which types a column's values allow, by looking at a sample or, when the sample misled, at all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
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
    connection: duckdb.DuckDBPyConnection,
    known: Mapping[str, Evidence] | None = None,
) -> list[Evidence]:
    """Evidence for each of `names`, which are the columns c0, c1, … of the batch (and k0, k1, … for JSON).

    What `known` rules out already is not tested again: most columns cost nothing after the first block.
    """
    found = [Evidence(name) for name in names]
    if not names or not batch.table.num_rows:
        return found
    tests = inference_tests()
    typed = "k0" in batch.table.column_names
    connection.register("batch", batch.table)
    for start in range(0, len(names), 50):  # hundreds of aggregates in one statement take seconds to plan
        some = found[start : start + 50]
        aggregates = []
        for position, evidence in enumerate(some, start):
            value = f"c{position}"
            before = known.get(evidence.name) if known else None
            allowed = before.allows if before is not None and before.values else evidence.allows
            aggregates.append(f"count({value})")
            for test, kinds, possible in zip(tests, _JSON_KINDS, allowed, strict=True):
                guard = f"k{position} {kinds} AND " if typed else ""
                condition = (
                    f"bool_and(CASE WHEN {value} IS NOT NULL THEN coalesce({guard}{on(test, value)}, false) END)"
                )
                aggregates.append(condition if possible else "false")
        row = connection.execute(f"SELECT {', '.join(aggregates)} FROM batch").fetchone()
        assert row is not None
        width = len(tests) + 1
        for place, evidence in enumerate(some):
            values, *allows = row[place * width : (place + 1) * width]
            evidence.add(values, allows)
    connection.unregister("batch")
    return found


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
