from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from suites import Suite, start_suite

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A real suite; the commands find it by the profile that `lakegate up` wrote."""
    started = start_suite(tmp_path_factory.mktemp("suite"))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def run(suite: Suite) -> Run:
    """`run("ls", "--json")`: the command as a process without a terminal."""

    def command(*arguments: str, stdin: bytes | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "lakegate", *arguments],
            input=stdin,
            capture_output=True,
            env={**suite.environment, "LAKEGATE_HOME": str(suite.home), **environment},
            check=False,
            timeout=120,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return command


@pytest.fixture(scope="session")
def answer(run: Run) -> Callable[..., Any]:
    """`answer("ls")`: what the command says with --json; it must succeed and say nothing else."""

    def document(*arguments: str, **options: Any) -> Any:
        done = run(*arguments, "--json", **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return document
