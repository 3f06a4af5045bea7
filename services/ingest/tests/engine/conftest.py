from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema

from lakegate_ingest.engine import Format, ReadOptions, RecordCounter, Source, WriteResult, write


@dataclass
class Loaded:
    result: WriteResult
    rows: list[dict[str, Any]]
    rejects: list[dict[str, Any]]

    @property
    def types(self) -> dict[str, str]:
        return {field.name: str(field.field_type) for field in self.result.schema.fields}


Load = Callable[..., Loaded]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write `content` (or several, each a file) and read back what came out."""

    def run(
        *contents: str | bytes,
        format: Format = Format.CSV,
        schema: Schema | None = None,
        options: dict[str, Any] | None = None,
        **more: Any,
    ) -> Loaded:
        shutil.rmtree(tmp_path / "load", ignore_errors=True)
        sources = []
        for number, content in enumerate(contents):
            data = content if isinstance(content, bytes) else content.encode()
            path = tmp_path / f"{number}.{format}"
            path.write_bytes(data)
            read = ReadOptions(format, **(options or {}))
            counter = RecordCounter(read)
            counter.feed(data)
            records = None if format is Format.PARQUET else counter.finish()
            sources.append(Source(path, path.name, read, records, counter.malformed))
        folder = tmp_path / "load"
        result = write(
            sources,
            schema,
            out_dir=folder / "data",
            quarantine_dir=folder / "quarantine",
            work_dir=folder / "work",
            **more,
        )
        rows = [row for file in result.data_files for row in pq.ParquetFile(file.path).read().to_pylist()]
        rejects = [row for file in result.quarantine_files for row in pq.ParquetFile(file.path).read().to_pylist()]
        assert result.rows_in == result.rows_written + result.rows_quarantined
        assert result.rows_written == len(rows) == sum(file.rows for file in result.data_files)
        assert result.rows_quarantined == len({row["row_id"] for row in rejects})
        assert not (folder / "work").exists()
        return Loaded(result, rows, rejects)

    return run
