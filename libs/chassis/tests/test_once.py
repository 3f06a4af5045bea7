"""Sweeps that run once, and whose turn they are."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from lakegate_chassis.once import STOPPED, sweep_once
from lakegate_chassis.settings import ConsumerSettings

WAITS = """
import asyncio, sys
from lakegate_chassis.once import _until_stopped
async def work():
    print("begun", flush=True)
    await asyncio.Event().wait()
    return True
sys.exit(asyncio.run(_until_stopped(work)))
"""


async def test_a_sweep_that_fails_keeps_no_other_from_running() -> None:
    ran: list[str] = []

    async def fails() -> None:
        ran.append("fails")
        raise ConnectionError("away")

    async def runs() -> int:
        ran.append("runs")
        return 3

    assert not await sweep_once({"first": fails, "second": runs})
    assert ran == ["fails", "runs"]
    assert await sweep_once({"second": runs})


async def test_of_two_colours_the_one_that_consumes_sweeps(tmp_path: Path) -> None:
    file = tmp_path / "consumers"
    file.write_text('{"colour": "green", "generation": 3}')
    ran: list[str] = []

    async def runs() -> None:
        ran.append("ran")

    assert await sweep_once({"one": runs}, ConsumerSettings(colour="blue", file=file))
    assert not ran
    assert await sweep_once({"one": runs}, ConsumerSettings(colour="green", file=file))
    assert ran == ["ran"]


def test_sigterm_ends_it_and_its_exit_code_says_so() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == STOPPED
