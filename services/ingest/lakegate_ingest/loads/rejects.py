"""Rejected rows, read from the quarantine's Parquet files one row group at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, cast

import pyarrow.parquet as pq

from lakegate_chassis.numerals import natural
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.engine.quarantine import headers_of
from lakegate_ingest.errors import BadCursor
from lakegate_ingest.loads.schemas import Reject

START = (0, 0)


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
    """Up to `limit` records from `start` on, and the cursor of those that follow. Blocks."""
    found: list[Reject] = []
    for position, record in records(warehouse, files, start):
        if len(found) == limit:
            return found, f"{position[0]}.{position[1]}"
        found.append(Reject.model_validate(record))
    return found, None


def headers(warehouse: Warehouse, files: list[tuple[int, str]]) -> dict[str, str]:
    """The header of each delimited file that had one, as a line of CSV with the file's delimiter. Blocks."""
    if not files:
        return {}
    with warehouse.input(files[0][1]).open() as stream:
        return headers_of(pq.read_schema(cast(IO[bytes], stream)))


def records(
    warehouse: Warehouse, files: list[tuple[int, str]], start: tuple[int, int] = START
) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """Each record with its position; memory holds one row group."""
    for seq, url in files:
        if seq < start[0]:
            continue
        skip = start[1] if seq == start[0] else 0
        with warehouse.input(url).open() as stream:
            file = pq.ParquetFile(cast(IO[bytes], stream))
            begins = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if begins + rows > skip:
                    offset = max(skip - begins, 0)
                    table = file.read_row_group(group).slice(offset)
                    at = begins + offset
                    for batch in table.to_batches(max_chunksize=1000):
                        for record in batch.to_pylist():
                            yield (seq, at), record
                            at += 1
                begins += rows
