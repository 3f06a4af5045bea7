"""The services of a suite that was killed, ended before the next one wants their ports."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import psutil

from lakegate.embedded.layout import Home
from lakegate.embedded.ports import is_free
from lakegate.embedded.state import ProcessState, read_state

_END_SECONDS, _KILL_SECONDS = 5.0, 5.0
_LOOK_EVERY_SECONDS = 0.05


def end_leftovers(home: Home, say: Callable[[str], None]) -> None:
    """End what the state file names and still runs; the caller holds the folder's lock.

    On Linux the kernel has told them of their supervisor's end, elsewhere nobody has. Either way they may finish a
    request for half a minute yet, with the ports in their hands.
    """
    state = read_state(home)
    left = [(child, process) for child in (state.processes.values() if state else ()) if (process := _found(child))]
    for _, process in left:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    if not _await(lambda: all(_has_ended(process) for _, process in left), _END_SECONDS):
        for _, process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
    # A process counts as a zombie when its first thread has ended; its ports are free when the last one has.
    ports = [port for child, _ in left for port in (child.port, child.management_port) if port is not None]
    _await(lambda: all(map(is_free, ports)), _KILL_SECONDS)
    for child, process in left:
        say(f"ended {child.name} (pid {process.pid}), left by a suite that was killed")


def _found(child: ProcessState) -> psutil.Process | None:
    """The process that was recorded, unless it is gone or its pid is another's by now."""
    if child.pid is None or child.started is None:
        return None
    try:
        process = psutil.Process(child.pid)
        same = abs(process.create_time() - child.started) < 1.0 and f"lakegate_{child.name}" in process.cmdline()
    except psutil.Error:
        return None
    return process if same else None


def _await(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_EVERY_SECONDS)
    return True


def _has_ended(process: psutil.Process) -> bool:
    """A zombie has: whoever adopted it may never ask for it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
