"""How a push is followed: a bar on a terminal, a few lines without one, nothing with --json."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from lakegate.client.models import LoadEvent
from lakegate.output import Output
from lakegate.render import words
from lakegate.text import visible
from lakegate_contracts.receipts import LoadState

_PHASES = {
    LoadState.RECEIVING: "receiving",
    LoadState.QUEUED: "queued",
    LoadState.READING: "reading and writing Parquet",
    LoadState.COMMITTING: "committing to Iceberg",
    LoadState.COMPLETED: "committed",
    LoadState.FAILED: "failed",
}


class Follower(Protocol):
    """What `Client.push` reports to."""

    def on_upload(self, sent: int, total: int | None) -> None: ...

    def on_event(self, event: LoadEvent) -> None: ...


@contextmanager
def follow(output: Output, name: str) -> Iterator[Follower]:
    """The follower that suits the output."""
    if output.as_json:
        yield _Silent()
    elif output.rich:
        with Progress(
            SpinnerColumn(finished_text=Text("✓", style="green")),
            TextColumn("{task.fields[file]}", style="bold", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            console=output.console,
        ) as progress:
            yield _Bar(progress, name)
    else:
        yield _Lines(output, name)


class _Silent:
    def on_upload(self, sent: int, total: int | None) -> None:
        return

    def on_event(self, event: LoadEvent) -> None:
        return


class _Bar:
    """One bar for the whole way: its first half fills as bytes are sent, its second as the server reads them."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._begun = time.monotonic()
        self._size: int | None = None
        self._task: TaskID = progress.add_task("", total=None, file=visible(name), detail="sending")

    def on_upload(self, sent: int, total: int | None) -> None:
        self._size = total or sent
        passed = max(time.monotonic() - self._begun, 1e-3)
        detail = f"sent {words.size(sent)} at {words.size(sent / passed)}/s"
        self._progress.update(self._task, completed=sent, total=total and 2 * total, detail=detail)

    def on_event(self, event: LoadEvent) -> None:
        if event.state is LoadState.COMPLETED and self._size:
            self._progress.update(self._task, completed=2 * self._size, total=2 * self._size, detail="committed")
            return
        rows, read, size = (event.data.get(name) for name in ("rows", "bytes_read", "bytes_total"))
        detail = _PHASES[event.state]
        if event.state is LoadState.READING and isinstance(rows, int) and rows:
            detail += f", {words.count(rows)} rows"
        self._progress.update(self._task, detail=detail)
        if self._size and isinstance(read, int) and isinstance(size, int) and size:
            self._progress.update(self._task, completed=self._size * (1 + read / size))


class _Lines:
    """A line when the file is sent and one for each phase: a log, not an animation."""

    def __init__(self, output: Output, name: str) -> None:
        self._output = output
        self._name = name
        self._begun = time.monotonic()
        self._state: LoadState | None = None

    def on_upload(self, sent: int, total: int | None) -> None:
        if total is not None and sent == total:
            self._say(f"sent {words.size(sent)}")

    def on_event(self, event: LoadEvent) -> None:
        if event.state is not self._state:
            self._state = event.state
            self._say(_PHASES[event.state])

    def _say(self, text: str) -> None:
        passed = time.monotonic() - self._begun
        self._output.note(f"{self._name}: {text} ({words.seconds(passed)})")
