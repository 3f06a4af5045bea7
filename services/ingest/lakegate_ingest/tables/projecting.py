"""Rows of a file with the columns, names and types of the table."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io.pyarrow import ArrowAccessor, ArrowProjectionVisitor
from pyiceberg.schema import Schema, visit_with_partner
from pyiceberg.types import ListType, MapType

from lakegate_ingest.tables.readable import taken_for_granted


def projected(wanted: Schema, stored: Schema, batch: pa.RecordBatch, missing: dict[int, Any]) -> pa.RecordBatch:
    """`batch`, which has the columns `stored`, as `wanted`; `missing` are values of columns that it has not.

    Raises ResolveError, ValueError and Arrow's errors for what can't be made of it.
    """
    visitor = _Projection(
        stored,
        downcast_ns_timestamp_to_us=True,
        projected_missing_fields=missing,
        allow_timestamp_tz_mismatch=True,
    )
    rows: Any = batch
    with taken_for_granted():
        made: Any = visit_with_partner(wanted, rows, visitor, ArrowAccessor(stored))
    return pa.RecordBatch.from_struct_array(made)


class _Projection(ArrowProjectionVisitor):
    """pyiceberg makes an empty one of every list or map of structs that is null."""

    def list(self, list_type: ListType, list_array: Any, value_array: Any) -> Any:
        return _with_nulls(list_array, super().list(list_type, list_array, value_array))

    def map(self, map_type: MapType, map_array: Any, key_result: Any, value_result: Any) -> Any:
        return _with_nulls(map_array, super().map(map_type, map_array, key_result, value_result))


def _with_nulls(given: Any, made: Any) -> Any:
    if made is None or made.null_count == given.null_count:
        return made
    return made.take(pc.if_else(given.is_valid(), pa.array(range(len(given))), pa.scalar(None, pa.int64())))
