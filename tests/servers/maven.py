"""Jars by Maven, kept in the user's cache: the second run downloads nothing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from servers.cache import made
from servers.processes import Missing

_POM = """<project><modelVersion>4.0.0</modelVersion>
<groupId>lakegate</groupId><artifactId>{name}</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>{dependencies}</dependencies></project>
"""
_DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
_TIMEOUT_SECONDS = 300


def java() -> str:
    return _program("java", "default-jre-headless")


def jars(name: str, coordinates: Sequence[str], finish: Callable[[Path], None] = lambda _: None) -> Path:
    """A folder with the jars of `group:artifact:version` coordinates and all that they need.

    `finish` may add to the folder before it is published under `name`, which must change with the coordinates.
    Raises Missing.
    """

    def make(folder: Path) -> None:
        _copy_dependencies(folder, name, coordinates)
        finish(folder)

    return made(name, make)


def _copy_dependencies(folder: Path, name: str, coordinates: Sequence[str]) -> None:
    maven = _program("mvn", "maven")
    dependencies = "".join(_DEPENDENCY.format(*coordinate.split(":")) for coordinate in coordinates)
    (folder / "pom.xml").write_text(_POM.format(name=name, dependencies=dependencies))
    command = [maven, "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=."]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Missing(f"Maven took more than {_TIMEOUT_SECONDS} s") from error
    if done.returncode != 0:
        raise Missing(f"Maven could not fetch {', '.join(coordinates)}: {done.stdout.strip()[:300]}")


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed (Debian: apt-get install {package})")
    return found
