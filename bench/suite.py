"""A whole suite of its own for a benchmark: free ports, a temporary data folder, stopped at the end."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAKEGATE = Path(__file__).parents[1] / ".venv" / "bin" / "lakegate"


@dataclass(frozen=True)
class Suite:
    """A running suite: where it is, what opens it, and how long its start took."""

    home: Path
    url: str
    key: str
    ready_seconds: float

    def state(self) -> dict[str, Any]:
        """`lakegate status --json`."""
        return _lakegate("status", self.home)

    def pid(self, process: str) -> int:
        """The pid of one of its processes, e.g. `ingest`."""
        return int(self.state()["processes"][process]["pid"])


@contextmanager
def running(home: Path) -> Iterator[Suite]:
    """Start a suite on `home` with its defaults, and stop it."""
    said = _lakegate("up", home, "--detach", "--port", "0")
    try:
        yield Suite(home, said["url"], said["key"], said["ready_seconds"])
    finally:
        _lakegate("down", home)


@contextmanager
def temporary() -> Iterator[Suite]:
    """A fresh suite whose data goes with it."""
    with tempfile.TemporaryDirectory(prefix="lakegate-bench-") as folder:
        # as root, PostgreSQL runs as another user who has to pass through
        Path(folder).chmod(0o755)
        with running(Path(folder) / "home") as suite:
            yield suite


def _lakegate(command: str, home: Path, *options: str) -> dict[str, Any]:
    # a config file of its own: the user's profiles are not the benchmark's to write
    environment = os.environ | {"LAKEGATE_CONFIG": str(home.parent / "config.toml")}
    done = subprocess.run(
        [LAKEGATE, command, "--json", "--home", home, *options], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"lakegate {command} failed:\n{done.stderr}{done.stdout}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
