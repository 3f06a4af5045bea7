"""Footers of Parquet files as others wrote them: a damaged one is an error, and not the end of the process.

Arrow throws C++ exceptions over what stands in a footer. Where rows are read they become errors; where Python asks for
the metadata of a column, or has row groups chosen by a filter, nothing catches them, and the process is aborted.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq

# No file is as long; a chunk that says so is damaged.
_LONGEST = 1 << 50


class _RowsReached(Exception):
    """Arrow has gone over the footer, and begins with what is before it."""


class _NoRows(io.RawIOBase):
    """Stands for a file of which nothing but the footer is read."""

    def __init__(self) -> None:
        super().__init__()
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: _LONGEST}[whence] + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        raise _RowsReached


def check_chunks(metadata: pq.FileMetaData, groups: Sequence[int], columns: Sequence[str]) -> None:
    """Raises OSError where Python could not ask for the metadata of these columns. No row is read.

    With `pre_buffer` Arrow looks where each chunk is before it reads the first.
    """
    nothing: Any = _NoRows()
    file = pq.ParquetFile(nothing, metadata=metadata, pre_buffer=True)
    try:
        file.read_row_groups(list(groups), columns=list(columns), use_threads=False)
    except _RowsReached as reached:
        reached.__traceback__ = None  # it leads to `file`, whose reader keeps the error: neither would ever go


def check_statistics(file: pq.ParquetFile, columns: Sequence[str]) -> None:
    """Raises OSError, ValueError where row groups can't be chosen by whole numbers, times and texts in `columns`.

    The first row of each group is read: then Arrow looks at the statistics of numbers, and its errors can be caught.
    """
    metadata = file.metadata
    groups = range(metadata.num_row_groups)
    check_chunks(metadata, groups, file.schema_arrow.names)
    for number in groups:
        group = metadata.row_group(number)
        for place in range(metadata.num_columns):
            told, kind = group.column(place).physical_type, metadata.schema.column(place).physical_type
            if told != kind:
                raise ValueError(f"its footer has {told} and {kind} for the same column")
        next(file.iter_batches(1, row_groups=[number], columns=list(columns), use_threads=False), None)
