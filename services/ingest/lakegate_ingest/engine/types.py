"""How each Iceberg type is read from text: the rules for what fits, as DuckDB SQL, and the words for what does not.

DuckDB casts generously: '1.5' becomes the whole number 2, '2013-01-01 05:00' the date without its time,
'1e400' infinity, and a decimal loses digits. Nothing here may change a value silently, so each cast comes
with a condition under which the value counts as bad.
"""

from __future__ import annotations

from dataclasses import dataclass

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

EXACT_DOUBLE = 2**53  # whole numbers beyond it do not survive being read as a double


@dataclass(frozen=True, slots=True)
class Reading:
    """SQL templates in which {v} is the value's text (or, in `typed_*`, the value as `read_as`).

    `read_as`: the type in which the fast path reads the column (None: as text, and the text rules apply).
    `cast` gives the value, `bad` is true for a value that is there but does not fit.
    """

    sql: str
    arrow: pa.DataType
    noun: str
    cast: str
    bad: str
    read_as: str | None = None
    typed_cast: str = "{v}"
    typed_bad: str | None = None
    range: str | None = None  # said instead of `noun` about a whole number that is too large


_WHOLE_BAD = (
    "(TRY_CAST({v} AS {t}) IS NULL OR TRY_CAST({v} AS DOUBLE) IS NULL"
    " OR TRY_CAST({v} AS DOUBLE) <> trunc(TRY_CAST({v} AS DOUBLE)))"
)
_FLOAT_BAD = "(TRY_CAST({v} AS {t}) IS NULL OR (isinf(TRY_CAST({v} AS {t})) AND NOT contains(lower({v}), 'inf')))"
_TIMES_BAD = "(TRY_CAST({v} AS {t}) IS NULL OR NOT isfinite(TRY_CAST({v} AS {t})))"
_DATE_BAD = (
    "(TRY_CAST({v} AS DATE) IS NULL OR NOT isfinite(TRY_CAST({v} AS DATE))"
    " OR TRY_CAST({v} AS DATE)::TIMESTAMP IS DISTINCT FROM TRY_CAST({v} AS TIMESTAMP))"
)
_CAST = "TRY_CAST({v} AS {t})"


def _whole(sql: str, arrow: pa.DataType, noun: str, range_: str | None = None) -> Reading:
    return Reading(
        sql,
        arrow,
        noun,
        _CAST.replace("{t}", sql),
        _WHOLE_BAD.replace("{t}", sql),
        read_as="DOUBLE",  # parses as fast as BIGINT, and keeps the fraction that BIGINT would round away
        typed_cast=f"CAST({{v}} AS {sql})",
        typed_bad="{v} <> trunc({v})",
        range=range_,
    )


def _plain(sql: str, arrow: pa.DataType, noun: str, bad: str) -> Reading:
    return Reading(sql, arrow, noun, _CAST.replace("{t}", sql), bad.replace("{t}", sql), sql)


_MISSING = "(TRY_CAST({v} AS {t}) IS NULL)"
_SIMPLE: dict[type[IcebergType], Reading] = {
    StringType: Reading("VARCHAR", pa.string(), "text (string)", "{v}", "false", "VARCHAR"),
    BooleanType: _plain("BOOLEAN", pa.bool_(), "true or false (boolean)", _MISSING),
    IntegerType: _whole("INTEGER", pa.int32(), "a whole number within ±2147483647 (int)"),
    LongType: _whole("BIGINT", pa.int64(), "a whole number (long)", "beyond the range of long (±9223372036854775807)"),
    FloatType: _plain("FLOAT", pa.float32(), "a number (float)", _FLOAT_BAD),
    DoubleType: _plain("DOUBLE", pa.float64(), "a number (double)", _FLOAT_BAD),
    DateType: Reading(
        "DATE",
        pa.date32(),
        "a date like 2013-01-31 (date)",
        "TRY_CAST({v} AS DATE)",
        _DATE_BAD,
        read_as="TIMESTAMP",
        typed_cast="CAST({v} AS DATE)",
        typed_bad="CAST({v} AS DATE)::TIMESTAMP <> {v}",
    ),
    TimeType: _plain("TIME", pa.time64("us"), "a time like 23:59:00 (time)", _MISSING),
    TimestampType: _plain(
        "TIMESTAMP", pa.timestamp("us"), "a date and time like 2013-01-31 23:59:00 (timestamp)", _TIMES_BAD
    ),
    TimestamptzType: _plain(
        "TIMESTAMPTZ",
        pa.timestamp("us", tz="UTC"),
        "a date and time like 2013-01-31T23:59:00Z (timestamptz)",
        _TIMES_BAD,
    ),
    UUIDType: Reading(
        "UUID",
        pa.uuid(),
        "a UUID (uuid)",
        "unhex(replace(TRY_CAST({v} AS UUID)::VARCHAR, '-', ''))",
        "(TRY_CAST({v} AS UUID) IS NULL)",
        read_as="UUID",
    ),
}


def reading(kind: IcebergType) -> Reading | None:
    """How to read `kind` from text; None for types that text can't fill (struct, list, map, binary, fixed, variant)."""
    if isinstance(kind, DecimalType):
        return _decimal(kind.precision, kind.scale)
    return _SIMPLE.get(type(kind))


def _decimal(precision: int, scale: int) -> Reading:
    sql = f"DECIMAL({precision},{scale})"
    finer = f"DECIMAL(38,{min(38 - (precision - scale), scale + 12)})"
    bad = f"(TRY_CAST({{v}} AS {sql}) IS NULL OR TRY_CAST({{v}} AS {sql}) <> TRY_CAST({{v}} AS {finer}))"
    noun = f"a number with at most {precision - scale} digits before the point and {scale} after it (decimal)"
    return Reading(sql, pa.decimal128(precision, scale), noun, f"TRY_CAST({{v}} AS {sql})", bad)


def parquet_reading(kind: IcebergType) -> Reading | None:
    """As `reading`, and bytes too: on the tolerant path they travel as hexadecimal text."""
    return BYTES if isinstance(kind, BinaryType) else reading(kind)


BYTES = Reading("BLOB", pa.binary(), "bytes (binary)", "unhex({v})", "false", "BLOB")


# First loads: the order in which a column's type is tried; the first that fits every value is taken.
INFERRED: tuple[IcebergType, ...] = (
    BooleanType(),
    LongType(),
    DoubleType(),
    DateType(),
    TimestampType(),
    TimestamptzType(),
)
# Plain comparisons, not regular expressions: on a first load that must be widened they run over every value.
_LEADING_ZERO = "(({v} >= '00' AND {v} < '0:') OR ({v} >= '-00' AND {v} < '-0:'))"  # ':' follows '9'
_NUMBER = "TRY_CAST({v} AS DOUBLE)"
_TOO_LONG = (
    f"(abs({_NUMBER}) >= 9.2e18 AND NOT isnan({_NUMBER}) AND NOT contains({{v}}, '.')"
    " AND NOT contains(lower({v}), 'e'))"
)
_DAY = "({v} >= '0' AND {v} < ':' AND substr({v}, 5, 1) IN ('-', '/'))"
_REST = "substr({v}, 11)"
_OFFSET = f"(contains({_REST}, '+') OR contains({_REST}, '-') OR contains(upper({_REST}), 'Z'))"


def inference_tests() -> tuple[str, ...]:
    """One SQL condition on {v} for each type in INFERRED: true when a value may be of it.

    Stricter than loading: 007 stays text, 0 and 1 stay numbers, and a whole number too large for a long
    stays text, because a double would lose its last digits.
    """
    return (
        "lower({v}) IN ('true', 'false')",
        "TRY_CAST({v} AS BIGINT)::VARCHAR = trim({v})",
        f"{_NUMBER} IS NOT NULL AND NOT isinf({_NUMBER}) AND NOT {_LEADING_ZERO} AND NOT {_TOO_LONG}"
        " AND NOT contains({v}, '_')",
        f"{_DAY} AND length({{v}}) <= 10 AND NOT {_DATE_BAD}",
        f"{_DAY} AND NOT {_OFFSET} AND NOT {_TIMES_BAD.replace('{t}', 'TIMESTAMP')}",
        f"{_DAY} AND {_OFFSET} AND contains({{v}}, ':') AND NOT {_TIMES_BAD.replace('{t}', 'TIMESTAMPTZ')}",
    )


def on(template: str, value: str) -> str:
    """`template` with the SQL expression `value` for its {v}."""
    return template.replace("{v}", value)


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"
