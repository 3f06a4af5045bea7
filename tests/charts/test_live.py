"""What charts ask of the API server as they are rendered for an upgrade: numbers that others have set since."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest
import yaml
from charts_rendering import CHARTS, UMBRELLA, Rendered
from kube.api_server import ApiServer, listening

KINDS = {
    "v1": ("ConfigMap", "Pod", "Service", "ServiceAccount"),
    "apps/v1": ("Deployment",),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "batch/v1": ("CronJob", "Job"),
    "policy/v1": ("PodDisruptionBudget",),
}
Upgrade = Callable[..., Rendered]


@pytest.fixture
def server() -> ApiServer:
    server = ApiServer()
    server.served = {version: {kind: f"{kind.lower()}s" for kind in kinds} for version, kinds in KINDS.items()}
    return server


@pytest.fixture
def upgrade(helm: str, server: ApiServer) -> Iterator[Upgrade]:
    """The release of a colour as `helm upgrade` would render it there."""
    with listening(server) as url:

        def run(release: str, *sets: str) -> Rendered:
            command = [helm, "template", release, str(UMBRELLA), "--namespace", "lakegate"]
            command += ["--dry-run=server", "--disable-openapi-validation", "--is-upgrade", "--kube-apiserver", url]
            colour = release.removeprefix("lakegate-")
            for file in ("environments/dev", *((f"releases/{colour}",) if colour in ("blue", "green") else ())):
                command += ["--values", str(CHARTS / "lakegate" / f"{file}.yaml")]
            for value in sets:
                command += ["--set", value]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=60, env={"KUBECONFIG": "/dev/null"}
            )
            assert done.returncode == 0, done.stderr
            return Rendered(document for document in yaml.safe_load_all(done.stdout) if document)

        yield run


def runs(server: ApiServer, release: str, component: str, replicas: int) -> None:
    """A Deployment of the release, at that number."""
    notes = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": "lakegate"}
    metadata = {
        "name": f"{release}-{component}",
        "namespace": "lakegate",
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": notes,
    }
    document = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas}}
    server.put("deployments", document)


def replicas(rendered: Rendered, component: str) -> tuple[int | None, str | None]:
    """Of the Deployment, and what it is noted to want."""
    found = rendered.one("Deployment", component=component)
    return found["spec"].get("replicas"), (found["metadata"].get("annotations") or {}).get("lakegate.io/replicas")


def test_a_colour_that_a_rollout_has_at_zero_stays_there_until_the_next_brings_it_up(
    upgrade: Upgrade, server: ApiServer
) -> None:
    """The field is the rollout's by then: to helm 4, which applies server-side, another number would be refused."""
    fresh = upgrade("lakegate-green", "gateway.replicas=3")
    assert replicas(fresh, "gateway") == (3, "3")
    runs(server, "lakegate-green", "gateway", 0)
    runs(server, "lakegate-green", "ingest", 2)
    upgraded = upgrade("lakegate-green", "gateway.replicas=3", "ingest.replicas=4")
    assert replicas(upgraded, "gateway") == (0, "3")
    # one that runs is as large as its values say
    assert replicas(upgraded, "ingest") == (4, "4")


def test_a_plain_installation_that_somebody_scaled_to_zero_gets_its_pods_again(
    upgrade: Upgrade, server: ApiServer
) -> None:
    runs(server, "lakegate", "gateway", 0)
    assert replicas(upgrade("lakegate", "base.enabled=false"), "gateway") == (1, None)


def test_the_number_that_an_autoscaler_has_chosen_is_said_again(upgrade: Upgrade, server: ApiServer) -> None:
    enabled = "gateway.autoscaling.enabled=true"
    assert replicas(upgrade("lakegate-green", enabled), "gateway") == (None, None)
    runs(server, "lakegate-green", "gateway", 5)
    assert replicas(upgrade("lakegate-green", enabled), "gateway") == (5, None)
