"""Programs by npm, kept in the user's cache: the second run downloads nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from servers.cache import is_made, made
from servers.processes import Missing

_TIMEOUT_SECONDS = 300


def node() -> str:
    return _program("node", "nodejs")


def package(name: str, version: str) -> Path:
    """The folder of an installed package, which is fetched the first time. Raises Missing."""

    def install(folder: Path) -> None:
        npm = _program("npm", "npm")
        # nothing of a package is run for its installation
        options = ["--no-audit", "--no-fund", "--omit=dev", "--ignore-scripts", "--prefix", str(folder)]
        try:
            done = subprocess.run(
                ["nice", "-n", "10", npm, "install", *options, f"{name}@{version}"],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_SECONDS,
                env={**os.environ, "NO_UPDATE_NOTIFIER": "1"},
            )
        except subprocess.TimeoutExpired as error:
            raise Missing(f"npm took more than {_TIMEOUT_SECONDS} s") from error
        if done.returncode != 0:
            raise Missing(f"npm could not fetch {name}: {done.stderr.strip()[-300:]}")

    return made(_folder(name, version), install) / "node_modules" / name


def is_installed(name: str, version: str) -> bool:
    return is_made(_folder(name, version))


def _folder(name: str, version: str) -> str:
    return f"{name}-{version}"


def _program(name: str, debian: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed (Debian: apt-get install {debian})")
    return found
