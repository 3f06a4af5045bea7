"""skaffold.yaml and the manifests of k8s/: everything that they name is real."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts_rendering import ROOT, SERVICES, Render, pod_of

SKAFFOLD: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
ARTIFACTS: list[dict[str, Any]] = SKAFFOLD["build"]["artifacts"]
RELEASES: list[dict[str, Any]] = SKAFFOLD["deploy"]["helm"]["releases"]


def manifests(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def value_at(values: Any, path: str) -> Any:
    for name in path.split("."):
        assert name in values, f"{path}: there is no {name}"
        values = values[name]
    return values


def whole_values() -> dict[str, Any]:
    """The umbrella's values with those of its parts below their names."""
    charts = ROOT / "charts"
    whole: dict[str, Any] = yaml.safe_load((charts / "lakegate" / "values.yaml").read_text())
    for name, chart in {"base": "lakegate-base", **{service: service for service in SERVICES}}.items():
        whole[name] |= yaml.safe_load((charts / chart / "values.yaml").read_text())
    return whole


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda artifact: artifact["image"])
def test_every_artifact_has_its_dockerfile_and_copies_what_is_there(artifact: dict[str, Any]) -> None:
    context = ROOT / artifact["context"]
    dockerfile = (ROOT / artifact["docker"]["dockerfile"]).read_text()
    if target := artifact["docker"].get("target"):
        assert re.search(rf"^FROM \S+ AS {target}$", dockerfile, re.MULTILINE)
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (context / source).exists(), line
    for rule in artifact.get("sync", {}).get("manual", []):
        assert list(ROOT.glob(rule["src"])), rule["src"]
        assert rule["src"].startswith(rule["strip"])


def test_synced_files_get_to_the_folder_that_the_pod_runs(render: Render) -> None:
    sets = tuple(f"{name}={str(value).lower()}" for name, value in RELEASES[0]["setValues"].items())
    rendered = render("dev", sets=sets)
    synced = {artifact["image"].rpartition("-")[2]: artifact["sync"]["manual"] for artifact in ARTIFACTS[:4]}
    assert set(synced) == set(SERVICES)
    for service, (rule,) in synced.items():
        container = pod_of(rendered.one("Deployment", component=service))["containers"][0]
        paths = {item["name"]: item.get("value") for item in container["env"]}
        assert paths["PYTHONPATH"] == rule["dest"]
        assert rule["dest"] in [mount["mountPath"] for mount in container["volumeMounts"]]


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release["name"])
def test_every_release_names_a_chart_files_and_keys_that_are_there(release: dict[str, Any]) -> None:
    assert (ROOT / release["chartPath"] / "Chart.yaml").exists()
    for file in release["valuesFiles"]:
        assert (ROOT / file).exists()
    values = whole_values()
    images = {artifact["image"] for artifact in ARTIFACTS}
    for key, template in release["setValueTemplates"].items():
        value_at(values, key)
        named = re.fullmatch(r"\{\{\.IMAGE_TAG_(\w+)\}\}", template)
        assert named
        assert named[1] in {re.sub(r"\W", "_", image) for image in images}
    for key in release["setValues"]:
        value_at(values, key)


def test_manifests_and_forwarded_services_are_there(render: Render) -> None:
    for file in SKAFFOLD["manifests"]["rawYaml"]:
        assert manifests(ROOT / file)
    services = {(s["metadata"]["name"], p["port"]) for s in render("dev").of("Service") for p in s["spec"]["ports"]}
    for forward in SKAFFOLD["portForward"]:
        assert (forward["resourceName"], forward["port"]) in services


@pytest.mark.parametrize(
    "file", [ROOT / "k8s" / "dev" / f"{name}.yaml" for name in ("postgres", "kafka", "s3")], ids=lambda file: file.name
)
def test_the_data_servers_are_as_restricted_as_our_own_pods_and_are_found_by_their_services(file: Path) -> None:
    documents = manifests(file)
    (service,) = [document for document in documents if document["kind"] == "Service"]
    (server,) = [document for document in documents if document["kind"] == "StatefulSet"]
    labels = server["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    pod = pod_of(server)
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]) == {"requests", "limits"}
        folder = container["image"].rpartition("lakegate-")[2].partition(":")[0]
        assert (ROOT / "k8s" / folder / "Dockerfile").exists()


def test_the_policies_of_the_development_environment_lead_to_the_data_servers(render: Render) -> None:
    rendered = render("dev")
    for name, server in (("postgres", "postgres"), ("kafka", "kafka"), ("s3", "object-store")):
        (service, workload, *_) = manifests(ROOT / "k8s" / "dev" / f"{name}.yaml")
        (rule,) = rendered.named("NetworkPolicy", f"lakegate-to-{server}")["spec"]["egress"]
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert rule["to"][0]["podSelector"]["matchLabels"].items() <= labels.items()
        (port,) = service["spec"]["ports"]
        assert port["port"] in [item["port"] for item in rule["ports"]]


def test_the_values_for_kafka_and_s3_lead_to_the_servers_of_the_manifests(render: Render) -> None:
    rendered = render("dev", values=(ROOT / "k8s" / "values" / "kafka-s3.yaml",))
    addresses = {}
    for name in ("kafka", "s3"):
        (service, *_) = manifests(ROOT / "k8s" / "dev" / f"{name}.yaml")
        addresses[name] = f"{name}:{service['spec']['ports'][0]['port']}"
    for component, prefix in (("catalog", "CATALOG"), ("ingest", "INGEST"), ("stream-worker", "INGEST")):
        data = rendered.named("ConfigMap", f"lakegate-{component}")["data"]
        assert data[f"{prefix}_KAFKA__BOOTSTRAP"] == addresses["kafka"]
        assert data[f"{prefix}_OBJECTS__ENDPOINT"] == f"http://{addresses['s3']}"
        (container,) = pod_of(rendered.named("Deployment", f"lakegate-{component}"))["containers"]
        secrets = {e["name"]: e["valueFrom"]["secretKeyRef"] for e in container["env"] if "valueFrom" in e}
        assert secrets[f"{prefix}_OBJECTS__ACCESS_KEY_ID"] == {"name": "s3", "key": "access"}
    assert not rendered.of("PersistentVolumeClaim")
