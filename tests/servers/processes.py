"""A server as a child process: it can't outlive the run, and tests may kill it, hang it and start it again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lakegate.embedded.processes import die_with_parent

_POLL_SECONDS = 0.05
_TAIL_CHARACTERS = 1_000


class Missing(Exception):
    """The server can't be had here; the message is the reason, for the table at the end of the run."""


class Control(Protocol):
    """What a test may do to a server that this run started; each returns when it is done."""

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told."""

    def start(self) -> None:
        """Start it again on the same port and data, and wait until it answers."""

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""

    def resume(self) -> None: ...

    def stop(self) -> None: ...


class ServerProcess:
    """`ready` is asked until it is true. The kernel kills the process when ours ends, however it ends (Linux)."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        folder: Path,
        ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        start_seconds: float = 90.0,
    ) -> None:
        self._command = [str(part) for part in command]
        self._folder = folder
        self._ready = ready
        self._environment = {**os.environ, **(environment or {})}
        self._start_seconds = start_seconds
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal ends the tests first, and then the server in order.
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        deadline = time.monotonic() + self._start_seconds
        while not self._ready():
            if self._process.poll() is not None:
                raise Missing(f"it ended at start (exit code {self._process.returncode}): {self._tail()}")
            if time.monotonic() > deadline:
                self.stop()
                raise Missing(f"it did not answer within {self._start_seconds:.0f} s: {self._tail()}")
            time.sleep(_POLL_SECONDS)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # until each of its threads has stopped: one that ran on for a moment would still answer
        os.waitpid(self._process.pid, os.WUNTRACED)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        # a paused process would not hear the SIGTERM
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def _tail(self) -> str:
        return self._log.read_text(errors="replace").strip()[-_TAIL_CHARACTERS:]


def listens(port: int) -> bool:
    """Whether something accepts connections on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
