"""Files of loads that have ended, kept to be written over by the next ones.

A page of memory that the kernel has at hand is written in a twentieth of the time that a fresh one takes, and a body of
a gigabyte needs 262,144 of them: 0.07 s against 0.2 s of CPU, or 2 s where a hypervisor has to find the memory first.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from uuid import uuid4

_FOLDER = ".reuse"
_LEAST_BYTES = 8 << 20  # below that there is little to gain
_SPARE = 4  # so many times what may be kept has to be free on the disk besides


class Reuse:
    """Files in one folder beside those of the loads. For one process of those that share a spool; thread-safe."""

    def __init__(self, spool: Path, most_bytes: int) -> None:
        self._folder = spool / _FOLDER
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._files: dict[Path, int] = {}

    @property
    def kept_bytes(self) -> int:
        with self._lock:
            return sum(self._files.values())

    def take(self, path: Path, expected_bytes: int | None) -> bool:
        """Make `path` of a file that was kept, with its old content; False when there is none that is worth it.

        It is no longer than what is expected, so that nothing old is left behind what will be written. Who writes less
        has to cut it off.
        """
        if expected_bytes is None or expected_bytes < _LEAST_BYTES:
            return False
        with self._lock:
            if not self._files:
                return False
            enough = [file for file, size in self._files.items() if size >= expected_bytes]
            size_of = self._files.__getitem__
            file = min(enough, key=size_of) if enough else max(self._files, key=size_of)
            size = self._files.pop(file)
        file.rename(path)
        if size > expected_bytes:
            os.truncate(path, expected_bytes)
        return True

    def keep_from(self, folder: Path) -> None:
        """Take the largest file out of the folder of a load that has ended, if there is room for it."""
        if not self._most_bytes:
            return
        try:
            sizes = {entry: entry.stat().st_size for entry in folder.iterdir() if entry.is_file()}
            free = shutil.disk_usage(folder).free
        except FileNotFoundError:
            return
        largest = max(sizes, key=sizes.__getitem__, default=None)
        if largest is None or sizes[largest] < _LEAST_BYTES or free < _SPARE * self._most_bytes:
            return
        with self._lock:
            if sum(self._files.values()) + sizes[largest] > self._most_bytes:
                return
            kept = self._folder / str(uuid4())
            try:
                self._folder.mkdir(exist_ok=True)
                largest.rename(kept)
            except OSError:
                return  # a full disk, or somebody removed it meanwhile: then nothing is kept
            self._files[kept] = sizes[largest]

    def clear(self) -> bool:
        """Give the disk back; whether there was anything."""
        with self._lock:
            files, self._files = self._files, {}
        for file in files:
            file.unlink(missing_ok=True)
        return bool(files)

    def forget_former(self) -> None:
        """Remove what the process before this one has kept: nobody knows what of it is still in memory."""
        shutil.rmtree(self._folder, ignore_errors=True)
