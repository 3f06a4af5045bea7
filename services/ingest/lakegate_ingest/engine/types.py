"""How each Iceberg type is read from text: the rules for what fits, as DuckDB SQL, and the words for what does not.

DuckDB casts generously: '1.5' becomes the whole number 2, '1_000' a thousand, '2013-01-01 05:00' the date without its
time, '1e400' infinity; a time loses its offset and what is finer than a microsecond, and a decimal its digits. So each
cast comes with a condition under which the value counts as bad; docs/decisions/0009 lists what changes all the same.
Midnight written as 24:00:00 is no change: that is the next day's 00:00:00, as ISO 8601 has it.
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


@dataclass(frozen=True, slots=True)
class Reading:
    """SQL templates, in which {v} is the value's text and {p} what `parsed` made of it.

    `parsed` is evaluated once for a value; {c} in it is CAST where the first failure ends all (the fast path), TRY_CAST
    where every value is judged. `value` is what the table gets. `odd` is true for a text that parses but does not fit.
    `rounded` is true for text which a type that was only guessed would change: 007 as a number. Both are asked only of
    values for which `unlike` is true.
    `outside` is true for a value that is of the type already, as in Parquet, and not for Iceberg.
    """

    sql: str
    arrow: pa.DataType
    noun: str
    parsed: str
    odd: str = "false"
    value: str = "{p}"
    rounded: str = "false"
    unlike: str = "true"
    outside: str = "false"
    range: str | None = None  # said instead of `noun` about a whole number that is too large
    beyond: str | None = None  # and about another number

    @property
    def bad(self) -> str:
        """With TRY_CAST: true for a value that is there but does not fit."""
        if self.parsed == "{v}":
            return "false"
        return f"({{v}} IS NOT NULL AND ({{p}} IS NULL OR {self.misfit(guessed=False)}))"

    def misfit(self, *more: str, guessed: bool) -> str:
        """Whether a value is odd; of a type that was `guessed`, or rounded; or what `more` says."""
        asked = [part for part in (self.odd, self.rounded if guessed else "false", *more) if part != "false"]
        if not asked:
            return "false"
        return f"({' OR '.join(asked)})" if self.unlike == "true" else _only_if(self.unlike, *asked)


# Conditions are asked of every value, so each is a CASE: one cheap comparison that settles nearly all values, and then
# the rest for the few others. (DuckDB tries the parts of an AND in any order, and repeats a cast that they share.)
def _only_if(unlike: str, *rest: str) -> str:
    """SQL: whether one of `rest` is true, asked only where `unlike` is."""
    return f"CASE WHEN {unlike} THEN ({' OR '.join(rest)}) ELSE false END"


# A number that a guess would rewrite: 007, +491512345678, both behind spaces too. ':' follows '9', and what a space or
# a plus begins comes before '-'; most numbers need no more than the first comparison.
LEADING_ZERO = _only_if(
    "{v} < '0:'",
    "{v} >= '00'",
    "({v} >= '-00' AND {v} < '-0:')",
    r"({v} < '-' AND regexp_matches({v}, '^\s*([+]|-?0[0-9])'))",
)
_NUMBER = "TRY_CAST({v} AS DOUBLE)"
# A cast that rounds changes the digits that count: those between the zeros at either end, whatever the exponent. Text
# is compared with text: a double, or a decimal with a few digits more, would have rounded before anything is compared.
_DIGITS = "trim(translate(split_part(lower({v}), 'e', 1), '+-. \t\n\v\f\r', ''), '0')"
_CHANGED = f"trim(translate({{p}}::VARCHAR, '-.', ''), '0') <> {_DIGITS}"
# What is written as DuckDB would write it needs no second look; that is nearly always so.
_REWRITTEN = "{p}::VARCHAR <> {v}"
# DuckDB takes more for a number: "- " for 0, "1e " for 1, "1e0_1" for 10, 0x1F for 31.
_WRITTEN = r"regexp_full_match({v}, '\s*[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?\s*')"
_WHOLE_ODD = f"({_CHANGED} OR NOT {_WRITTEN})"
_WHOLE = "NOT contains({v}, '.') AND NOT contains(lower({v}), 'e')"
# Behind a colon nothing but an offset has a sign; the expressions only confirm.
_FINER = r"(contains({v}, '.') AND regexp_matches({v}, '\.[0-9]{6}[0-9]*[1-9]'))"
_HAS_OFFSET = (
    "((contains({v}, '+') OR {v} LIKE '%:%-%')"
    r" AND regexp_matches({v}, ':[0-9.:]*\s*[+-][0-9:]*[1-9]'))"
)
# Iceberg's readers (and its statistics) know the years 1 to 9999; infinity is beyond them. 'epoch' is DuckDB's word.
_DATES = "BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'"
_LOCALS = "BETWEEN TIMESTAMP '0001-01-01 00:00:00' AND TIMESTAMP '9999-12-31 23:59:59.999999'"
_ZONED = "BETWEEN TIMESTAMPTZ '0001-01-01 00:00:00+00' AND TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'"
_DATE_OUTSIDE, _LOCAL_OUTSIDE, _ZONED_OUTSIDE = (f"({{p}} NOT {years})" for years in (_DATES, _LOCALS, _ZONED))
# DuckDB takes 13-01-31 for a day of the year 13; a year is written with four digits.
_SHORT_YEAR = r"NOT regexp_matches({v}, '^\s*[0-9]{4}')"
_LONG_YEAR = r"({v} < '1' AND regexp_matches({v}, '^\s*[0-9]{5}'))"
_DATE_UNUSUAL, _LOCAL_UNUSUAL, _ZONED_UNUSUAL = (
    _only_if(f"{{p}} NOT {years.replace('0001', '1000', 1)}", f"{{p}} NOT {years}", _SHORT_YEAR)
    for years in (_DATES, _LOCALS, _ZONED)
)
_WORD = "({p} = 'epoch' AND contains(lower({v}), 'epoch'))"
# The name of a zone stands behind a time and a space. DuckDB would use it for every value after it that has none, so
# its cast for zones never sees one: its cast to a local time fails for all names but UTC. GMT is the same.
_UNNAMED = "({v} NOT LIKE '%:% %' OR TRY_CAST({v} AS TIMESTAMP) IS NOT NULL OR upper(rtrim({v})) LIKE '%:% GMT')"
# No zone is further off than 18 hours; nor has an hour more than 59 minutes. Nearly all end in :00, or are +00.
_FAR = (
    "(((contains({v}, '+') AND NOT (contains({v}, '+0') AND (suffix({v}, ':00') OR suffix({v}, '+00'))))"
    " OR ({v} LIKE '%:%-%' AND NOT ({v} LIKE '%:%-0%' AND suffix({v}, ':00'))))"
    r" AND regexp_matches({v}, ':[0-9.]*[+-](18:?[0-9:]*[1-9]|19|[2-9]|[0-9]{2}:?[6-9])'))"
)
_ZONED_ODD = (
    f"(({{p}} IS NULL AND {{v}} IS NOT NULL) OR {_ZONED_UNUSUAL} OR {_FINER} OR {_WORD} OR {_FAR} OR {_LONG_YEAR})"
)
# A text of this shape that is a time has neither an offset nor a fraction.
_TO_THE_SECOND = "{v} LIKE '____-__-_____:__:__'"
_LOCAL_ODD = f"({_LOCAL_UNUSUAL} OR {_only_if(f'NOT {_TO_THE_SECOND}', _FINER, _HAS_OFFSET, _WORD, _LONG_YEAR)})"
_TIME_OUTSIDE = "({p} >= TIME '24:00:00')"
# DuckDB ignores what stands behind a time, be it PM; there are few columns of times, so each value is asked in full.
_CLOCK = r"\s*[0-9]{1,2}:[0-9]{1,2}(:[0-9]{1,2}([.][0-9]*)?)?\s*([zZ]|[uU][tT][cC])?\s*"
_TIME_ODD = f"({_TIME_OUTSIDE} OR NOT regexp_full_match({{v}}, '{_CLOCK}') OR {_FINER})"
# Behind a date there may be a time, which has to be midnight, or anything: that is no time.
_MIDNIGHT = "{p}::TIMESTAMP IS NOT DISTINCT FROM TRY_CAST({v} AS TIMESTAMP)"
_DATE_ODD = f"({_DATE_UNUSUAL} OR {_only_if(_REWRITTEN, f'NOT ({_MIDNIGHT})', _FINER, _HAS_OFFSET, _WORD, _LONG_YEAR)})"
# From here on a double has not every whole number; text without a point or an exponent is one.
_HUGE = f"CASE WHEN {{p}} NOT BETWEEN {1 - 2**53} AND {2**53 - 1} THEN isfinite({{p}}) AND {_WHOLE} ELSE false END"


# Of a text that became 0: another digit than 0 before the exponent.
_TOO_SMALL = "(strlen({v}) > 4 AND regexp_matches({v}, '^[^eE]*[1-9]'))"


def _float_odd(bits: int) -> str:
    """Text that a float or double with so many bits can't hold: too large, too small, or a whole number in between.
    The casts of whole numbers to DECIMAL are exact. A fraction is taken as near as there is one."""
    large = f"{{p}} NOT BETWEEN {1 - 2**bits} AND {2**bits - 1}"
    exact = "coalesce(TRY_CAST(CAST({p} AS DOUBLE) AS DECIMAL(38,0)) = TRY_CAST({v} AS DECIMAL(38,0)), false)"
    infinite = "(isinf({p}) AND NOT contains(lower({v}), 'inf'))"
    no_word = r"(isnan({p}) AND NOT regexp_full_match({v}, '\s*[+-]?[nN][aA][nN]\s*'))"
    too_large = _only_if(large, infinite, no_word, f"(isfinite({{p}}) AND {_WHOLE} AND NOT {exact})")
    too_small = _only_if("{p} = 0", _TOO_SMALL)
    two_signs = _only_if("{v} < '-'", r"regexp_matches({v}, '^\s*[+]\s*[+-]')")
    return f"(contains({{v}}, '_') OR {too_large} OR {too_small} OR {two_signs})"


def _unlike_float(bits: int) -> str:
    """What `_float_odd` and `rounded` ask of a value is true only where this is, which is a few plain comparisons."""
    zeros = "({v} >= '00' AND {v} < '0:') OR ({v} >= '-00' AND {v} < '-0:')"
    return (
        f"(contains({{v}}, '_') OR {{p}} NOT BETWEEN {1 - 2**bits} AND {2**bits - 1} OR {{p}} = 0"
        f" OR {{v}} < '-' OR {zeros})"
    )


def _plain(sql: str, arrow: pa.DataType, noun: str, odd: str = "false", **more: str) -> Reading:
    return Reading(sql, arrow, noun, f"{{c}}({{v}} AS {sql})", odd, **more)


_WHOLE_NUMBER = {"unlike": _REWRITTEN, "rounded": LEADING_ZERO}
_SIMPLE: dict[type[IcebergType], Reading] = {
    StringType: Reading("VARCHAR", pa.string(), "text (string)", "{v}"),
    BooleanType: _plain("BOOLEAN", pa.bool_(), "true or false (boolean)"),
    IntegerType: _plain("INTEGER", pa.int32(), "a whole number within ±2147483647 (int)", _WHOLE_ODD, **_WHOLE_NUMBER),
    LongType: _plain(
        "BIGINT",
        pa.int64(),
        "a whole number (long)",
        _WHOLE_ODD,
        **_WHOLE_NUMBER,
        range="beyond the range of long (±9223372036854775807)",
    ),
    FloatType: _plain(
        "FLOAT",
        pa.float32(),
        "a number (float)",
        _float_odd(24),
        unlike=_unlike_float(24),
        range="a whole number that a float can't hold exactly",
        beyond="outside the range of a float (1.4e-45 to 3.4e38)",
    ),
    DoubleType: _plain(
        "DOUBLE",
        pa.float64(),
        "a number (double)",
        _float_odd(53),
        rounded=f"({LEADING_ZERO} OR {_HUGE})",
        unlike=_unlike_float(53),
        range="a whole number that a double can't hold exactly",
        beyond="outside the range of a double (4.9e-324 to 1.8e308)",
    ),
    DateType: _plain("DATE", pa.date32(), "a date like 2013-01-31 (date)", _DATE_ODD, outside=_DATE_OUTSIDE),
    TimeType: _plain(
        "TIME",
        pa.time64("us"),
        "a time like 23:59:00, to the microsecond (time)",
        _TIME_ODD,
        outside=_TIME_OUTSIDE,
    ),
    TimestampType: _plain(
        "TIMESTAMP",
        pa.timestamp("us"),
        "a date and time like 2013-01-31 23:59:00, to the microsecond (timestamp)",
        _LOCAL_ODD,
        outside=_LOCAL_OUTSIDE,
    ),
    TimestamptzType: Reading(
        "TIMESTAMPTZ",
        pa.timestamp("us", tz="UTC"),
        "a date and time like 2013-01-31T23:59:00Z, to the microsecond (timestamptz)",
        f"CASE WHEN {_UNNAMED} THEN {{c}}({{v}} AS TIMESTAMPTZ) END",
        _ZONED_ODD,
        outside=_ZONED_OUTSIDE,
    ),
    UUIDType: Reading(
        "UUID", pa.uuid(), "a UUID (uuid)", "{c}({v} AS UUID)", value="unhex(replace({p}::VARCHAR, '-', ''))"
    ),
}


def reading(kind: IcebergType) -> Reading | None:
    """How to read `kind` from text; None for types that text can't fill (struct, list, map, binary, fixed, variant)."""
    if isinstance(kind, DecimalType):
        return _decimal(kind.precision, kind.scale)
    return _SIMPLE.get(type(kind))


def _decimal(precision: int, scale: int) -> Reading:
    sql = f"DECIMAL({precision},{scale})"
    # Without an exponent the cast is exact for as many digits behind the point as there is room for.
    surprising = (
        f"(strpos({{v}}, '.') BETWEEN 1 AND length({{v}}) - {scale + 1} OR contains(lower({{v}}), 'e')"
        " OR contains({v}, '_'))"
    )
    odd = _only_if(f"{surprising} OR {{p}} = 0", _CHANGED, f"NOT {_WRITTEN}")
    noun = f"a number with at most {precision - scale} digits before the point and {scale} after it (decimal)"
    return _plain(sql, pa.decimal128(precision, scale), noun, odd)


def parquet_reading(kind: IcebergType) -> Reading | None:
    """As `reading`, and bytes too: on the tolerant path they travel as hexadecimal text."""
    return BYTES if isinstance(kind, BinaryType) else reading(kind)


BYTES = Reading("BLOB", pa.binary(), "bytes (binary)", "{v}", value="unhex({p})")


def on(template: str, value: str, parsed: str = "", *, cast: str = "CAST") -> str:
    """`template` with SQL expressions for its {v} and {p}, and the kind of cast for its {c}."""
    return template.replace("{c}", cast).replace("{p}", parsed).replace("{v}", value)


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
_TOO_LONG = on(_HUGE, "{v}", _NUMBER)
_NO_TIME = on(_MIDNIGHT, "{v}", "TRY_CAST({v} AS DATE)")
_DAY = "({v} >= '0' AND {v} < ':' AND substr({v}, 5, 1) IN ('-', '/'))"
_REST = "substr({v}, 11)"
_NAME = "substr({v}, 12)"  # behind the T
_OFFSET = f"(contains({_REST}, '+') OR contains({_REST}, '-') OR lower({_NAME}) <> upper({_NAME}))"


def inference_tests() -> tuple[str, ...]:
    """One SQL condition on {v} for each type in INFERRED: true when a value may be of it.

    Stricter than loading: 007 stays text, 0 and 1 stay numbers, and a whole number too large for a long
    stays text, because a double would lose its last digits. Short, too: there may be a thousand columns to plan for.
    """
    return (
        "lower({v}) IN ('true', 'false')",
        "TRY_CAST({v} AS BIGINT)::VARCHAR = trim({v})",
        f"{_NUMBER} IS NOT NULL AND NOT isinf({_NUMBER}) AND NOT {LEADING_ZERO} AND NOT {_TOO_LONG}"
        f" AND NOT contains({{v}}, '_') AND NOT ({_NUMBER} = 0 AND {_TOO_SMALL})",
        f"{_DAY} AND length({{v}}) <= 10 AND TRY_CAST({{v}} AS DATE) {_DATES} AND {_NO_TIME}",
        f"{_DAY} AND NOT {_OFFSET} AND TRY_CAST({{v}} AS TIMESTAMP) {_LOCALS} AND NOT {_FINER}",
        f"{_DAY} AND {_OFFSET} AND contains({{v}}, ':') AND {_UNNAMED} AND NOT {_FAR}"
        f" AND TRY_CAST({{v}} AS TIMESTAMPTZ) {_ZONED} AND NOT {_FINER}",
    )


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"
