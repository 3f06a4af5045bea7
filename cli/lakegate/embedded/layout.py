"""The data folder of an embedded suite: what is where."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

_KEPT_LOG_BYTES = 20 * 1024 * 1024


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

    def has_data(self) -> bool:
        return self.warehouse.exists() or self.postgres.exists()

    def make(self) -> None:
        """The folders, those with secrets closed to others. Raises OSError where that is forbidden."""
        # Not 0700: as root, PostgreSQL runs as another user who must be able to pass through.
        self.path.mkdir(parents=True, exist_ok=True)
        for folder in (self.warehouse, self.spool, self.search, self.logs):
            folder.mkdir(exist_ok=True)
        self.secrets.mkdir(exist_ok=True, mode=0o700)
        # A data folder inside a checkout must not end up in a commit.
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")

    def wipe(self) -> None:
        """Remove all but the lock, which the caller holds, and the logs, of which one may be the caller's own."""
        for entry in self.path.iterdir() if self.path.exists() else ():
            if entry in (self.lock, self.logs):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def rotate_logs(self) -> None:
        """Start each log anew that grew past 20 MB; one older generation is kept."""
        for log in self.logs.glob("*.log"):
            if log.stat().st_size > _KEPT_LOG_BYTES:
                log.replace(log.with_suffix(".log.1"))


def last_lines(path: Path, count: int = 12, *, after: int = 0) -> str:
    """The end of a log, from byte `after` on; empty when there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(after, size - 64 * 1024))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])
    except FileNotFoundError:
        return ""
