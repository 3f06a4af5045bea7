"""What other engines put into a table may be no file that rows can be read of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from pyiceberg.exceptions import ResolveError
from pyiceberg.io.pyarrow import UnsupportedPyArrowTypeException
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat

from lakegate_ingest.commit.files import missing
from lakegate_ingest.errors import TableFileUnreadable


@contextmanager
def readable(file: DataFile) -> Iterator[None]:
    """Raises TableFileUnreadable for what Arrow and pyiceberg say of a file that is read in here.

    TableFileMissing for one that is deleted meanwhile.
    """
    if file.content == DataFileContent.DATA and file.file_format != FileFormat.PARQUET:
        raise _unreadable(file, f"it is a file of {file.file_format.value}, and rows are read of Parquet only")
    try:
        yield
    except FileNotFoundError as error:
        raise missing(file.file_path) from error
    except (pa.ArrowException, OSError, ValueError, ResolveError, UnsupportedPyArrowTypeException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, and not the file's, of which Arrow raises some without a number
        raise _unreadable(file, str(error)[:500]) from error


@contextmanager
def taken_for_granted() -> Iterator[None]:
    """Around pyiceberg's readers, which look for a time's zone in a text, or for a column that is not there.

    Raises ValueError for a file that is not as they take it to be.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"it is not made as a file of this table has to be ({error})") from error


def _unreadable(file: DataFile, reason: str) -> TableFileUnreadable:
    return TableFileUnreadable(
        f"The table's file {file.file_path[:500]} can't be read: {reason}. An engine may read it through the Iceberg "
        "endpoint and write it again as Parquet; or roll the table back to a snapshot that does not need it."
    )
