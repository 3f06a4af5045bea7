"""Rejected rows, read from the quarantine's Parquet files piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from lakegate_chassis.logs import log
from lakegate_chassis.numerals import natural
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.engine.pieces import read_batches
from lakegate_ingest.engine.quarantine import headers_of
from lakegate_ingest.errors import BadCursor, RejectsUnreadable
from lakegate_ingest.loads.schemas import Reject

START = (0, 0)
# Of a thousand rows of the largest kind, 4 MB each, a page would be more than a process may hold.
PAGE_CHARACTERS = 4 << 20


def parse_cursor(cursor: str | None) -> tuple[int, int]:
    """(file number, record offset). Raises BadCursor."""
    if cursor is None:
        return START
    first, _, second = cursor.partition(".")
    file, offset = natural(first), natural(second)
    if file is None or offset is None:
        raise BadCursor("The cursor is not one that this endpoint gave. Start without a cursor.")
    return file, offset


def page(
    warehouse: Warehouse, files: list[tuple[int, str]], start: tuple[int, int], limit: int
) -> tuple[list[Reject], str | None]:
    """Up to `limit` records from `start` on, fewer if they are large, and the cursor of those that follow. Blocks."""
    found: list[Reject] = []
    size = 0
    for (file, offset), batch in batches(warehouse, files, start, limit):
        for at, record in enumerate(batch.slice(0, limit + 1 - len(found)).to_pylist(), offset):
            if len(found) == limit or size >= PAGE_CHARACTERS:
                return found, f"{file}.{at}"
            found.append(Reject.model_validate(record))
            size += len(record["row"] or "") + len(record["value"] or "")
    return found, None


def lines(warehouse: Warehouse, files: list[tuple[int, str]], start: tuple[int, int], rows: int) -> Iterator[bytes]:
    """All records from `start` on as NDJSON, up to `rows` of them in a chunk. Blocks."""
    for _, batch in batches(warehouse, files, start, rows):
        yield b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in batch.to_pylist())


def headers(warehouse: Warehouse, files: list[tuple[int, str]]) -> dict[str, str]:
    """The header of each delimited file that had one, as a line of CSV with the file's delimiter. Blocks."""
    if not files:
        return {}
    with _opened(warehouse, files[0][1]) as stream:
        return headers_of(pq.read_schema(stream))


def batches(
    warehouse: Warehouse, files: list[tuple[int, str]], start: tuple[int, int], rows: int
) -> Iterator[tuple[tuple[int, int], pa.RecordBatch]]:
    """The records from `start` on, up to `rows` and some 8 MiB of them at once, with the position of the first.

    Row groups before `start` are passed over. Quarantines of older releases have few and large ones: what comes before
    in the same group is read, in pieces too.
    """
    for seq, url in files:
        if seq < start[0]:
            continue
        skip = start[1] if seq == start[0] else 0
        with _opened(warehouse, url) as source:
            file = pq.ParquetFile(source)
            groups, at = _groups_from(file.metadata, skip)
            for batch in read_batches(file, source, groups, file.schema_arrow.names, rows):
                end = at + batch.num_rows
                if end > skip:
                    first = max(at, skip)
                    yield (seq, first), batch.slice(first - at)
                at = end


@contextmanager
def _opened(warehouse: Warehouse, url: str) -> Iterator[IO[bytes]]:
    """Raises RejectsUnreadable for a file that is gone, or not as it was written."""
    try:
        with warehouse.input(url).open() as stream:
            yield cast(IO[bytes], stream)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) and error.errno is not None:
            raise  # the disk's fault, and not the file's
        gone = isinstance(error, FileNotFoundError)
        reason = "it is not in the warehouse any more" if gone else str(error)[:500]
        log.error("rejects_unreadable", file=url, reason=reason)
        raise RejectsUnreadable(
            f"The load's file of rejected rows {url[:500]} can't be read: {reason}. Restore it from a backup; or find "
            "the rows in the files that were sent, by what the receipt says was wrong with them."
        ) from error


def _groups_from(metadata: pq.FileMetaData, skip: int) -> tuple[range, int]:
    """The row groups from that of record `skip` on, and the number of the first record in them."""
    begins = 0
    for group in range(metadata.num_row_groups):
        end = begins + metadata.row_group(group).num_rows
        if end > skip:
            return range(group, metadata.num_row_groups), begins
        begins = end
    return range(0), begins
