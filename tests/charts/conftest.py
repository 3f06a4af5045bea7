"""helm, and what it makes of the charts. Skipped, with the reason, where no helm can be had."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from charts_rendering import CHARTS, UMBRELLA, Live, Refused, Render, Rendered
from kube.api_server import ApiServer, kubeconfig, listening

KINDS = {
    "v1": ("ConfigMap", "Service", "ServiceAccount", "Pod", "PersistentVolumeClaim"),
    "apps/v1": ("Deployment",),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "batch/v1": ("Job", "CronJob"),
    "keda.sh/v1alpha1": ("ScaledObject",),
    "networking.k8s.io/v1": ("Ingress", "NetworkPolicy"),
    "policy/v1": ("PodDisruptionBudget",),
    "rbac.authorization.k8s.io/v1": ("Role", "RoleBinding"),
}


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


@pytest.fixture
def server() -> ApiServer:
    server = ApiServer()
    # helm 4 asks for the kinds of all that it renders
    server.served = {version: {kind: f"{kind.lower()}s" for kind in kinds} for version, kinds in KINDS.items()}
    return server


@pytest.fixture
def live(helm: str, server: ApiServer, tmp_path: Path) -> Iterator[Live]:
    """An upgrade's manifests, as helm makes them when it may ask the API server."""
    with listening(server) as url:
        config = kubeconfig(url, tmp_path)
        # what helm has learned of a server goes below the home folder otherwise, or where there is none, here
        environment = {**os.environ, "KUBECACHEDIR": str(tmp_path / "cache")}

        def upgrade(release: str | None = None, *, name: str = "lakegate", sets: tuple[str, ...] = ()) -> Rendered:
            command = [helm, "template", name, str(UMBRELLA), "--namespace", "lakegate", "--kube-version", "1.34.0"]
            command += ["--is-upgrade", "--dry-run=server", "--disable-openapi-validation", "--kubeconfig", str(config)]
            command += ["--values", str(UMBRELLA / "environments" / "dev.yaml")]
            command += ["--values", str(UMBRELLA / "releases" / f"{release}.yaml")] if release else []
            for value in sets:
                command += ["--set", value]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
            if done.returncode:
                raise Refused(done.stderr)
            return Rendered(document for document in yaml.load_all(done.stdout, yaml.CSafeLoader) if document)

        yield upgrade
