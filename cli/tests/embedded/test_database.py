"""The supervisor's PostgreSQL when it dies and does not come back at once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest

from lakegate.embedded import database
from lakegate.embedded.database import Database
from lakegate.embedded.errors import ServerFailed
from lakegate.embedded.layout import Home
from lakegate.embedded.postgres import EmbeddedPostgres
from lakegate.embedded.state import Phase
from lakegate_chassis.testing import eventually


async def test_a_failed_restart_is_tried_again_and_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home.at(tmp_path / "data")
    home.make()
    said: list[str] = []
    starts: list[str] = []
    answered = threading.Event()
    start = EmbeddedPostgres.start

    def failing(server: EmbeddedPostgres) -> str:
        starts.append(threading.current_thread().name)
        if len(starts) in (2, 3):
            # Returns only if the event loop turns meanwhile.
            assert answered.wait(30)
            raise ServerFailed("no space left on device")
        return start(server)

    monkeypatch.setattr(EmbeddedPostgres, "start", failing)
    monkeypatch.setattr(database, "_WATCH_SECONDS", 0.01)
    monkeypatch.setattr(database, "_FIRST_PAUSE_SECONDS", 0.01)
    served = Database(home, None, said.append)
    await served.start()
    keeping = asyncio.create_task(served.keep(lambda: None))
    try:
        assert served.state is not None
        assert served.state.pid is not None
        process = served._server.process if served._server else None
        assert process is not None
        process.send_signal(signal.SIGKILL)
        await eventually(lambda: len(starts) == 2)
        answered.set()
        await eventually(lambda: served.state is not None and served.state.phase is Phase.READY and len(starts) == 4)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await served.stop()

    assert served.state.restarts == 1
    assert len([line for line in said if "no space left" in line]) == 2
    assert len(set(starts)) == 1, "the kernel ends the server together with the thread that started it"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as another user")
async def test_folders_that_are_opened_for_the_server_are_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    home = Home.at(closed / "data")
    home.make()
    said: list[str] = []
    served = Database(home, None, said.append)

    await served.start()
    await served.stop()

    assert [line for line in said if f"{closed} " in line and "o+x" in line]
