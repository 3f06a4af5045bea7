"""Rows of Parquet in pieces of bounded size: a file of two kilobytes can hold a gigabyte of rows.

A text that is stored once, in a dictionary, and named by every row, stays in the dictionary until the rows are in
pieces. What else there is takes about as much memory as the file says that it does, decompressed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PIECE_BYTES = 8 << 20
READ_BUFFER_BYTES = 1 << 20
_DICTIONARY_KINDS = ("NONE", "STRING", "ENUM", "JSON", "BSON")
_LEAST_BYTES = 8  # of a value; one of a dictionary takes less in the file


def read_batches(
    plain: pq.ParquetFile, source: IO[bytes], groups: Sequence[int], columns: Sequence[str], rows: int
) -> Iterator[pa.RecordBatch]:
    """`columns` of some row groups of `plain`, as it has them; batches of at most `rows` rows and some 8 MiB."""
    leaves = [place for place in range(plain.metadata.num_columns) if _top(plain.schema.column(place).path, columns)]
    file = pq.ParquetFile(
        source,
        metadata=plain.metadata,
        read_dictionary=[plain.schema.column(place).path for place in leaves if _has_texts(plain, place, groups)],
        pre_buffer=False,
        buffer_size=READ_BUFFER_BYTES,
    )
    for group in groups:
        at_once = _rows_at_once(plain, group, leaves, rows)
        for batch in file.iter_batches(at_once, row_groups=[group], columns=list(columns), use_threads=False):
            for piece in pieces(batch):
                kinds = [plain.schema_arrow.field(name).type for name in piece.schema.names]
                arrays: list[Any] = [
                    column if column.type == kind else _own(column).cast(_decoded(column.type)).cast(kind)
                    for column, kind in zip(piece.columns, kinds, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(arrays, names=piece.schema.names)


def pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """`batch` cut by halves until each is small, or one row."""
    if batch.num_rows <= 1 or sum(_bytes(column) for column in batch.columns) <= PIECE_BYTES:
        yield batch
        return
    half = batch.num_rows // 2
    yield from pieces(batch.slice(0, half))
    yield from pieces(batch.slice(half))


def _top(path: str, columns: Sequence[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in columns)


def _has_texts(file: pq.ParquetFile, place: int, groups: Sequence[int]) -> bool:
    column = file.schema.column(place)
    return (
        column.physical_type == "BYTE_ARRAY"
        and column.logical_type.type in _DICTIONARY_KINDS
        and any(file.metadata.row_group(group).column(place).has_dictionary_page for group in groups)
    )


def _rows_at_once(file: pq.ParquetFile, group: int, leaves: Sequence[int], rows: int) -> int:
    """So many that they are a piece, if all rows are about as large as each other."""
    held = file.metadata.row_group(group)
    size = 0
    for place in leaves:
        chunk = held.column(place)
        size += max(
            chunk.total_uncompressed_size, chunk.num_values * max(_LEAST_BYTES, file.schema.column(place).length or 0)
        )
    return max(1, min(rows, held.num_rows * PIECE_BYTES // max(size, 1)))


def _own(column: Any) -> Any:
    """Arrow casts all that is within the lists of which a slice is one, and not only the slice's own."""
    return column.take(pa.array(range(len(column)))) if pa.types.is_nested(column.type) else column


def _decoded(kind: Any) -> Any:
    """The type without dictionaries. Arrow can't cast one to a view of texts at once."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        return pa.struct([kind.field(place).with_type(_decoded(kind.field(place).type)) for place in range(len(kind))])
    if pa.types.is_map(kind):
        return pa.map_(_decoded(kind.key_type), _decoded(kind.item_type))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_decoded(kind.value_type)))
    return kind


def _bytes(array: Any) -> int:
    """About as many as `array` takes without dictionaries."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _bytes(array.storage)
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary).take(array.indices)
        return int(pc.sum(lengths.cast(pa.int64())).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(_bytes(part) for part in array.flatten())
    if pa.types.is_map(kind):
        array = array.cast(pa.list_(kind.field(0).type))
    if pa.types.is_nested(kind):
        return _bytes(pc.list_flatten(array)) + 8 * len(array)
    return int(array.nbytes)
