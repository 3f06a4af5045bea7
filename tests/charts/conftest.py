"""helm, and what it makes of the charts. Skipped, with the reason, where no helm can be had."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from charts_rendering import CHARTS, UMBRELLA, Refused, Render, Rendered


def is_json(text: str) -> bool:
    """Whether helm has to be told: `--set` knows neither floats nor lists."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.fixture(scope="session")
def helm() -> str:
    found = shutil.which("helm", path=str(Path(sys.executable).parent)) or shutil.which("helm")
    if found is None:
        pytest.skip("helm can't be had: `make test` fetches one for Linux on x86-64, elsewhere install it")
    return found


@pytest.fixture(scope="session")
def render(helm: str) -> Render:
    """`render("prod", "blue", sets=("a=b",))`: the umbrella with an environment's values and a release's. Cached."""

    @functools.cache
    def run(
        environment: str | None = "dev",
        release: str | None = None,
        *,
        sets: tuple[str, ...] = (),
        chart: str = "lakegate",
        name: str = "lakegate",
        apis: tuple[str, ...] = (),
        values: tuple[Path, ...] = (),
    ) -> Rendered:
        command = [helm, "template", name, str(CHARTS / chart), "--namespace", "lakegate", "--kube-version", "1.34.0"]
        if environment:
            command += ["--values", str(UMBRELLA / "environments" / f"{environment}.yaml")]
        if release:
            command += ["--values", str(UMBRELLA / "releases" / f"{release}.yaml")]
        for file in values:
            command += ["--values", str(file)]
        for value in sets:
            command += ["--set-json" if is_json(value.partition("=")[2]) else "--set", value]
        for api in apis:
            command += ["--api-versions", api]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise Refused(done.stderr)
        return Rendered(document for document in yaml.load_all(done.stdout, yaml.CSafeLoader) if document)

    return run
