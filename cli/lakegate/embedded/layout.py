"""The data folder of an embedded suite: what is where."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

_KEPT_LOG_BYTES = 20 * 1024 * 1024
_COPY_BYTES = 1024 * 1024


class ForeignFolder(Exception):
    """The folder holds something and was not made by us; nothing in it may be written or removed."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is not empty and no data folder of Lakegate: name an empty or a new one with --home, "
            "or with LAKEGATE_HOME."
        )


@dataclass(frozen=True)
class Home:
    """`.lakegate/` by default; everything the suite writes is below it."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> Home:
        return cls(path.resolve())

    @property
    def postgres(self) -> Path:
        return self.path / "pg"

    @property
    def warehouse(self) -> Path:
        return self.path / "warehouse"

    @property
    def spool(self) -> Path:
        return self.path / "spool"

    @property
    def search(self) -> Path:
        return self.path / "search"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    def log(self, process: str) -> Path:
        return self.logs / f"{process}.log"

    @property
    def marker(self) -> Path:
        """What tells a folder of ours from anybody's."""
        return self.path / ".lakegate-home"

    def check_ours(self) -> None:
        """Raises ForeignFolder for one that make() has not made and that holds anything but a lock and logs."""
        # The key names those that were made before there was a marker.
        if self.marker.exists() or (self.secrets / "admin.key").exists() or not self.path.exists():
            return
        if not self.path.is_dir() or set(self.path.iterdir()) - {self.lock, self.logs}:
            raise ForeignFolder(self.path)

    def doomed(self) -> list[Path]:
        """What wipe() would remove: entries that we name and that hold anything."""
        named = (self.postgres, self.warehouse, self.spool, self.search, self.secrets, self.state)
        return [entry for entry in named if entry.is_symlink() or _holds_anything(entry)]

    def make(self) -> None:
        """The folders, closed to other users. Raises ForeignFolder, and OSError where that is forbidden."""
        self.check_ours()
        # Not 0700: as root, PostgreSQL runs as another user who must be able to pass through.
        self.path.mkdir(parents=True, exist_ok=True)
        self.marker.touch()
        for folder in (self.warehouse, self.spool, self.search, self.logs, self.secrets):
            folder.mkdir(exist_ok=True, mode=0o700)
        # The others stay as they are found: somebody may have opened the warehouse to a group on purpose.
        for folder in (self.logs, self.secrets):
            folder.chmod(0o700)
        # A data folder inside a checkout must not end up in a commit.
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")

    def wipe(self) -> None:
        """Remove the data and nothing that we don't name. The caller holds the lock. Raises ForeignFolder."""
        self.check_ours()
        for entry in self.doomed():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def bound_logs(self) -> None:
        """Move what a log holds past 20 MB to its one older generation.

        Copied and cut, not renamed: the processes append to the open file. What one writes in between is lost.
        """
        for log in self.logs.glob("*.log"):
            if log.stat().st_size > _KEPT_LOG_BYTES:
                with log.open("rb") as file, log.with_suffix(".log.1").open("wb") as older:
                    shutil.copyfileobj(file, older, _COPY_BYTES)
                os.truncate(log, 0)


def _holds_anything(entry: Path) -> bool:
    return any(entry.iterdir()) if entry.is_dir() else entry.exists()


def last_lines(path: Path, count: int = 12, *, after: int = 0) -> str:
    """The end of a log, from byte `after` on; empty when there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            # Shorter than `after`: the log was cut meanwhile.
            file.seek(max(after if after <= size else 0, size - 64 * 1024))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])
    except FileNotFoundError:
        return ""
