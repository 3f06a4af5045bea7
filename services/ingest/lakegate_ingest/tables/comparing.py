"""What a row filter compares, where pyiceberg and Arrow would round a value, or can't compare it at all."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from decimal import Context, Decimal, InvalidOperation
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
    BoundPredicate,
    LiteralPredicate,
    Not,
    Or,
    Reference,
    SetPredicate,
)
from pyiceberg.expressions.literals import DecimalLiteral, Literal, StringLiteral
from pyiceberg.expressions.visitors import extract_field_ids, visit
from pyiceberg.io.pyarrow import _ConvertToArrowExpression, schema_to_pyarrow
from pyiceberg.schema import Schema, index_by_id
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    UUIDType,
)

from lakegate_ingest.errors import BadRowFilter

_UUID_BYTES = pa.binary(16)
# Iceberg's decimals have 38 digits at most; a filter may be written with some more, which are zeros then
_SHOWN_TIME = re.compile(r"(?P<day>[0-9-]{10})[T ](?P<time>[0-9:.]+)(?P<zone>[Zz]|[+-][0-9:]{5})?", re.ASCII)
_DIGITS = Context(prec=100)


def exact(expression: BooleanExpression, schema: Schema) -> BooleanExpression:
    """`expression` with each literal as its column can have it. Raises BadRowFilter, ValueError for no column.

    pyiceberg rounds a literal to a column of whole numbers, so that `a = 1.5` would find 2, and takes one for a decimal
    column only when it is written with all of the column's places.
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
        return type(expression)(expression.term, {_exact(column, kind, literal) for literal in expression.literals})
    return type(expression)(expression.term, _exact(column, kind, expression.literal))


def _exact(column: str, kind: IcebergType, literal: Literal[Any]) -> Literal[Any]:
    value = literal.value
    if isinstance(kind, TimestampType | TimestamptzType) and isinstance(value, str):
        return StringLiteral(_as_iceberg_writes(value))
    if not isinstance(kind, IntegerType | LongType | DecimalType):
        return literal
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return literal
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return literal  # no number at all: bind says so
    places = kind.scale if isinstance(kind, DecimalType) else 0
    try:
        rounded = number.quantize(Decimal((0, (1,), -places)), context=_DIGITS)
    except InvalidOperation:  # infinite, or far more digits than any column has
        rounded = None
    if rounded is None or rounded != number:
        what = f"{places} decimal places" if isinstance(kind, DecimalType) else "whole numbers"
        raise _impossible(column, kind, value, what)
    if not isinstance(kind, DecimalType):
        return literal
    if rounded and rounded.adjusted() >= kind.precision - places:
        raise _impossible(column, kind, value, f"{kind.precision} digits")
    return DecimalLiteral(rounded)


def _as_iceberg_writes(time: str) -> str:
    """A time as NDJSON and CSV show it: with Z, and in CSV with a space before the hours."""
    if (shown := _SHOWN_TIME.fullmatch(time.strip())) is None:
        return time  # bind says what is wrong with it
    return f"{shown['day']}T{shown['time']}{'+00:00' if shown['zone'] in ('Z', 'z') else shown['zone'] or ''}"


def _impossible(column: str, kind: IcebergType, value: Any, what: str) -> BadRowFilter:
    return BadRowFilter(
        f"The column '{column}' holds {what} ({kind}), and {str(value)[:50]} is none. "
        "Compare it with a value that it can have."
    )


def prunable(bound: BooleanExpression, stored: pa.Schema, file_schema: Schema) -> BooleanExpression:
    """What `bound`, which has no Not, asks of columns whose statistics in a file (`stored`) Arrow understands.

    Row groups that this rules out have no row that `bound` wants. Left out are columns that the file has in another
    type (a literal may not fit that), uuids, which Arrow does not compare, and floats: Arrow takes every one to be
    between the least and the greatest, which NaN is not.
    """
    names = {field.field_id: field.name for field in file_schema.fields}

    def asked(part: BooleanExpression) -> BooleanExpression:
        if isinstance(part, And | Or):
            return type(part)(asked(part.left), asked(part.right))
        if not isinstance(part, BoundPredicate):
            return part
        field = part.term.ref().field
        if field.field_id not in file_schema.field_ids:
            return part  # a constant
        name = names.get(field.field_id)
        return part if name is not None and _has_bounds(field.field_type, stored.field(name).type) else AlwaysTrue()

    return asked(bound)


def _has_bounds(kind: IcebergType, stored: pa.DataType) -> bool:
    if isinstance(kind, StringType):
        return pa.types.is_string(stored) or pa.types.is_large_string(stored)
    if not kind.is_primitive or isinstance(kind, UUIDType | FloatType | DoubleType):
        return False
    expected: Any = schema_to_pyarrow(kind)
    return bool(stored == expected)


def columns_of(bound: BooleanExpression, schema: Schema) -> set[int]:
    """The ids of the columns, whole ones, that a filter looks at."""
    return {field.field_id for field in schema.fields if extract_field_ids(bound) & {*index_by_id(Schema(field))}}


def to_arrow(bound: BooleanExpression, schema: Schema) -> pc.Expression:
    """A bound filter for Arrow, with the names that `schema` has."""
    return visit(bound, _ByBytes(schema))


def _path(fields: tuple[NestedField, ...], field_id: int) -> tuple[str, ...]:
    """The name of a field and those of the structs that it is within; empty when it is in none of `fields`."""
    for field in fields:
        if field.field_id == field_id:
            return (field.name,)
        if isinstance(field.field_type, StructType) and (rest := _path(field.field_type.fields, field_id)):
            return (field.name, *rest)
    return ()


class _ByBytes(_ConvertToArrowExpression):
    """pyiceberg's conversion; Arrow can't compare uuids, so their bytes are compared.

    NULL is like no value and unlike none, as in SQL: only `is null` finds it.
    """

    def _get_field_name(self, term: Any) -> Any:
        """With the columns that a field is within."""
        assert self._schema is not None
        names = _path(self._schema.fields, term.ref().field.field_id)
        return names if len(names) > 1 else names[0]

    def _compared(
        self, compare: Callable[[Any, Any], pc.Expression], term: Any, literal: Literal[Any]
    ) -> pc.Expression:
        kind = term.ref().field.field_type
        column = pc.field(self._get_field_name(term))
        if isinstance(kind, UUIDType):
            return compare(column.cast(_UUID_BYTES), pa.scalar(literal.value, _UUID_BYTES))
        return compare(column, pa.scalar(literal.value, schema_to_pyarrow(kind)))

    def visit_equal(self, term: Any, literal: Literal[Any]) -> pc.Expression:
        return self._compared(operator.eq, term, literal)

    def visit_not_equal(self, term: Any, literal: Literal[Any]) -> pc.Expression:
        return self._compared(operator.ne, term, literal)

    def visit_greater_than(self, term: Any, literal: Literal[Any]) -> pc.Expression:
        return self._compared(operator.gt, term, literal)

    def visit_greater_than_or_equal(self, term: Any, literal: Literal[Any]) -> pc.Expression:
        return self._compared(operator.ge, term, literal)

    def visit_less_than(self, term: Any, literal: Literal[Any]) -> pc.Expression:
        return self._compared(operator.lt, term, literal)

    def visit_less_than_or_equal(self, term: Any, literal: Literal[Any]) -> pc.Expression:
        return self._compared(operator.le, term, literal)

    def visit_in(self, term: Any, literals: set[Any]) -> pc.Expression:
        kind = term.ref().field.field_type
        column = pc.field(self._get_field_name(term))
        if isinstance(kind, UUIDType):
            return column.cast(_UUID_BYTES).isin(pa.array(sorted(literals), _UUID_BYTES))
        # Arrow looks for the same bits; -0.0 is 0.0, as for `=`
        zeros = (0.0, -0.0) if isinstance(kind, FloatType | DoubleType) and 0 in literals else ()
        return column.isin(pa.array([*literals, *zeros], schema_to_pyarrow(kind)))

    def visit_not_in(self, term: Any, literals: set[Any]) -> pc.Expression:
        """No null is in it, as for `!=`."""
        return ~self.visit_in(term, literals) & pc.field(self._get_field_name(term)).is_valid()
