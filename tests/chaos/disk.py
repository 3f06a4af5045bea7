"""A disk with nothing left on it, below the spool and the warehouse."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from chaos.ledger import Ledger, now
from chaos.suite import Stage

SIZE_BYTES = 512 * 1024 * 1024
SECONDS = 15.0
_AGAIN_SECONDS = 0.25
_PIECE = b"\0" * 4096


async def full(stage: Stage, _: Ledger) -> float:
    """Fill it, and again whatever the services give back meanwhile; then there is room again."""
    assert stage.disk is not None
    filler = stage.disk / "filler"
    end = now() + SECONDS
    try:
        while now() < end:
            await asyncio.to_thread(_fill, filler)
            await asyncio.sleep(_AGAIN_SECONDS)
    finally:
        filler.unlink()
    return now()


def _fill(filler: Path) -> None:
    with filler.open("ab") as file:
        free = os.statvfs(filler).f_bavail * os.statvfs(filler).f_frsize
        try:
            if free:
                os.posix_fallocate(file.fileno(), file.tell(), free)
                file.seek(0, os.SEEK_END)
            while True:
                os.write(file.fileno(), _PIECE)
        except OSError:
            return  # there it is: no space left
