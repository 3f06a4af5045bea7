"""The data engine: text and Parquet files on local disk in, Iceberg-ready Parquet and quarantine files out.

Blocking; runs in a worker thread. Knows nothing of HTTP, catalogs or object stores.
"""

from __future__ import annotations

from lakegate_ingest.engine.arrival import Arrival
from lakegate_ingest.engine.counting import RecordCounter
from lakegate_ingest.engine.detect import detect_bytes
from lakegate_ingest.engine.errors import (
    BadColumnName,
    CountMismatch,
    DuplicateColumn,
    EmptyBody,
    EmptyColumnName,
    EngineError,
    HeaderOnly,
    IncompatibleColumn,
    InvalidEncoding,
    InvalidJson,
    LineTooLong,
    LoadCancelled,
    MissingColumn,
    NewColumn,
    NoMatchingColumn,
    NotText,
    OutOfDisk,
    OutOfMemory,
    TooManyColumns,
    TruncatedParquet,
    UnclosedQuote,
    UnknownFormat,
    Unreadable,
    UnsupportedColumn,
    WrongDelimiter,
)
from lakegate_ingest.engine.loading import write
from lakegate_ingest.engine.model import (
    DataFile,
    EngineLimits,
    Format,
    OnNewColumn,
    Progress,
    ProgressCallback,
    ReadOptions,
    Source,
    WriteResult,
)

__all__ = [
    "Arrival",
    "BadColumnName",
    "CountMismatch",
    "DataFile",
    "DuplicateColumn",
    "EmptyBody",
    "EmptyColumnName",
    "EngineError",
    "EngineLimits",
    "Format",
    "HeaderOnly",
    "IncompatibleColumn",
    "InvalidEncoding",
    "InvalidJson",
    "LineTooLong",
    "LoadCancelled",
    "MissingColumn",
    "NewColumn",
    "NoMatchingColumn",
    "NotText",
    "OnNewColumn",
    "OutOfDisk",
    "OutOfMemory",
    "Progress",
    "ProgressCallback",
    "ReadOptions",
    "RecordCounter",
    "Source",
    "TooManyColumns",
    "TruncatedParquet",
    "UnclosedQuote",
    "UnknownFormat",
    "Unreadable",
    "UnsupportedColumn",
    "WriteResult",
    "WrongDelimiter",
    "detect_bytes",
    "write",
]
