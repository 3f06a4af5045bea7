"""Every reason for which the engine refuses a load as a whole. All are terminal but OutOfDisk.

EngineError
├── LoadCancelled
├── OutOfDisk  OutOfMemory   507
├── CountMismatch         500: our own fault, nothing is committed
└── Unreadable            422: the file must change
    ├── EmptyBody  HeaderOnly  NotText  InvalidEncoding  UnknownFormat
    ├── WrongDelimiter  LineTooLong  UnclosedQuote  TooManyColumns
    ├── DuplicateColumn  EmptyColumnName  BadColumnName  NoMatchingColumn
    ├── NewColumn  MissingColumn  UnsupportedColumn  IncompatibleColumn
    └── InvalidJson  TruncatedParquet
"""

from __future__ import annotations

from typing import ClassVar


class EngineError(Exception):
    """`slug`, `title`, `status` and `detail` are those of the problem (RFC 9457) to answer with."""

    slug: ClassVar[str] = "load-failed"
    title: ClassVar[str] = "The load failed"
    status: ClassVar[int] = 500

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class LoadCancelled(EngineError):
    slug, title, status = "load-cancelled", "The load was cancelled", 409


class OutOfDisk(EngineError):
    slug, title, status = "out-of-disk", "No space left for this load", 507


class OutOfMemory(EngineError):
    slug, title, status = "out-of-memory", "The load needs more memory than it may use", 507


class CountMismatch(EngineError):
    slug, title, status = "count-mismatch", "The rows could not all be accounted for", 500


class Unreadable(EngineError):
    slug, title, status = "unreadable-file", "The file can't be read", 422


class EmptyBody(Unreadable):
    slug, title = "empty-body", "The file is empty"


class HeaderOnly(Unreadable):
    slug, title = "header-only", "The file has a header and no rows"


class NotText(Unreadable):
    slug, title = "not-text", "The file is not text"


class InvalidEncoding(Unreadable):
    slug, title = "invalid-encoding", "The text is not in the expected encoding"


class UnknownFormat(Unreadable):
    slug, title = "unknown-format", "The format of the file can't be told"


class WrongDelimiter(Unreadable):
    slug, title = "wrong-delimiter", "The delimiter does not fit the file"


class LineTooLong(Unreadable):
    slug, title = "line-too-long", "A record is too long"


class UnclosedQuote(Unreadable):
    slug, title = "unclosed-quote", "A quoted field is never closed"


class TooManyColumns(Unreadable):
    slug, title = "too-many-columns", "The file has too many columns"


class DuplicateColumn(Unreadable):
    slug, title = "duplicate-column", "Two columns have the same name"


class EmptyColumnName(Unreadable):
    slug, title = "empty-column-name", "A column has no name"


class BadColumnName(Unreadable):
    slug, title = "bad-column-name", "The name of a column can't be used"


class NoMatchingColumn(Unreadable):
    slug, title = "no-matching-column", "No column of the file is in the table"


class NewColumn(Unreadable):
    slug, title = "new-column", "The file has a column that the table does not"


class MissingColumn(Unreadable):
    slug, title = "missing-column", "A required column is missing"


class UnsupportedColumn(Unreadable):
    slug, title = "unsupported-column", "A column of the table can't be filled from this format"


class IncompatibleColumn(Unreadable):
    slug, title = "incompatible-column", "A column of the file does not fit the table"


class InvalidJson(Unreadable):
    slug, title = "invalid-json", "The file is not valid JSON"


class TruncatedParquet(Unreadable):
    slug, title = "truncated-parquet", "The Parquet file is damaged or cut short"
