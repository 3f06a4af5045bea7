"""One child process: started so that it can't outlive us, asked whether it is ready, ended within a bound."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from lakegate.embedded.ports import HOST

_PR_SET_PDEATHSIG = 1
_PROBE_SECONDS = 2.0


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> Callable[[], None] | None:
    """For preexec_fn: the kernel sends a signal to the child when the thread that started it ends. Linux only.

    Elsewhere the next `lakegate up` ends what a killed one left (see leftovers.py).
    """
    if sys.platform != "linux":
        return None
    # Loaded before the fork: a forked child should call as little as possible.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arrange


async def spawn(module: str, environment: Mapping[str, str], log: Path) -> asyncio.subprocess.Process:
    """`python -m module` with its output appended to `log`. Raises OSError."""
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C in the terminal is for us: we end the children in order.
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )


async def is_ready(port: int) -> bool:
    """Whether GET /readyz answers 200. Plain sockets: an HTTP client would cost 0.15 s to import and 15 MB."""
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(f"GET /readyz HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
                status = await reader.readline()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
    return status.split(b" ")[1:2] == [b"200"]


async def end(process: asyncio.subprocess.Process, seconds: float) -> bool:
    """SIGTERM, and SIGKILL when it isn't gone after `seconds`; False when it had to be killed."""
    if process.returncode is not None:
        return True
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        return False
    return True


def start_time(pid: int) -> float | None:
    """When the process began, None when it is gone; with the pid it names a process for ever."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def how_it_ended(returncode: int) -> str:
    """`exit code 1`, or `SIGKILL`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-returncode).name
    return f"signal {-returncode}"


def resident_bytes(pid: int, *, family: bool = True) -> int:
    """Resident set of a process, and of its children unless `family` is false; 0 when it is gone."""
    try:
        process = psutil.Process(pid)
        children: list[Any] = process.children(recursive=True) if family else []
        return sum(int(member.memory_info().rss) for member in [process, *children])
    except psutil.Error:
        return 0
