"""What packages are turned into, kept in the user's cache: the second run makes nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/lakegate/servers, or the same under ~/.cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "lakegate" / "servers"


def is_made(name: str) -> bool:
    return (cache_folder() / name).is_dir()


def made(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache; `make` fills it the first time, and a half-filled one never has the name."""
    cache = cache_folder()
    folder = cache / name
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    # two runs at once: the second waits and finds what the first made
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            fresh = cache / f"{name}.new"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            make(fresh)
            fresh.rename(folder)
    return folder
