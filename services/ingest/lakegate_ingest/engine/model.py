"""What goes into the engine and what comes out: plain values, no DuckDB."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pyiceberg.schema import Schema

from lakegate_ingest.engine.arrival import Arrival

OnNewColumn = Literal["evolve", "reject"]
MAX_LINE_BYTES = 4 * 1024 * 1024  # a record is copied some thirty times on its way; 400 MB are all there is


class Format(StrEnum):
    CSV = "csv"
    TSV = "tsv"
    NDJSON = "ndjson"
    JSON = "json"
    PARQUET = "parquet"

    @property
    def delimited(self) -> bool:
        return self in (Format.CSV, Format.TSV)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read one file. An empty field is always null; `null_values` are further spellings of null.

    `delimiter` None: tab for TSV, else found among comma, semicolon, tab and bar.
    `encoding` None: UTF-8, or UTF-16 by its byte order mark. Otherwise a Python codec name, e.g. "latin-1".
    """

    format: Format
    delimiter: str | None = None
    null_values: tuple[str, ...] = ("",)
    header: bool = True
    encoding: str | None = None

    @property
    def field_delimiter(self) -> str | None:
        return "\t" if self.delimiter is None and self.format is Format.TSV else self.delimiter


@dataclass(frozen=True, slots=True)
class Source:
    """One file on local disk, already decompressed.

    `records` and `malformed` are what RecordCounter found (None: the engine counts by reading the file once more).
    `arrival` is set while the file is still being written; then they come from it.
    """

    path: Path
    name: str
    options: ReadOptions
    records: int | None = None
    malformed: bool = False
    arrival: Arrival | None = None


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Bounds of one load. Bytes, unless named otherwise."""

    memory_bytes: int = 180 * 1024 * 1024  # DuckDB's share: the process stays under 400 MB with it
    threads: int = 2
    max_line_bytes: int = MAX_LINE_BYTES
    max_columns: int = 1000
    target_file_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """`phase` is "typed" or "tolerant"; a restart on the tolerant path begins again at 0."""

    phase: Literal["typed", "tolerant"]
    bytes_read: int
    bytes_total: int | None
    rows: int


@dataclass(frozen=True, slots=True)
class DataFile:
    path: Path
    size_bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class WriteResult:
    """rows_in == rows_written + rows_quarantined, always; otherwise write() raised CountMismatch.

    `schema` is the table's schema after the load (equal to the given one when nothing was added), with
    field ids; `new_columns` are the names that this load adds, in order. `reasons` counts rows per
    "<column>: <reason>". A quarantine file holds one record per error (see quarantine.SCHEMA), so a row
    with two bad columns is two records with the same `row_id`, and counts once.
    """

    rows_in: int
    rows_written: int
    rows_quarantined: int
    schema: Schema
    new_columns: tuple[str, ...]
    data_files: tuple[DataFile, ...]
    quarantine_files: tuple[DataFile, ...]
    reasons: Counter[str] = field(default_factory=Counter)
    path: Literal["typed", "tolerant"] = "typed"
    notes: tuple[str, ...] = ()


ProgressCallback = Callable[[Progress], None]
