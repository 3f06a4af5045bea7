"""Values of a row filter as their columns can have them."""

from __future__ import annotations

import re
import struct
from decimal import Context, Decimal, InvalidOperation
from enum import Enum
from math import copysign, inf, isinf, isnan
from typing import Any, cast

from pyiceberg.expressions import (
    AlwaysFalse,
    And,
    BooleanExpression,
    EqualTo,
    GreaterThan,
    In,
    LessThan,
    LessThanOrEqual,
    LiteralPredicate,
    Not,
    NotEqualTo,
    NotNull,
    NotStartsWith,
    Or,
    Reference,
    SetPredicate,
    StartsWith,
)
from pyiceberg.expressions.literals import DecimalLiteral, DoubleLiteral, FloatLiteral, Literal, StringLiteral
from pyiceberg.schema import Schema
from pyiceberg.types import (
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
)

from lakegate_ingest.errors import BadRowFilter

_SHOWN_TIME = re.compile(r"(?P<day>[0-9-]{10})[T ](?P<time>[0-9:.]+)(?P<zone>[Zz]|[+-][0-9:]{5})?", re.ASCII)
# Iceberg's decimals have 38 digits at most; a filter may be written with some more, which are zeros then
_DIGITS = Context(prec=100)


class _Nowhere(Enum):
    """Where a value is that the column can't have."""

    BELOW = "below all that it can have"
    BETWEEN = "between two that it can have, or none at all"
    ABOVE = "above all that it can have"


def exact(expression: BooleanExpression, schema: Schema) -> BooleanExpression:
    """`expression` with each literal as its column can have it. Raises BadRowFilter, ValueError for no column.

    pyiceberg rounds a literal to a column of whole numbers, so that `a = 1.5` would find 2, and takes one for a decimal
    column only when it is written with all of the column's places. One beyond all values it takes for the last of them
    in a list, and elsewhere every row for less than it, null and NaN too.
    """
    if isinstance(expression, And | Or):
        return type(expression)(exact(expression.left, schema), exact(expression.right, schema))
    if isinstance(expression, Not):
        return Not(exact(expression.child, schema))
    if not isinstance(expression, LiteralPredicate | SetPredicate):
        return expression
    column = cast(Reference, expression.term).name
    kind = schema.find_field(column).field_type
    if isinstance(expression, SetPredicate):
        found = [_exact(column, kind, literal) for literal in expression.literals]
        members = {member for member in found if isinstance(member, Literal)}  # no row has one of the others
        if not members:
            return AlwaysFalse() if isinstance(expression, In) else _made(NotNull, expression.term)
        return type(expression)(expression.term, members)
    if isinstance(expression, StartsWith | NotStartsWith) and not isinstance(kind, StringType):
        raise BadRowFilter(f"The column '{column}' holds {kind}, and `like` looks at text only.")
    literal = _exact(column, kind, expression.literal)
    if isinstance(literal, Literal):
        return type(expression)(expression.term, literal)
    if literal is _Nowhere.BETWEEN or isinstance(kind, DecimalType):
        raise _impossible(column, kind, expression.literal.value, literal)
    return _beyond(expression, kind, above=literal is _Nowhere.ABOVE)


def _beyond(expression: LiteralPredicate, kind: IcebergType, *, above: bool) -> BooleanExpression:
    """What SQL says of a value that is above, or below, all numbers that the column can have."""
    if isinstance(expression, EqualTo):
        return AlwaysFalse()
    known = _made(NotNull, expression.term)
    if isinstance(expression, NotEqualTo):
        return known
    holds = isinstance(expression, LessThan | LessThanOrEqual) == above
    if isinstance(kind, FloatType | DoubleType):  # which has infinities; NaN is neither less nor more than anything
        infinity = _float(kind, inf if above else -inf)
        return _made((LessThan if above else GreaterThan) if holds else EqualTo, expression.term, infinity)
    return known if holds else AlwaysFalse()


def _made(predicate: Any, *parts: Any) -> BooleanExpression:
    """Of unnamed parts, which their types don't tell."""
    return cast(BooleanExpression, predicate(*parts))


def _exact(column: str, kind: IcebergType, literal: Literal[Any]) -> Literal[Any] | _Nowhere:
    value = literal.value
    if isinstance(kind, TimestampType | TimestamptzType) and isinstance(value, str):
        return StringLiteral(_as_iceberg_writes(value))
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return literal
    if isinstance(kind, DateType | TimeType | TimestampType | TimestamptzType) and not isinstance(value, str):
        raise BadRowFilter(f"The column '{column}' holds {kind}: compare it with a text, written as rows show it.")
    if isinstance(kind, FloatType | DoubleType):
        return _nearest(kind, literal)
    if not isinstance(kind, IntegerType | LongType | DecimalType):
        return literal
    try:
        number = Decimal(value)
    except InvalidOperation:
        return literal  # no number at all: bind says so
    places = kind.scale if isinstance(kind, DecimalType) else 0
    if number.is_finite() and (
        number and number.adjusted() >= kind.precision - places
        if isinstance(kind, DecimalType)
        else not kind.min <= number <= kind.max
    ):
        return _Nowhere.ABOVE if number > 0 else _Nowhere.BELOW
    try:
        rounded = number.quantize(Decimal((0, (1,), -places)), context=_DIGITS)
    except InvalidOperation:  # infinite, or with far more digits than any column has
        return _Nowhere.BETWEEN
    if rounded != number:
        return _Nowhere.BETWEEN
    return DecimalLiteral(rounded) if isinstance(kind, DecimalType) else literal


def _nearest(kind: FloatType | DoubleType, literal: Literal[Any]) -> Literal[Any] | _Nowhere:
    """The float that is nearest to a number, as its text in CSV; files are ruled out by this very value."""
    try:
        number = Decimal(literal.value)
        value = float(number)
        if isinstance(kind, FloatType):
            (value,) = struct.unpack("<f", struct.pack("<f", value))
    except (InvalidOperation, ValueError):
        return literal  # no number at all: bind says so
    except OverflowError:
        value = copysign(inf, number)
    if isnan(value):
        return literal
    if isinf(value) and number.is_finite():
        return _Nowhere.ABOVE if value > 0 else _Nowhere.BELOW
    return _float(kind, value)


def _float(kind: FloatType | DoubleType, value: float) -> Literal[float]:
    return FloatLiteral(value) if isinstance(kind, FloatType) else DoubleLiteral(value)


def _as_iceberg_writes(time: str) -> str:
    """A time as NDJSON and CSV show it: with Z, and in CSV with a space before the hours."""
    if (shown := _SHOWN_TIME.fullmatch(time.strip())) is None:
        return time  # bind says what is wrong with it
    return f"{shown['day']}T{shown['time']}{'+00:00' if shown['zone'] in ('Z', 'z') else shown['zone'] or ''}"


def _impossible(column: str, kind: IcebergType, value: Any, where: _Nowhere) -> BadRowFilter:
    what = "whole numbers"
    if isinstance(kind, DecimalType):
        what = f"{kind.scale} decimal places" if where is _Nowhere.BETWEEN else f"{kind.precision} digits"
    return BadRowFilter(
        f"The column '{column}' holds {what} ({kind}), and {str(value)[:50]} is none. "
        "Compare it with a value that it can have."
    )
