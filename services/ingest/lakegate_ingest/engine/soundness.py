"""What a Parquet file says of itself and DuckDB does not verify: its pages' checksums, and that its text is text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakegate_ingest.engine.errors import InvalidEncoding, TruncatedParquet
from lakegate_ingest.engine.inputs import Input
from lakegate_ingest.engine.pieces import PARQUET_ROWS, read_batches
from lakegate_ingest.engine.precision import holds


def check_parquet(found: Input, on_read: Callable[[int], None]) -> None:
    """Read all of it once. Raises InvalidEncoding with column and row, TruncatedParquet."""
    row = 0
    try:
        with found.path.open("rb") as source, found.parquet(source) as file:
            groups, names = range(file.num_row_groups), file.schema_arrow.names
            for batch in read_batches(file, source, groups, names, PARQUET_ROWS, int96=found.int96, verify=True):
                on_read(0)
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    if not is_legible(column):
                        raise InvalidEncoding(
                            f"In '{found.source.name}', row {row + 1 + _first_illegible(column):,} of the column "
                            f"'{name}' has bytes that are not UTF-8, though the file calls them text. Write them as "
                            "binary, or decode them before the file is written."
                        )
                row += batch.num_rows
    except pa.ArrowNotImplementedError:
        return  # DuckDB may know more of Parquet than Arrow does; text it looks at, too
    except (pa.ArrowInvalid, OSError) as error:
        raise TruncatedParquet(
            f"'{found.source.name}' is damaged after row {row} ({error}). Write it again, and compare its size and "
            "checksum with what was sent."
        ) from error


def is_legible(array: Any) -> bool:
    """Whether all text, at any depth, is UTF-8."""
    kind = array.type
    if not holds(kind, _is_text):
        return True
    if isinstance(kind, pa.BaseExtensionType):
        return is_legible(array.storage)
    if pa.types.is_dictionary(kind):
        return is_legible(array.dictionary_decode())
    if pa.types.is_struct(kind):
        return all(is_legible(part) for part in array.flatten())
    if pa.types.is_map(kind):
        array = array.cast(pa.list_(kind.field(0).type))
    if pa.types.is_nested(kind):
        return is_legible(pc.list_flatten(array))
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _is_text(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return holds(kind.storage_type, _is_text)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _first_illegible(array: Any) -> int:
    """By halves: what Arrow says does not count rows where text is within lists."""
    start, count = 0, len(array)
    while count > 1:
        half = count // 2
        if is_legible(array.slice(start, half)):
            start, count = start + half, count - half
        else:
            count = half
    return start
