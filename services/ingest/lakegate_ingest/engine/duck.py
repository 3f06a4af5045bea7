"""DuckDB connections with bounds: no network, no extension loading, spill only where the load allows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from lakegate_ingest.engine.errors import OutOfDisk

_MOST_PLANS = 50  # a load has a few for each of its files


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


class Session:
    """A connection that is asked the same of one table after another: planning takes as long as 10,000 rows."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._feeds: dict[str, _Feed] = {}
        self._plans: dict[str, str] = {}

    def ask(self, statement: str, name: str, table: pa.Table) -> pa.Table:
        """The answer to `statement`, which reads `table` under the `name`."""
        feed = self._feeds.get(name)
        if feed is None or feed.schema != table.schema or len(self._plans) == _MOST_PLANS:
            self._forget()
            feed = self._feeds[name] = _Feed(table.schema)
            self._connection.register(name, feed)
        feed.table = table
        try:
            if statement not in self._plans:
                plan = f"plan{len(self._plans)}"
                self._connection.execute(f"PREPARE {plan} AS {statement}")
                self._plans[statement] = plan
            with legible():
                answer = self._connection.execute(f"EXECUTE {self._plans[statement]}")
                # Room for as many rows is made at once, for each column.
                return answer.to_arrow_table(max(table.num_rows, 1))
        finally:
            feed.table = None

    def _forget(self) -> None:
        for plan in self._plans.values():
            self._connection.execute(f"DEALLOCATE {plan}")
        self._plans.clear()


class _Feed:
    """What a planned statement reads: the table that is there when it runs."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.table: pa.Table | None = None

    def __arrow_c_schema__(self) -> object:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        assert self.table is not None
        stream: object = self.table.__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]
        return stream


@contextmanager
def legible() -> Iterator[None]:
    """DuckDB quotes the beginning of a record, cut where it may be within a character: its Python binding can't decode
    the message then, and raises that in place of the error. Raises duckdb.InvalidInputException."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise duckdb.InvalidInputException(bytes(error.object).decode(errors="replace")) from error


def is_out_of_disk(error: BaseException) -> bool:
    """No space, or a limit on the size of a file or on the quota: DuckDB and Arrow tell by their message. Other errors
    than those of input and output may quote a value that says so."""
    return isinstance(error, (OSError, duckdb.IOException)) and any(
        said in str(error) for said in ("No space left on device", "File too large", "Disk quota exceeded")
    )


def out_of_disk() -> OutOfDisk:
    return OutOfDisk(
        "The disk of the ingest service is full. Nothing of this load was kept. Send it again later, in smaller "
        "files, or ask the operator for space."
    )
