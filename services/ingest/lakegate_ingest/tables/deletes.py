"""Rows of a data file that position deletes or deletion vectors of Iceberg take away again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import _read_deletes
from pyiceberg.table import FileScanTask

from lakegate_ingest.tables.readable import readable, taken_for_granted


class Deleted:
    """The positions in the data file of `task` whose rows are gone. Reads its delete files, each whole."""

    def __init__(self, task: FileScanTask, io: FileIO) -> None:
        found: list[Any] = []
        for file in task.delete_files:
            with readable(file), taken_for_granted():
                positions = _read_deletes(io, file).get(task.file.file_path)
                found += positions.cast(pa.int64()).chunks if positions is not None else []
        self._positions: Any = pc.unique(pa.chunked_array(found, pa.int64())).sort()

    def left(self, batches: Iterator[pa.RecordBatch], start: int) -> Iterator[pa.RecordBatch]:
        """What is left of `batches`, whose first row is at the position `start`."""
        for batch in batches:
            end = start + batch.num_rows
            gone = self._positions[self._index(start) : self._index(end)]
            if len(gone):
                places = pa.array(range(start, end), pa.int64())
                batch = batch.filter(pc.invert(pc.is_in(places, value_set=gone)))
            start = end
            yield batch

    def _index(self, position: int) -> int:
        return bisect_left(self._positions, position, key=lambda scalar: scalar.as_py())
