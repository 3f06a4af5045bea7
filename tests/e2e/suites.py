"""A suite as its users meet it: an address, a key, and, when we started it, its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest


@dataclass
class Suite:
    """Where the gateway is and an admin's key; `process` and `home` are None for a suite that somebody else runs."""

    url: str
    key: str
    home: Path | None = None
    process: subprocess.Popen[str] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, **options)

    def state(self) -> dict[str, Any]:
        """What the supervisor last wrote about its processes."""
        assert self.home is not None
        document: dict[str, Any] = json.loads((self.home / "state.json").read_text())
        return document

    def stop(self) -> str:
        """SIGTERM, and wait for the end; what it printed on the way, both streams."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=90)
        return output


def start_suite(folder: Path, *, module: str = "lakegate", environment: Mapping[str, str] | None = None) -> Suite:
    """`lakegate up` in a folder of its own; returns when it is ready. `module` is what is run in its place."""
    home = folder / "data"
    environment = {
        **os.environ,
        **(environment or {}),
        "LAKEGATE_CONFIG": str(folder / "config.toml"),
        "NO_COLOR": "1",
    }
    for name in ("LAKEGATE_URL", "LAKEGATE_KEY", "LAKEGATE_PROFILE", "LAKEGATE_HOME", "LAKEGATE_POSTGRES_URL"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-m", module, "up", "--port", "0", "--home", str(home), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("{"):
            ready = json.loads(line)
            if "url" in ready:
                return Suite(ready["url"], ready["key"], home, process, environment)
    raise AssertionError(f"The suite did not start (exit code {process.wait()}):\n{''.join(said)}")


Push = Callable[..., httpx.Response]


def until(condition: Callable[[], Any], *, within_seconds: float = 60) -> Any:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + within_seconds
    while True:
        if answer := condition():
            return answer
        assert time.monotonic() < deadline, f"not true within {within_seconds} s"
        time.sleep(0.05)


def need_files_of(suite: Suite, location: str) -> None:
    """Skip where the warehouse is a folder of another machine: its clients read rows through the API, not files."""
    if suite.home is None and location.startswith("file:") and not Path(urlsplit(location).path).exists():
        pytest.skip("the warehouse is a folder that only the cluster sees: give it an object store to run this")
