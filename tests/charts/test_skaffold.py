"""skaffold.yaml and the manifests of k8s/: everything that they name is real."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts_rendering import ROOT, SERVICES, Render, pod_labels, pod_of

from lakegate.cluster import secrets
from lakegate.doctor.needs import needs_of

# in the order in which skaffold deploys them
POSTGRES, SKAFFOLD = list(yaml.safe_load_all((ROOT / "skaffold.yaml").read_text()))
SERVED: list[dict[str, Any]] = SKAFFOLD["build"]["artifacts"]
ARTIFACTS: list[dict[str, Any]] = [*SERVED, *POSTGRES["build"]["artifacts"]]
RELEASES: list[dict[str, Any]] = SKAFFOLD["deploy"]["helm"]["releases"]
SETS = tuple(f"{name}={str(value).lower()}" for name, value in RELEASES[0]["setValues"].items())
# a module that tells of its start, and of its end
SERVICE = """import pathlib, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
broken = pathlib.Path(sys.argv[1]).exists()
print("started", pathlib.Path(sys.argv[0]).stem, flush=True)
if broken:
    sys.exit(3)
signal.sigwait({signal.SIGTERM})
print("ended", flush=True)
"""


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
    rendered = render("dev", sets=SETS)
    synced = {artifact["image"].rpartition("-")[2]: artifact["sync"]["manual"] for artifact in SERVED}
    assert set(synced) == set(SERVICES)
    for service, (rule,) in synced.items():
        container = pod_of(rendered.one("Deployment", component=service))["containers"][0]
        paths = {item["name"]: item.get("value") for item in container["env"]}
        assert paths["PYTHONPATH"] == rule["dest"]
        assert rule["dest"] in [mount["mountPath"] for mount in container["volumeMounts"]]


@pytest.fixture
def runs(render: Render, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """What a pod runs for `skaffold dev`, with another module as the service. `broken` has that end at once."""
    container = pod_of(render("dev", sets=SETS).one("Deployment", component="catalog"))["containers"][0]
    assert container["args"] == ["lakegate_catalog"]
    (tmp_path / "service.py").write_text(SERVICE)
    command = [sys.executable, *container["command"][1:], "service", str(tmp_path / "broken")]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True) as running:
        # what never answers is a failure, not a wait
        limit = threading.Timer(60, os.killpg, (running.pid, signal.SIGKILL))
        limit.start()
        yield running
        limit.cancel()
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)


def told(running: subprocess.Popen[str]) -> str:
    assert running.stdout
    return running.stdout.readline().strip()


def test_a_changed_file_restarts_the_service_and_not_its_container(runs: subprocess.Popen[str]) -> None:
    """A container that ends is in CrashLoopBackOff after a few changes, whatever its exit code."""
    number = signal.SIGHUP
    for artifact in SERVED:
        (hook,) = artifact["sync"]["hooks"]["after"]
        assert f"os.kill(1, {number.value})" in hook["container"]["command"][-1]
    assert told(runs) == "started service"
    for _ in range(5):
        runs.send_signal(number)
        assert (told(runs), told(runs)) == ("ended", "started service")
    runs.terminate()
    assert told(runs) == "ended"
    assert runs.wait(30) == 0


def test_a_file_that_was_saved_half_written_is_mended_by_the_next(runs: subprocess.Popen[str], tmp_path: Path) -> None:
    assert told(runs) == "started service"
    (tmp_path / "broken").touch()
    runs.send_signal(signal.SIGHUP)
    assert (told(runs), told(runs)) == ("ended", "started service")
    assert "ended with 3: starts again with the next changed file" in told(runs)
    (tmp_path / "broken").unlink()
    runs.send_signal(signal.SIGHUP)
    assert told(runs) == "started service"
    runs.terminate()
    assert told(runs) == "ended"


def test_nothing_kills_a_container_while_its_code_is_changed(render: Render) -> None:
    for service in SERVICES:
        container = pod_of(render("dev", sets=SETS).one("Deployment", component=service))["containers"][0]
        assert "livenessProbe" not in container
        assert "startupProbe" not in container
        assert "readinessProbe" in container


def test_the_database_is_there_before_the_chart_whose_first_job_waits_for_it() -> None:
    """Within one configuration, skaffold installs charts before manifests."""
    assert "helm" not in POSTGRES["deploy"]
    assert "manifests" not in SKAFFOLD
    assert SKAFFOLD["requires"] == [{"configs": [POSTGRES["metadata"]["name"]]}]


def test_every_secret_and_volume_that_a_pod_waits_for_is_made_by_what_the_guide_says(
    render: Render, tmp_path: Path
) -> None:
    (database, *_) = [manifests(ROOT / file) for file in POSTGRES["manifests"]["rawYaml"]]
    needs = needs_of([*render("dev", sets=SETS), *database], "lakegate")
    made = secrets.manifests(
        tmp_path / "cluster", "postgresql://postgres:x@postgres:5432/postgres", "lakegate", "lakegate"
    )
    keys = {item["metadata"]["name"]: set(item["data"]) for item in made["items"]}
    guide = (ROOT / "docs" / "install.md").read_text()
    for name, key in re.findall(r"create secret generic (\S+) --from-file=(\w+)=", guide):
        keys.setdefault(name, set()).add(key)
    assert not [name for name, wanted in needs.secrets.items() if wanted - keys.get(name, set())]
    assert set(needs.secrets) <= set(keys)
    assert not needs.claims


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
    for file in POSTGRES["manifests"]["rawYaml"]:
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


@pytest.mark.parametrize(("name", "server"), [("postgres", "postgres"), ("kafka", "kafka"), ("s3", "object-store")])
def test_only_what_uses_a_data_server_reaches_it(render: Render, name: str, server: str) -> None:
    documents = manifests(ROOT / "k8s" / "dev" / f"{name}.yaml")
    (policy,) = [document["spec"] for document in documents if document["kind"] == "NetworkPolicy"]
    (workload,) = [document for document in documents if document["kind"] == "StatefulSet"]
    assert policy["podSelector"]["matchLabels"].items() <= pod_labels(workload).items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    # out: nobody, and for Kafka the DNS server
    out = {port["port"] for rule in policy.get("egress", []) for port in rule["ports"]}
    assert out == ({53, 1053, 5353} if name == "kafka" else set())
    # in: the very pods that the chart lets out to it, at the port that it listens to
    (rule,) = policy["ingress"]
    (peer,) = rule["from"]
    chart = render("dev").named("NetworkPolicy", f"lakegate-to-{server}")["spec"]
    assert peer["podSelector"] == chart["podSelector"]
    ports = pod_of(workload)["containers"][0]["ports"]
    assert [port["port"] for port in rule["ports"]] == [port["name"] for port in ports]


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
