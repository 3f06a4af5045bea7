"""A spooled file as DuckDB reads it: after its byte order mark, behind an optional probe, perhaps still growing.

The engine sees every read: progress, cancelling and waiting for bytes happen here. CSV goes through a named pipe, which
DuckDB reads without Python. JSON goes through an fsspec file system, which costs three copies: from a pipe, DuckDB's
readers of JSON would keep all that they have read.
"""

from __future__ import annotations

import fcntl
import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fsspec.spec import AbstractFileSystem  # type: ignore[import-untyped]

from lakegate_ingest.engine.arrival import Arrival
from lakegate_ingest.engine.errors import LoadCancelled
from lakegate_ingest.engine.truths import TruthCount

_PIPE_BYTES = 1024 * 1024  # what Linux lets anybody have
_MOVED_BYTES = 64 * 1024
_LOOK_SECONDS = 0.5
_OPEN_SECONDS = 0.002
_UNKNOWN_SIZE = 1 << 40  # DuckDB reads until a read comes back empty; a larger size only sets its thread count


class Spool:
    """What the file system serves: `head`, then the bytes of `path` from `skip` on."""

    def __init__(
        self,
        path: Path,
        *,
        head: bytes = b"",
        skip: int = 0,
        arrival: Arrival | None = None,
        on_read: Callable[[int], None] = lambda _: None,
        positional: bool = False,
    ) -> None:
        self.path = path
        self.address = "spool://file"  # how a statement names it
        self.positional = positional
        self.head = head
        self.skip = skip
        self.arrival = arrival
        self.on_read = on_read  # with the position in the file that has been reached; may raise to stop
        self.truths: TruthCount | None = None
        self.failure: BaseException | None = None  # DuckDB replaces what a read raises by an error of its own

    @property
    def size(self) -> int:
        arrival = self.arrival
        if arrival is None or arrival.finished:
            return len(self.head) + self.path.stat().st_size - self.skip
        return arrival.expected_bytes + len(self.head) - self.skip if arrival.expected_bytes else _UNKNOWN_SIZE


class Pipe:
    """A named pipe that gives a spool's bytes, which have no `head`, to one reader.

    When the reader has ended, `spool.failure` tells whether it was given all there is.
    """

    def __init__(self, spool: Spool, folder: Path) -> None:
        self._spool = spool
        self._path = folder / "pipe"
        spool.address = str(self._path)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine-pipe", daemon=True)

    def __enter__(self) -> None:
        os.mkfifo(self._path, 0o600)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._path.unlink()

    def _run(self) -> None:
        try:
            out = self._open()
            if out is not None:
                try:
                    self._move(out)
                finally:
                    os.close(out)
        except BrokenPipeError:
            pass  # the reader stopped before the end, and says why
        except BaseException as error:  # noqa: BLE001 - the thread that reads the result raises it
            self._spool.failure = error

    def _open(self) -> int | None:
        """Once there is a reader. None when none comes.

        Whatever keeps it from being opened, it is tried again: the reader would wait for ever.
        """
        while not self._stopped.wait(_OPEN_SECONDS):
            try:
                out = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # no reader yet, or no descriptor to be had
                continue
            if hasattr(fcntl, "F_SETPIPE_SZ"):
                with suppress(PermissionError):  # whoever has many large pipes gets small ones, which do, too
                    fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            return out
        return None

    def _move(self, out: int) -> None:
        spool = self._spool
        room = select.poll()
        room.register(out, select.POLLOUT)
        buffer = memoryview(bytearray(_MOVED_BYTES))
        position = spool.skip
        with spool.path.open("rb", buffering=0) as file:
            file.seek(position)
            while not self._stopped.is_set():
                spool.on_read(position)
                wanted = len(buffer)
                if spool.arrival is not None and not spool.arrival.finished:
                    wanted = self._await_bytes(spool.arrival, position)
                count = file.readinto(buffer[:wanted])
                if not count:
                    return
                self._give(out, buffer[:count], room)
                position += count

    def _await_bytes(self, arrival: Arrival, position: int) -> int:
        """How many may be read: none that have not been written."""
        while not self._stopped.is_set():
            there = arrival.wait_past(position, _LOOK_SECONDS)
            if arrival.aborted:
                raise LoadCancelled("The body ended before the file did. Send it again.")
            if there > position or arrival.finished:
                return min(max(there - position, 0), _MOVED_BYTES) or _MOVED_BYTES
            self._spool.on_read(position)
        return 0

    def _give(self, out: int, data: memoryview, room: select.poll) -> None:
        while data and not self._stopped.is_set():
            try:
                data = data[os.write(out, data) :]
            except BlockingIOError:
                room.poll(_LOOK_SECONDS * 1000)


class _Place:
    """Where the next read begins."""

    position = 0


class _PlaceOfThread:
    """By the operating system's thread, not by threading.local: DuckDB's threads get a new state of Python's with each
    call, and a place that is lost between two reads fills the rest of a buffer with the file's beginning.
    """

    def __init__(self) -> None:
        self._places: dict[int, int] = {}

    @property
    def position(self) -> int:
        return self._places.get(threading.get_ident(), 0)

    @position.setter
    def position(self, position: int) -> None:
        self._places[threading.get_ident()] = position


class _Open:
    """The part of a Python file that DuckDB calls.

    DuckDB's reader of JSON lines asks for ranges from several threads at once, each as a seek and a read on one file.
    In between the other thread may run, so there (`positional`) every thread has a place of its own. Its reader of a
    JSON array goes on where another thread has stopped or sought, under a lock of its own: there the place is shared.
    """

    mode = "rb"

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._descriptor = os.open(spool.path, os.O_RDONLY)
        self._place: _Place | _PlaceOfThread = _PlaceOfThread() if spool.positional else _Place()
        self.size = spool.size

    def seek(self, position: int, whence: int = 0) -> int:
        if whence == 1:
            position += self._place.position
        elif whence == 2:
            position += self.size
        self._place.position = position
        return position

    def tell(self) -> int:
        return self._place.position

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            return self._read(self._place.position, self.size - self._place.position if size < 0 else size)
        except BaseException as error:
            self._spool.failure = error
            raise

    def _read(self, position: int, size: int) -> bytes:
        spool = self._spool
        head = spool.head[position : position + size]
        start = max(position - len(spool.head), 0) + spool.skip
        wanted = size - len(head)
        spool.on_read(start)
        if spool.arrival is not None:
            self._await_bytes(spool.arrival, start, start + wanted)
        body = os.pread(self._descriptor, wanted, start) if wanted else b""
        if spool.truths is not None and body:
            before = min(4, start - spool.skip)
            spool.truths.saw(start, os.pread(self._descriptor, before, start - before), body)
        self._place.position = position + len(head) + len(body)
        return head + body if head else body

    def _await_bytes(self, arrival: Arrival, start: int, end: int) -> None:
        while arrival.wait_past(end - 1) < end and not arrival.finished:
            if arrival.aborted:
                raise LoadCancelled("The body ended before the file did. Send it again.")
            self._spool.on_read(start)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def flush(self) -> None:
        """DuckDB calls it on closing."""


class SpoolFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """`spool://<key>` for each Spool given; one per DuckDB connection."""

    protocol = "spool"
    cachable = False

    def __init__(self, spools: dict[str, Spool]) -> None:
        super().__init__()
        self._spools = spools

    def _spool(self, path: str) -> Spool:
        return self._spools[path.removeprefix("spool://")]

    def open(self, path: str, mode: str = "rb", **_: Any) -> _Open:
        return _Open(self._spool(path))

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": self._spool(path).size, "type": "file"}

    def glob(self, path: str, **_: Any) -> list[str]:
        return [path]

    def exists(self, path: str, **_: Any) -> bool:
        return path.removeprefix("spool://") in self._spools

    def isfile(self, path: str) -> bool:
        return self.exists(path)

    def modified(self, path: str) -> float:
        return 0.0
