"""What a row filter compares, where Arrow can't, or not as pyiceberg does."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
    BoundPredicate,
    Or,
)
from pyiceberg.expressions.literals import Literal
from pyiceberg.expressions.visitors import extract_field_ids, visit
from pyiceberg.io.pyarrow import _ConvertToArrowExpression, schema_to_pyarrow
from pyiceberg.schema import Schema, index_by_id
from pyiceberg.types import (
    BooleanType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    NestedField,
    StringType,
    StructType,
    UUIDType,
)

_UUID_BYTES = pa.binary(16)
_WITHOUT_BOUNDS = (BooleanType, DecimalType, DoubleType, FixedType, FloatType, UUIDType)


def prunable(bound: BooleanExpression, stored: pa.Schema, file_schema: Schema) -> BooleanExpression:
    """What `bound`, which has no Not, asks of columns whose statistics in a file (`stored`) Arrow understands.

    Row groups that this rules out have no row that `bound` wants. Left out are columns that the file has in another
    type (a literal may not fit that); floats: Arrow takes every one to be between the least and the greatest, which NaN
    is not; and what `footers.check_statistics` can't look at before, or Arrow does not compare: truths, and what is
    stored as so many bytes, such as uuids and decimals.
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
    if not kind.is_primitive or isinstance(kind, _WITHOUT_BOUNDS):
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
