"""From a plain installation to blue/green and back: no outage by a wrong upgrade, nor by the guide."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts_rendering import CHARTS, ENVIRONMENTS, KAFKA, ROOT, SERVICES, UMBRELLA, Document, Refused, Render, Rendered
from kube.api_server import ApiServer, listening

GUIDE = (ROOT / "docs" / "install.md").read_text()
EVERYTHING = (
    KAFKA,
    "global.loadJobs.enabled=true",
    "global.monitoring.enabled=true",
    "ingest.streamWorker.autoscaling.enabled=true",
    *(f"{service}.sweep.enabled=true" for service in SERVICES),
    *(f"{service}.autoscaling.enabled=true" for service in SERVICES),
)
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
Live = Callable[..., Rendered]


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
        config = tmp_path / "kubeconfig"
        config.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": {"server": url}}],
                    "users": [{"name": "u", "user": {}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )

        def upgrade(release: str | None = None, *, name: str = "lakegate", sets: tuple[str, ...] = ()) -> Rendered:
            command = [helm, "template", name, str(UMBRELLA), "--namespace", "lakegate", "--kube-version", "1.34.0"]
            command += ["--is-upgrade", "--dry-run=server", "--disable-openapi-validation", "--kubeconfig", str(config)]
            command += ["--values", str(UMBRELLA / "environments" / "dev.yaml")]
            command += ["--values", str(UMBRELLA / "releases" / f"{release}.yaml")] if release else []
            for value in sets:
                command += ["--set", value]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            if done.returncode:
                raise Refused(done.stderr)
            return Rendered(document for document in yaml.load_all(done.stdout, yaml.CSafeLoader) if document)

        yield upgrade


def deployment(name: str, replicas: int = 2, **annotations: str) -> Document:
    notes = {"meta.helm.sh/release-name": "lakegate", **annotations}
    metadata = {"name": name, "namespace": "lakegate", "annotations": notes}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas}}


def test_an_upgrade_that_would_delete_a_plain_installation_is_refused(live: Live, server: ApiServer) -> None:
    assert not live("base").of("Deployment")
    server.put("deployments", deployment("lakegate-lineage"))
    with pytest.raises(Refused, match="would delete what serves: the Deployment lakegate-lineage"):
        live("base")
    # its own upgrades go on, and another release's Deployments are not its business
    assert live()
    server.put("deployments", deployment("lakegate-lineage", **{"meta.helm.sh/release-name": "other"}))
    assert live("base")


def test_what_is_kept_may_leave_its_release(live: Live, server: ApiServer) -> None:
    server.put("deployments", deployment("lakegate-gateway", **{"helm.sh/resource-policy": "keep"}))
    assert live("base").named("Service", "lakegate")


def test_an_upgrade_that_forgets_the_layout_does_not_take_the_service_from_a_colour(
    live: Live, server: ApiServer, render: Render
) -> None:
    server.put("services", {**render("dev", "base").named("Service", "lakegate")})
    with pytest.raises(Refused, match=r"Add -f charts/lakegate/releases/base\.yaml"):
        live()
    assert live("base")
    server.put("services", {**render("dev").named("Service", "lakegate")})
    assert live()


@pytest.mark.parametrize("scaled", ["autoscaling", "keda"])
def test_enabling_an_autoscaler_leaves_as_many_pods_as_there_are(live: Live, server: ApiServer, scaled: str) -> None:
    """A `replicas` that was in the manifest and is not any more would become 1, the API server's default."""
    server.put("deployments", deployment("lakegate-lineage", replicas=7))
    sets = (f"lineage.{scaled}.enabled=true", KAFKA)
    rendered = live(sets=sets)
    assert rendered.named("Deployment", "lakegate-lineage")["spec"]["replicas"] == 7
    # the first install has no number to keep, and a release without an autoscaler its own
    server.remove("deployments", "lakegate-lineage")
    assert "replicas" not in live(sets=sets).named("Deployment", "lakegate-lineage")["spec"]
    assert live().named("Deployment", "lakegate-lineage")["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (("base.mode=blueGreen",), "Install the base by itself"),
        (("ingest.enabled=false",), "ingest.enabled is false, but the gateway, catalog, ingest and lineage are one"),
        (tuple(f"{service}.enabled=false" for service in SERVICES), "would have no pods"),
    ],
)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_layout_in_which_nothing_would_answer_is_refused(
    render: Render, environment: str, sets: tuple[str, ...], said: str
) -> None:
    with pytest.raises(Refused) as refused:
        render(environment, sets=sets)
    assert said in str(refused.value)


def guided(name: str) -> str:
    found = re.search(rf"^\$ {name}='?([^'\n]+)'?$", GUIDE, re.MULTILINE)
    assert found, f"docs/install.md sets no {name}"
    return found[1]


def selects(selector: str, labels: dict[str, str]) -> bool:
    for term in re.findall(r"[^,(]+(?:\([^)]*\))?", selector):
        if term.startswith("!"):
            held = term[1:] not in labels
        elif " in (" in term:
            name, _, values = term.rstrip(")").partition(" in (")
            held = labels.get(name) in values.split(",")
        else:
            name, _, value = term.partition("=")
            held = labels.get(name) == value
        if not held:
            return False
    return True


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_guide_from_plain_to_blue_and_green_keeps_all_that_helm_would_delete_and_deletes_nothing_else(
    render: Render, environment: str
) -> None:
    def known(documents: list[Document]) -> dict[tuple[str, str], Document]:
        return {
            (document["kind"], document["metadata"]["name"]): document
            for document in documents
            if "helm.sh/hook" not in (document["metadata"].get("annotations") or {})
        }

    plain, base = known(render(environment, sets=EVERYTHING)), known(render(environment, "base", sets=EVERYTHING))
    blue = known(render(environment, "blue", name="lakegate-blue", sets=EVERYTHING))
    selector = guided("PLAIN")
    kept = {key for key, document in plain.items() if selects(selector, labels(document))}
    assert plain.keys() - base.keys() == kept
    assert not [key for key, document in {**base, **blue}.items() if selects(selector, labels(document))]
    # kubectl is told each kind by name
    plurals = {plural.rstrip("s").removesuffix("ie") for plural in guided("KINDS").split(",")}
    assert {kind.lower().removesuffix("y") for kind, _ in kept} <= plurals


def labels(document: Document) -> dict[str, Any]:
    return document["metadata"].get("labels") or {}


def test_the_selector_that_the_guide_puts_back_is_the_plain_gateways(render: Render) -> None:
    patch = re.search(r"patch service lakegate -p '(\{.*\})'", GUIDE)
    assert patch
    selector = json.loads(patch[1])["spec"]["selector"]
    pods = [
        deployment["metadata"]["name"]
        for rendered in (render("dev"), render("dev", "blue", name="lakegate-blue"))
        for deployment in rendered.of("Deployment")
        if selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert pods == ["lakegate-gateway"]


def test_the_guides_charts_are_there() -> None:
    for path in re.findall(r"charts/lakegate/releases/\w+\.yaml", GUIDE):
        assert (CHARTS.parent / path).exists()
