"""The port to whatever runs workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True)
class Look:
    """`over`: nobody works on the load there any more, nor will. `words` say what is seen, for a person."""

    over: bool
    words: str


class Launcher(Protocol):
    """Starts, looks after and stops the one worker of a load.

    `same_disk`: whether a worker finds the spool of this process where it was.
    """

    same_disk: bool

    async def start(self, load_id: UUID, size_bytes: int) -> None:
        """Have a worker that takes the load; one that is there already will do. Raises WorkerUnavailable."""
        ...

    async def look(self, load_id: UUID) -> Look:
        """Raises WorkerUnavailable when that can't be told now."""
        ...

    async def stop(self, load_id: UUID) -> None:
        """End the worker, if there is one. Raises WorkerUnavailable."""
        ...

    async def forget(self, load_id: UUID) -> None:
        """The load has ended, and its worker does so by itself: let go of what is held for it."""
        ...

    async def close(self) -> None:
        """This process ends; what becomes of the workers is the adapter's business."""
        ...
