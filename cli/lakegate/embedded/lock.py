"""One suite per data folder: an flock, which the kernel drops with its process, so that a stale one can't exist."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import IO

_ASKED_FOR_SECONDS = 0.2


class SuiteRunning(Exception):
    """Another process holds the folder; `pid` is what it wrote into the lock, None when unreadable."""

    def __init__(self, pid: int | None, folder: Path) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"A suite already runs on {folder}: {who}.")
        self.pid = pid


class SuiteLock:
    """Held from `__enter__` to `__exit__`, or to the end of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> SuiteLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+")
        if not _taken(file):
            pid = _read_pid(file)
            file.close()
            raise SuiteRunning(pid, self._path.parent)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def holder(path: Path) -> int | None:
    """The pid of the process that holds the lock, None when nobody does."""
    try:
        file = path.open("r")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_pid(file)
    return None


def _taken(file: IO[str]) -> bool:
    """Whether the lock became ours. Asked again for a moment: `holder` takes it too, to see whether it is free."""
    deadline = time.monotonic() + _ASKED_FOR_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        else:
            return True


def _read_pid(file: IO[str]) -> int | None:
    file.seek(0)
    text = file.read().strip()
    return int(text) if text.isdigit() else None
