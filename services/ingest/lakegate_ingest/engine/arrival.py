"""A file that is read while it is still being written, so that receiving and parsing overlap."""

from __future__ import annotations

import threading


class Arrival:
    """Shared by the writer of a spool file (one event loop) and its reader (one engine thread).

    The writer calls `advance(size)` after each write has reached the file, then `finish(records, malformed)` once, or
    `abort()`. The reader blocks in `wait_past`. Without `records` the reader that needs them counts.
    """

    def __init__(self, expected_bytes: int | None = None) -> None:
        # Content-Length of a file that is not compressed. DuckDB's JSON reader believes it and takes no read for short:
        # JSON must not be read early without it.
        self.expected_bytes = expected_bytes
        self.records: int | None = None
        self.malformed = False
        self._changed = threading.Condition()
        self._size = 0
        self._finished = False
        self._aborted = False

    def advance(self, size_bytes: int) -> None:
        with self._changed:
            # who begins to follow a file may tell of less than its writer did meanwhile
            self._size = max(self._size, size_bytes)
            self._changed.notify_all()

    def finish(self, records: int | None = None, malformed: bool = False) -> None:
        with self._changed:
            self.records, self.malformed = records, malformed
            self._finished = True
            self._changed.notify_all()

    def abort(self) -> None:
        with self._changed:
            self._aborted = True
            self._changed.notify_all()

    @property
    def finished(self) -> bool:
        return self._finished

    @property
    def aborted(self) -> bool:
        return self._aborted

    def wait_past(self, size_bytes: int, timeout_seconds: float = 1.0) -> int:
        """The bytes there are, once more than `size_bytes`, or finished, aborted or timed out."""
        with self._changed:
            self._changed.wait_for(lambda: self._size > size_bytes or self._finished or self._aborted, timeout_seconds)
            return self._size
