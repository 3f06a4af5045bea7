"""Who looks for a server, what was found, and the table at the end of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers.processes import Missing

__all__ = ["Found", "Missing", "Servers"]


@dataclass(frozen=True)
class Found:
    """A server: where it is from ("address", "Docker", "packages"), and what a reader of the report must know."""

    server: Any
    origin: str
    note: str = ""
    stop: Callable[[], None] = lambda: None


Source = Callable[[Path], Found | None]
"""Looks in one place: None says it is not configured there, Missing why it can't be had. The path is for its data."""


@dataclass
class Servers:
    """Looks for each server once a run and remembers the answer; `stop` ends what was started."""

    folder: Path
    required: frozenset[str] = frozenset()
    found: dict[str, Found] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def get(self, name: str, sources: dict[str, Source]) -> Any:
        """The server of that name, from the first source that has it. Raises Missing with everybody's reason."""
        if name not in self.found and name not in self.missing:
            self._find(name, sources)
        if name in self.missing:
            raise Missing(self.missing[name])
        return self.found[name].server

    def is_required(self, name: str) -> bool:
        return bool(self.required & {name, "all"})

    def stop(self) -> None:
        for found in reversed(self.found.values()):
            found.stop()

    def table(self) -> list[tuple[str, str, str]]:
        """Name, origin and note of everything that was asked for."""
        rows = [(name, found.origin, found.note) for name, found in self.found.items()]
        return rows + [(name, "MISSING", reason) for name, reason in self.missing.items()]

    def _find(self, name: str, sources: dict[str, Source]) -> None:
        reasons = []
        for place, source in sources.items():
            folder = self.folder / f"{name}-{place}"
            folder.mkdir(parents=True, exist_ok=True)
            try:
                found = source(folder)
            except Missing as error:
                reasons.append(f"{place}: {error}")
                continue
            if found is not None:
                self.found[name] = found
                return
        self.missing[name] = "; ".join(reasons)
