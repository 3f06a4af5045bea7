"""A wheel is whole: what a service needs beside its code comes with it, for images that have no tree."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "lakegate_chassis": "libs/chassis",
    "lakegate_gateway": "services/gateway",
    "lakegate_catalog": "services/catalog",
    "lakegate_ingest": "services/ingest",
    "lakegate_lineage": "services/lineage",
}


def installed(package: str, into: Path) -> Path:
    """Build the wheel of a package and unpack it; returns the folder to import it from."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into)]
    subprocess.run(build, cwd=ROOT / PACKAGES[package], check=True, capture_output=True, text=True)
    site = into / "site"
    with zipfile.ZipFile(next(into.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    return site


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix in (".py", ".sql"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_migrations_of_a_package_are_found_in_its_wheel(package: str, tmp_path: Path) -> None:
    site = installed(package, tmp_path)
    look = f"from lakegate_chassis.migration_files import find; print(find({package!r}).folder)"
    found = subprocess.run(
        [sys.executable, "-c", look],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=True,
        capture_output=True,
        text=True,
    )
    folder = Path(found.stdout.strip())
    assert folder == site / package / "migrations"
    assert tree(folder) == tree(ROOT / PACKAGES[package] / "migrations") != {}


def test_the_gateway_s_wheel_brings_the_pages_of_the_problems(tmp_path: Path) -> None:
    installed("lakegate_gateway", tmp_path)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        pages = {Path(name).name for name in wheel.namelist() if "share/lakegate/problems/" in name}
    assert pages == {page.name for page in (ROOT / "docs" / "problems").glob("*.md")}
