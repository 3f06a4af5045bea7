"""`make cluster-e2e` without what it needs: it says so, and does not run with an empty key or for ever."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from charts_rendering import ROOT


def run(folder: Path, kubectl: str, python: str = "exit 0", **options: str) -> subprocess.CompletedProcess[str]:
    """With programs of these lines in place of kubectl and of the virtual environment's python."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name, lines in (("kubectl", kubectl), ("python", python)):
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)
    command = ["make", "--silent", "--old-file", ".venv/.dev", "cluster-e2e", f"BIN={folder}"]
    command += [f"{name}={value}" for name, value in options.items()]
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("MAKEFLAGS", None)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    "kubectl", ["echo 'secrets not found' >&2; exit 1", "exit 0"], ids=["no secret", "no key in it"]
)
def test_without_the_key_nothing_is_run(tmp_path: Path, kubectl: str) -> None:
    done = run(tmp_path, kubectl, f"touch {tmp_path / 'ran'}", NAMESPACE="elsewhere")
    assert done.returncode != 0
    assert "no key of the Secret lakegate-admin-key in the namespace elsewhere" in done.stdout
    assert not (tmp_path / "ran").exists()


def test_the_journeys_get_the_key_and_their_failure_is_that_of_make(tmp_path: Path) -> None:
    done = run(tmp_path, "printf bGdrX3g=", 'echo "key $E2E_KEY"; exit 3')
    assert "key lgk_x" in done.stdout
    assert done.returncode != 0
    assert run(tmp_path, "printf bGdrX3g=").returncode == 0


def test_journeys_that_do_not_end_are_ended(tmp_path: Path) -> None:
    done = run(tmp_path, "printf bGdrX3g=", "exec sleep 600", E2E_SECONDS="0.2")
    assert "took more than 0.2 s" in done.stdout
    assert done.returncode != 0
