"""Namespaces of our own (Linux, root): what is cut or filled there is cut or filled for nobody else.

They end with the last process in them, and so do their packet filter and their mounts: nothing is left behind, even
by a run that was killed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_PROGRAMS = ("ip", "mount", "nft")


def why_not() -> str | None:
    """Why this process can't have namespaces of its own, None if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs Linux and root"
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    return f"needs {', '.join(missing)}" if missing else None


def enter() -> None:
    """Leave the machine's mounts and network for copies of our own, with a loopback and nothing else.

    Call it before any thread is started. Raises OSError where the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare was refused")
    # what is mounted from now on must not be seen outside
    _run("mount", "--make-rprivate", "/")
    _run("ip", "link", "set", "lo", "up")


def mount_small_disk(place: Path, size_bytes: int, folders: list[Path]) -> None:
    """A disk of that size at `place`, and on it the given folders, which appear where they are named."""
    place.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=755", "chaos", str(place))
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        on_disk = place / folder.name
        on_disk.mkdir()
        _run("mount", "--bind", str(on_disk), str(folder))


def unmount(*places: Path) -> None:
    """So that the folders can be removed."""
    for place in places:
        _run("umount", "--lazy", str(place))


def drop(port: int, *, requests: bool) -> None:
    """Nothing comes back from the port any more, and with `requests` nothing gets there either. Nobody is told."""
    rules = [f"add rule inet chaos cut tcp sport {port} drop"]
    if requests:
        rules.append(f"add rule inet chaos cut tcp dport {port} drop")
    _run(
        "nft",
        "\n".join(["add table inet chaos", "add chain inet chaos cut { type filter hook input priority 0; }", *rules]),
    )


def drop_nothing() -> None:
    _run("nft", "delete table inet chaos")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
