"""DuckDB connections with bounds: no network, no extension loading, spill only where the load allows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from lakegate_ingest.engine.errors import OutOfDisk


@contextmanager
def connect(work_dir: Path, *, memory_bytes: int, threads: int) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(
        config={
            "memory_limit": f"{memory_bytes // (1024 * 1024)}MiB",
            "threads": threads,
            "temp_directory": str(work_dir),
            # Batches held back to restore the order would grow with the file. A single thread keeps order anyway.
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    try:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        yield connection
    finally:
        connection.close()


def is_out_of_disk(error: BaseException) -> bool:
    """No space, or a limit on the size of a file or on the quota: DuckDB and Arrow tell by their message."""
    return any(said in str(error) for said in ("No space left on device", "File too large", "Disk quota exceeded"))


def out_of_disk() -> OutOfDisk:
    return OutOfDisk(
        "The disk of the ingest service is full. Nothing of this load was kept. Send it again later, in smaller "
        "files, or ask the operator for space."
    )
