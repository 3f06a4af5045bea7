"""The spool: one folder a load, on the local disk, within a quota that all loads of the process share."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from lakegate_ingest.errors import SpoolBusy, SpoolFull
from lakegate_ingest.spool.reuse import Reuse


class Spool:
    """Folders named by load id. Counts the bytes of received files; thread-safe, since files are written in threads.

    Up to `reuse_bytes` of files of loads that have ended wait to be written over, see Reuse; they count to the quota.
    """

    def __init__(self, directory: Path, quota_bytes: int, reuse_bytes: int = 0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.quota_bytes = quota_bytes
        self.reuse = Reuse(directory, min(reuse_bytes, quota_bytes // 4))
        self._used: dict[UUID, int] = {}
        self._lock = threading.Lock()
        for load_id in self.on_disk():
            self._used[load_id] = sum(_sizes(self.path(load_id)))

    @property
    def used_bytes(self) -> int:
        with self._lock:
            return sum(self._used.values())

    def path(self, load_id: UUID) -> Path:
        return self.directory / str(load_id)

    def on_disk(self) -> list[UUID]:
        """The loads that have a folder here; folders with other names are not ours and are left alone."""
        found = []
        for entry in self.directory.iterdir():
            try:
                found.append(UUID(entry.name))
            except ValueError:
                continue
        return found

    def check_room(self, expected_bytes: int) -> None:
        """Raise SpoolBusy when a body of this size can't fit beside what others have spooled."""
        if self.used_bytes + expected_bytes > self.quota_bytes:
            raise SpoolBusy(
                "Loads in progress use the spool up to its quota. Try again when some of them are done, "
                "or have INGEST_SPOOL__QUOTA_BYTES raised."
            )

    def create(self, load_id: UUID) -> Path:
        """A new folder. Raises SpoolFull when even that has no room."""
        path = self.path(load_id)
        try:
            path.mkdir()
        except OSError as error:
            raise SpoolFull(
                "The disk of the spool has no space left, or can't be written. Nothing was loaded."
            ) from error
        with self._lock:
            self._used[load_id] = 0
        return path

    def grow(self, load_id: UUID, size_bytes: int) -> None:
        """Count what is about to be written. Raises SpoolFull beyond the quota."""
        with self._lock:
            used = sum(self._used.values()) + size_bytes
            if used + self.reuse.kept_bytes > self.quota_bytes:
                self.reuse.clear()
            if used > self.quota_bytes:
                raise SpoolFull(
                    f"The spool has reached its quota of {self.quota_bytes:,} bytes. Nothing was loaded; try later."
                )
            self._used[load_id] = self._used.get(load_id, 0) + size_bytes

    def remove(self, load_id: UUID) -> None:
        """Delete the folder and give its bytes back; quiet when it is gone already. Blocks: call it in a thread."""
        self.reuse.keep_from(self.path(load_id))
        shutil.rmtree(self.path(load_id), ignore_errors=True)
        with self._lock:
            self._used.pop(load_id, None)


def _sizes(folder: Path) -> Iterator[int]:
    """Of the files below, as long as they are there: another process may be removing them."""
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                yield (Path(parent) / name).stat().st_size
            except FileNotFoundError:
                continue
