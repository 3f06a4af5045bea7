"""Rows as NDJSON, CSV or an Arrow stream, one batch at a time."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import Any, cast

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from lakegate_ingest.engine.soundness import is_legible
from lakegate_ingest.errors import BadParameter


class RowFormat(StrEnum):
    NDJSON = "ndjson"
    CSV = "csv"
    ARROW = "arrow"


MEDIA_TYPES = {
    RowFormat.NDJSON: "application/x-ndjson",
    RowFormat.CSV: "text/csv; charset=utf-8; header=present",
    RowFormat.ARROW: "application/vnd.apache.arrow.stream",
}


def negotiated(format_: str | None, accept: str) -> RowFormat:
    """`format=` decides, else Accept, else NDJSON. Raises BadParameter."""
    if format_ is not None:
        try:
            return RowFormat(format_)
        except ValueError as error:
            raise BadParameter(f"format={format_[:40]} is not one of ndjson, csv, arrow.") from error
    for wanted, media_type in MEDIA_TYPES.items():
        if media_type.partition(";")[0] in accept:
            return wanted
    return RowFormat.NDJSON


class Encoder:
    """Bytes for the start, for each batch and for the end of a stream; not thread-safe."""

    def __init__(self, format_: RowFormat, schema: pa.Schema) -> None:
        self._schema = schema
        self._sink = io.BytesIO()
        self._arrow = pa.ipc.new_stream(self._sink, schema) if format_ is RowFormat.ARROW else None
        kinds: dict[RowFormat, Callable[[pa.RecordBatch], bytes]] = {
            RowFormat.NDJSON: _ndjson,
            RowFormat.CSV: _csv,
            RowFormat.ARROW: self._ipc,
        }
        self._encode = kinds[format_]
        self._format = format_

    def start(self) -> bytes:
        if self._format is RowFormat.CSV:
            names = pa.table({str(i): [name] for i, name in enumerate(self._schema.names)})
            return _csv_bytes(names)
        return self._taken()

    def batch(self, batch: pa.RecordBatch) -> bytes:
        return self._encode(legible(batch))

    def end(self) -> bytes:
        if self._arrow is not None:
            self._arrow.close()
        return self._taken()

    def _ipc(self, batch: pa.RecordBatch) -> bytes:
        assert self._arrow is not None
        self._arrow.write_batch(batch)
        return self._taken()

    def _taken(self) -> bytes:
        taken = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return taken


def legible(batch: pa.RecordBatch) -> pa.RecordBatch:
    """`batch` with U+FFFD for what is no UTF-8 in a text: whoever wrote it, the other rows can be told."""
    if all(is_legible(column) for column in batch.columns):
        return batch
    columns = [column if is_legible(column) else _mended(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _mended(column: Any) -> Any:
    raw = column.cast(_as_bytes(column.type)).to_pylist()
    return pa.array([_readable(value, column.type) for value in raw], column.type)


def _as_bytes(kind: Any) -> pa.DataType:
    if pa.types.is_string(kind):
        return pa.binary()
    if pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([kind.field(place).with_type(_as_bytes(kind.field(place).type)) for place in range(len(kind))])
    if pa.types.is_map(kind):
        return pa.map_(_as_bytes(kind.key_type), _as_bytes(kind.item_type))
    if pa.types.is_list(kind):
        return pa.list_(_as_bytes(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(_as_bytes(kind.value_type))
    return cast(pa.DataType, kind)


def _readable(value: Any, kind: Any) -> Any:
    if value is None:
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return value.decode("utf-8", "replace")
    if pa.types.is_struct(kind):
        return {field.name: _readable(value[field.name], field.type) for field in kind.fields}
    if pa.types.is_map(kind):
        return [(_readable(key, kind.key_type), _readable(item, kind.item_type)) for key, item in value]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [_readable(item, kind.value_type) for item in value]
    return value


def _ndjson(batch: pa.RecordBatch) -> bytes:
    option = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z
    rows: list[Any] = batch.to_pylist()
    if any(_may_be_infinite(column) for column in batch.columns):
        rows = [_finite(row) for row in rows]
    return b"".join(orjson.dumps(row, default=_plain, option=option) for row in rows)


def _plain(value: Any) -> str:
    """What JSON has no type for: decimals keep their digits as text, without an exponent; bytes are base64."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _may_be_infinite(column: pa.Array[Any]) -> bool:
    if pa.types.is_nested(column.type):
        return True  # as good as never read in bulk
    return pa.types.is_floating(column.type) and pc.all(pc.is_finite(column)).as_py() is False


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity, and orjson would write null: they are text, as a load takes them back."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return value


def _csv(batch: pa.RecordBatch) -> bytes:
    columns = [_flat(column) for column in batch.columns]
    return _csv_bytes(pa.Table.from_arrays(columns, names=[str(i) for i in range(len(columns))]))


def _flat(column: pa.Array[Any]) -> pa.Array[Any]:
    """Lists, structs, bytes and UUIDs have no CSV form of their own: JSON text, base64, and text. Fine
    decimals would get an exponent."""
    if pa.types.is_nested(column.type):
        return pa.array(
            [
                None if value is None else orjson.dumps(_finite(value), default=_plain).decode()
                for value in column.to_pylist()
            ],
            pa.string(),
        )
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, _is_fine)
    if isinstance(column.type, pa.BaseExtensionType) or any(is_kind(column.type) for is_kind in kinds):
        return pa.array([None if value is None else _plain(value) for value in column.to_pylist()], pa.string())
    return column


def _is_fine(kind: pa.DataType) -> bool:
    return isinstance(kind, (pa.Decimal128Type, pa.Decimal256Type)) and kind.scale > 6


def _csv_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pa_csv.write_csv(table, sink, pa_csv.WriteOptions(include_header=False, quoting_style="needed"))
    return sink.getvalue()
