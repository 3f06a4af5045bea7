"""Rows of Parquet in pieces of bounded size: a file of two kilobytes can hold a gigabyte of rows.

A text that is stored once, in a dictionary, and named by every row, stays in the dictionary until the rows are in
pieces. What else there is takes about as much memory as the file says that it does, decompressed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakegate_ingest.engine.footers import check_chunks

PIECE_BYTES = 8 << 20
READ_BUFFER_BYTES = 1 << 20
PARQUET_ROWS = 16 * 1024  # of a file that is loaded
_DICTIONARY_KINDS = ("NONE", "STRING", "ENUM", "JSON", "BSON")
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
_UNCUT_ROWS = 64
_LEAST_BYTES = 8  # of a value; one of a dictionary takes less in the file


def read_batches(
    plain: pq.ParquetFile,
    source: IO[bytes],
    groups: Sequence[int],
    columns: Sequence[str],
    rows: int,
    *,
    int96: str = "us",
    verify: bool = False,
) -> Iterator[pa.RecordBatch]:
    """`columns` of some row groups of `plain`, as it has them; batches of at most `rows` rows and some 8 MiB.

    `int96` is the unit of timestamps of that type, as `plain` has it. With `verify` the checksums of pages that have
    one. Raises OSError for a damaged file.
    """
    check_chunks(plain.metadata, groups, columns)
    kinds = {field.name: field.type for field in plain.schema_arrow}
    leaves = _leaves(plain, columns, kinds)
    texts = [leaf for leaf in leaves if _has_texts(plain.metadata, leaf, groups)]
    # of views, extensions and other lists within columns Arrow can't take the dictionaries away again
    common = [leaf.column.path for leaf in texts if _is_common(leaf.kind)]
    uncut = [leaf for leaf in texts if not _is_common(leaf.kind) and not pa.types.is_dictionary(leaf.kind)]
    file = pq.ParquetFile(
        source,
        metadata=plain.metadata,
        read_dictionary=common,
        pre_buffer=False,
        buffer_size=READ_BUFFER_BYTES,
        page_checksum_verification=verify,
        coerce_int96_timestamp_unit=int96,
    )
    for group in groups:
        at_once = _rows_at_once(plain.metadata.row_group(group), leaves, uncut, rows)
        for batch in file.iter_batches(at_once, row_groups=[group], columns=list(columns), use_threads=False):
            for piece in pieces(batch):
                names = piece.schema.names
                arrays: list[Any] = [
                    column if column.type == kinds[name] else _own(column).cast(_decoded(column.type)).cast(kinds[name])
                    for name, column in zip(names, piece.columns, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(arrays, names=names)


def pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """`batch` cut by halves until each is small, or one row."""
    if batch.num_rows <= 1 or decoded_bytes(batch) <= PIECE_BYTES:
        yield batch
        return
    half = batch.num_rows // 2
    yield from pieces(batch.slice(0, half))
    yield from pieces(batch.slice(half))


def decoded_bytes(batch: pa.RecordBatch) -> int:
    """About as many as `batch` takes without dictionaries."""
    return sum(_bytes(column) for column in batch.columns)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """`place` counts the leaves of the file; `kind` is the type of the whole column that it is of, or within."""

    place: int
    column: Any
    kind: Any


def _leaves(file: pq.ParquetFile, columns: Sequence[str], kinds: Mapping[str, Any]) -> list[_Leaf]:
    wanted, stored = set(columns), file.schema
    leaves = []
    for place in range(len(stored)):
        column = stored.column(place)
        parts = column.path.split(".")  # of a field within a column, and of a column with a point in its name
        tops = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
        top = next((name for name in reversed(tops) if name in wanted), None)
        if top is not None:
            leaves.append(_Leaf(place, column, kinds[top]))
    return leaves


def _has_texts(metadata: pq.FileMetaData, leaf: _Leaf, groups: Sequence[int]) -> bool:
    return (
        leaf.column.physical_type == "BYTE_ARRAY"
        and leaf.column.logical_type.type in _DICTIONARY_KINDS
        and any(metadata.row_group(group).column(leaf.place).has_dictionary_page for group in groups)
    )


def _is_common(kind: Any) -> bool:
    if pa.types.is_struct(kind) or pa.types.is_map(kind) or pa.types.is_list(kind):
        return all(_is_common(kind.field(place).type) for place in range(kind.num_fields))
    return not (
        isinstance(kind, pa.BaseExtensionType)
        or pa.types.is_nested(kind)
        or pa.types.is_dictionary(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary_view(kind)
    )


def _rows_at_once(group: pq.RowGroupMetaData, leaves: Sequence[_Leaf], uncut: Sequence[_Leaf], rows: int) -> int:
    """So many that they are a piece, if all rows are about as large as each other. `uncut` are texts that come without
    their dictionary, which may then be as large as all that is stored of them: some dozens of rows are held at least.
    """
    size = 0
    for leaf in leaves:
        chunk = group.column(leaf.place)
        size += max(chunk.total_uncompressed_size, chunk.num_values * max(_LEAST_BYTES, leaf.column.length or 0))
    at_once = max(1, min(rows, group.num_rows * PIECE_BYTES // max(size, 1)))
    largest = sum(group.column(leaf.place).total_uncompressed_size for leaf in uncut)
    return min(at_once, max(_UNCUT_ROWS, PIECE_BYTES // max(largest, 1)))


def _own(column: Any) -> Any:
    """Arrow casts all that is within the lists of which a slice is one, and not only the slice's own."""
    return column.take(pa.array(range(len(column)))) if pa.types.is_nested(column.type) else column


def _decoded(kind: Any) -> Any:
    """The type without dictionaries."""
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
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _bytes(array.storage)
    if pa.types.is_dictionary(kind):
        if not (any(is_kind(kind.value_type) for is_kind in _TEXTS)):
            return int(array.indices.nbytes) + _LEAST_BYTES * len(array)
        lengths = pc.binary_length(array.dictionary).take(array.indices)
        return int(pc.sum(lengths.cast(pa.int64())).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(_bytes(part) for part in array.flatten())
    if pa.types.is_map(kind):
        array = array.cast(pa.list_(kind.field(0).type))
    if pa.types.is_nested(kind):
        return _bytes(pc.list_flatten(array)) + 8 * len(array)
    return int(array.nbytes)
