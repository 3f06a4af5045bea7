"""Columns of Parquet as types that both paths know alike, and the text by which a value of them travels.

A file may ask Arrow for types that Arrow itself can hardly filter or cast, and that DuckDB can't take from it. What is
stored is the same; DuckDB, when it reads the file by itself, never hears of them.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.types import DecimalType, DoubleType, FloatType, IcebergType, IntegerType, LongType

_ARROW: Any = pa  # where its stubs know less than it takes
_NUMBERS = (IntegerType, LongType, DecimalType, FloatType, DoubleType)


def plain(array: Any) -> Any:
    """`array` without views, dictionaries and most extensions, and with no decimals and floats but the common ones."""
    kind = array.type
    if _is_plain(kind):
        return array
    if isinstance(kind, pa.BaseExtensionType):
        storage = plain(array.storage)
        return pa.ExtensionArray.from_storage(pa.json_(storage.type), storage) if _is_json(kind) else storage
    if pa.types.is_dictionary(kind):
        return plain(array.dictionary_decode())
    if pa.types.is_struct(kind):
        children = [plain(array.field(place)) for place in range(kind.num_fields)]
        fields = [kind.field(place).with_type(child.type) for place, child in enumerate(children)]
        return pa.StructArray.from_arrays(children, fields=fields, mask=array.is_null())
    if pa.types.is_map(kind):
        return _map(array.cast(pa.list_(kind.field(0).type)), kind)
    if pa.types.is_nested(kind):
        return _list(array)
    return array.cast(_leaf(kind))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that `plain` makes of it."""
    if _is_plain(kind):
        return kind
    made: pa.DataType = plain(_ARROW.nulls(0, kind)).type
    return made


def _is_plain(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return bool(kind == pa.uuid()) or (_is_json(kind) and _is_plain(kind.storage_type))
    if pa.types.is_dictionary(kind) or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return False
    if pa.types.is_nested(kind):
        return all(_is_plain(kind.field(place).type) for place in range(kind.num_fields))
    return _leaf(kind) == kind


def _is_json(kind: pa.DataType) -> bool:
    """DuckDB knows it, too, and writes it into the text of a nested value as it is."""
    return isinstance(kind, pa.JsonType)


def _leaf(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_decimal(kind) and kind.precision <= 38:
        return pa.decimal128(kind.precision, kind.scale)
    return kind


def _list(array: Any) -> Any:
    """Arrow's own cast of a list view leaves out the last offset."""
    values = plain(pc.list_flatten(array))
    kind = pa.large_list(array.type.field(0).with_type(values.type))
    return pa.LargeListArray.from_arrays(_offsets(array, pa.int64()), values, type=kind, mask=array.is_null())


def _map(entries: Any, kind: Any) -> Any:
    pairs = pc.list_flatten(entries)
    keys, items = plain(pairs.field(0)), plain(pairs.field(1))
    made = pa.map_(kind.key_field.with_type(keys.type), kind.item_field.with_type(items.type))
    return _ARROW.MapArray.from_arrays(_offsets(entries, pa.int32()), keys, items, made, mask=entries.is_null())


def _offsets(array: Any, kind: pa.DataType) -> Any:
    lengths: Any = pc.fill_null(pc.list_value_length(array), 0)
    ends = pc.cumulative_sum(lengths.cast(kind))
    return pa.concat_arrays([pa.array([0], kind), ends])


def as_text(value: str, source: pa.DataType, into: IcebergType | None) -> str:
    """SQL: the text of `value`, of a type that is no bytes and not nested, for a column of type `into`.

    The shortest text of a float is for those who know that it is one: 2^62 as 4.611686018427388e+18, and the float next
    to 0.1 as 0.1. A column of numbers gets all digits of a whole one, and others as the double that equals them.
    """
    if not pa.types.is_floating(source) or not isinstance(into, _NUMBERS):
        return f"CAST({value} AS VARCHAR)"
    double = f"CAST({value} AS DOUBLE)"
    # 0 may be -0.0
    whole = f"{double} <> 0 AND {double} = trunc({double}) AND abs({double}) < 1e38"
    cases = f"WHEN {whole} THEN CAST(TRY_CAST({double} AS HUGEINT) AS VARCHAR)"
    if isinstance(into, FloatType):
        # With all its digits the number will be set aside.
        changed = f"isfinite({double}) AND CAST(TRY_CAST({double} AS FLOAT) AS DOUBLE) IS DISTINCT FROM {double}"
        cases += f" WHEN abs({double}) >= 1e38 AND {changed} THEN format('{{:.0f}}', {double})"
    return f"CASE {cases} ELSE CAST({double} AS VARCHAR) END"
