"""Parquet files of a wanted size, written table by table in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakegate_ingest.engine.model import DataFile
from lakegate_ingest.engine.pieces import decoded_bytes, pieces

_GROUP_ROWS = 122_880
_GROUP_BYTES = 16 * 1024 * 1024
# A dictionary that will not pay is given up early: files of half the size, in half the time. (Arrow would go on to
# 1 MB of it.) The index lets readers skip pages.
DATA: Mapping[str, Any] = MappingProxyType({"dictionary_pagesize_limit": 16 * 1024, "write_page_index": True})


class ParquetSink:
    """Gathers tables to row groups of up to 122,880 rows or 16 MB, and row groups to files of `target_bytes`.

    With `group_rows` what was gathered is cut into smaller ones, and still smaller where values are large: Arrow writes
    the text of a dictionary once for each row that has it. `options` are those of Arrow's writer.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        schema: pa.Schema,
        target_bytes: int,
        options: Mapping[str, Any] = DATA,
        group_rows: int | None = None,
    ) -> None:
        self._folder = folder
        self._stem = stem
        self._schema = schema
        self._target_bytes = target_bytes
        self._options = options
        self._group_rows = group_rows
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._path = folder
        self._written = 0
        self._files: list[DataFile] = []

    def write(self, table: pa.Table) -> None:
        if not table.num_rows:
            return
        self._waiting.append(table)
        self._rows += table.num_rows
        self._bytes += table.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path = self._folder / f"{self._stem}-{len(self._files):05d}.parquet"
            self._writer = pq.ParquetWriter(self._path, self._schema, compression="zstd", **self._options)
        for group in self._groups():
            self._writer.write_table(group, row_group_size=self._group_rows or _GROUP_ROWS * 2)
        self._written += self._rows
        self._waiting, self._rows, self._bytes = [], 0, 0
        pa.default_memory_pool().release_unused()
        if self._path.stat().st_size >= self._target_bytes:
            self._close_file()

    def _groups(self) -> Iterator[pa.Table]:
        gathered = pa.concat_tables(self._waiting)
        if self._group_rows is None:
            yield gathered
            return
        batches = gathered.to_batches(self._group_rows)
        if sum(decoded_bytes(batch) for batch in batches) <= 2 * _GROUP_BYTES:
            yield gathered
            return
        for batch in batches:
            for piece in pieces(batch):
                yield pa.Table.from_batches([piece])

    def _close_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._files.append(DataFile(self._path, self._path.stat().st_size, self._written))
            self._writer, self._written = None, 0

    def finish(self) -> tuple[DataFile, ...]:
        self._flush()
        self._close_file()
        return tuple(self._files)

    def discard(self) -> None:
        """Close and remove what was written; the load goes another way."""
        self._waiting = []
        self._close_file()
        for file in self._files:
            file.path.unlink(missing_ok=True)
        self._files = []
