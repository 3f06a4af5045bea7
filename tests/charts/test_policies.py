"""What holds for everything that is rendered, in every environment and every kind of release."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from charts_rendering import ENVIRONMENTS, KAFKA, SERVICES, Document, Render, Rendered, pod_labels, pod_of, prefix_of

RELEASES = (None, "base", "blue", "green")
LOAD_JOBS = ("global.loadJobs.enabled=true",)
# Resource definitions of others; the real API server takes them in the tests on a cluster.
CUSTOM = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "HTTPRoute", "ScaledObject"}
# the oldest that the charts take, and the newest that is known
VERSIONS = ("1.30", "1.37")
REFERENCE = re.compile(r"#/\$defs/([^\"]+)")
EVERYTHING = (
    "base.httpRoute.enabled=true",
    'base.httpRoute.parentRefs=[{"name":"public","namespace":"gateways"}]',
    "global.monitoring.enabled=true",
    KAFKA,
    "ingest.streamWorker.keda.enabled=true",
    "ingest.streamWorker.keda.minReplicas=2",
    "ingest.streamWorker.autoscaling.enabled=false",
    "lineage.keda.enabled=true",
    "lineage.keda.minReplicas=2",
    "lineage.autoscaling.enabled=false",
    "base.priorityClasses.create=true",
    *(f"{service}.sweep.enabled=true" for service in SERVICES),
    *LOAD_JOBS,
    "ingest.loadJobs.admissionPolicy=true",
)


CASES = [
    *((environment, release, ()) for environment in ENVIRONMENTS for release in RELEASES),
    *((environment, None, (KAFKA,)) for environment in ENVIRONMENTS),
    ("prod", "blue", (KAFKA,)),
    ("prod", None, LOAD_JOBS),
]


@pytest.fixture(
    params=CASES,
    ids=lambda p: f"{p[0]}-{p[1] or 'single'}{'-kafka' * (KAFKA in p[2])}{'-load-jobs' * (p[2] == LOAD_JOBS)}",
)
def rendered(request: pytest.FixtureRequest, render: Render) -> Rendered:
    environment, release, sets = request.param
    return render(environment, release, sets=sets)


@pytest.fixture
def workloads(rendered: Rendered) -> list[Document]:
    return rendered.workloads


def containers(workloads: list[Document]) -> Iterator[tuple[str, Document]]:
    for workload in workloads:
        for container in pod_of(workload)["containers"]:
            yield f"{workload['kind']} {workload['metadata']['name']}", container


@cache
def schema_folder(version: str) -> Path:
    files = importlib.metadata.files("kubernetes-validate") or []
    first = next(file for file in files if f"/v{version}." in str(file) and "-strict" in str(file))
    return Path(str(first.locate())).parent


@cache
def definitions(version: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((schema_folder(version) / "_definitions.json").read_text())["$defs"]
    return found


@cache
def validator(version: str, api_version: str, kind: str) -> Any:
    """The schema of a kind with the definitions that it leads to: its own references lead to an address on the web."""
    group, _, number = api_version.rpartition("/")
    name = "-".join(filter(None, (kind.lower(), group.partition(".")[0], number)))
    schema = json.loads((schema_folder(version) / f"{name}.json").read_text())
    needed: dict[str, Any] = {}
    todo = [schema]
    while todo:
        for reference in REFERENCE.findall(json.dumps(todo.pop())):
            if reference not in needed:
                needed[reference] = definitions(version)[reference]
                todo.append(needed[reference])
    whole = {**{key: value for key, value in schema.items() if key != "$id"}, "$defs": needed}
    return jsonschema_rs.validator_for(json.loads(json.dumps(whole).replace("/api/_definitions.json#", "#")))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_schemas_of_kubernetes_know_every_document(render: Render, environment: str, version: str) -> None:
    documents = [
        *render(environment, sets=EVERYTHING),
        *render(environment, "base"),
        *render(environment, "blue", name="lakegate-blue"),
    ]
    documents += [job for job in render(environment, sets=EVERYTHING).workloads if job not in documents]
    for document in documents:
        if document["kind"] in CUSTOM:
            continue
        faults = list(validator(version, document["apiVersion"], document["kind"]).iter_errors(document))
        assert not faults, f"{document['kind']} {document['metadata']['name']}: {faults[0]}"


def test_the_schemas_would_find_a_wrong_document(render: Render) -> None:
    document = json.loads(json.dumps(render().one("Deployment", component="gateway")))
    document["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    assert not validator(VERSIONS[-1], "apps/v1", "Deployment").is_valid(document)


def test_nothing_runs_as_root_or_with_more_rights_than_restricted_allows(workloads: list[Document]) -> None:
    for workload in workloads:
        pod = pod_of(workload)
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] >= 10000
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))
        assert all("hostPath" not in volume for volume in pod["volumes"])
    for where, container in containers(workloads):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, where
        assert security["capabilities"] == {"drop": ["ALL"]}, where
        assert security["readOnlyRootFilesystem"] is True, where
        assert "privileged" not in security, where


def test_every_container_says_what_it_needs_and_what_it_may_take(workloads: list[Document]) -> None:
    for where, container in containers(workloads):
        for part in ("requests", "limits"):
            assert set(container["resources"][part]) == {"cpu", "memory"}, where


def test_no_image_is_called_latest_or_has_no_tag(workloads: list[Document]) -> None:
    for where, container in containers(workloads):
        _, _, tag = container["image"].rpartition(":")
        assert tag not in ("", "latest"), where
        assert "/" not in tag, where


def test_only_what_talks_to_the_api_server_has_a_token_and_rights(rendered: Rendered) -> None:
    makers = {config["metadata"]["name"].removesuffix("-load") for config in rendered.load_jobs}
    for workload in rendered.workloads:
        assert pod_of(workload)["automountServiceAccountToken"] is (workload["metadata"]["name"] in makers)
    for account in rendered.of("ServiceAccount"):
        if account["metadata"]["name"] != "lakegate-rollout":
            assert account["automountServiceAccountToken"] is False
    roles = [
        document["metadata"]["name"] for document in rendered if document["kind"].endswith(("Role", "RoleBinding"))
    ]
    assert set(roles) <= {"lakegate-rollout", *(f"{maker}-load" for maker in makers)}


def test_the_driver_of_a_rollout_may_change_no_more_than_it_does(render: Render) -> None:
    rules = render("prod", "base").one("Role")["rules"]
    for rule in rules:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "secrets" not in rule["resources"]
        assert "delete" not in rule["verbs"]
        # to scale a Deployment is not to change what it runs
        assert "deployments" not in rule["resources"] or rule["verbs"] == ["list"]
        if "patch" in rule["verbs"] and rule["resources"] not in (["deployments/scale"], ["horizontalpodautoscalers"]):
            assert rule["resourceNames"]


def test_no_service_of_the_cluster_becomes_a_setting(workloads: list[Document]) -> None:
    """Kubernetes would set GATEWAY_PORT for a Service called gateway."""
    assert all(pod_of(workload)["enableServiceLinks"] is False for workload in workloads)


def test_no_secret_is_in_a_manifest(rendered: Rendered) -> None:
    assert not rendered.of("Secret")
    for config in rendered.of("ConfigMap"):
        text = json.dumps(config.get("data", {})).lower()
        assert "postgresql://" not in text
        assert "lgk_" not in text.replace("'lgk_'", "")


def test_the_three_probes_ask_three_different_questions(rendered: Rendered) -> None:
    for deployment in rendered.of("Deployment"):
        container = pod_of(deployment)["containers"][0]
        paths = [container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")]
        assert paths == ["/startupz", "/livez", "/readyz"]
        startup, readiness = container["startupProbe"], container["readinessProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 60
        # the service gives its own checks 2 s
        assert readiness["timeoutSeconds"] > 2


def test_a_pod_has_the_time_that_its_longest_request_needs(rendered: Rendered) -> None:
    for deployment in rendered.of("Deployment"):
        pod = pod_of(deployment)
        sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        name = deployment["metadata"]["labels"]["app.kubernetes.io/component"]
        config = rendered.named("ConfigMap", deployment["metadata"]["name"])["data"]
        drain = float(config[f"{prefix_of(name)}DRAIN_SECONDS"])
        finish = float(config[f"{prefix_of(name)}FINISH_SECONDS"])
        assert finish >= 35
        assert pod["terminationGracePeriodSeconds"] >= sleep + drain + finish


def test_an_upload_on_a_pod_that_goes_has_minutes(rendered: Rendered) -> None:
    for deployment in rendered.of("Deployment"):
        name = deployment["metadata"]["labels"]["app.kubernetes.io/component"]
        if name in ("gateway", "catalog", "ingest"):
            config = rendered.named("ConfigMap", deployment["metadata"]["name"])["data"]
            assert float(config[f"{prefix_of(name)}FINISH_SECONDS"]) >= 500


def test_an_update_never_takes_the_last_pod(rendered: Rendered) -> None:
    for deployment in rendered.of("Deployment"):
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_each_selector_finds_its_own_pods_and_no_others(rendered: Rendered) -> None:
    pods = {workload["metadata"]["name"]: pod_labels(workload) for workload in rendered.workloads}

    def found(selector: dict[str, str]) -> set[str]:
        return {name for name, labels in pods.items() if selector.items() <= labels.items()}

    for deployment in rendered.of("Deployment"):
        name = deployment["metadata"]["name"]
        assert found(deployment["spec"]["selector"]["matchLabels"]) == {name}
        for constraint in pod_of(deployment)["topologySpreadConstraints"]:
            assert found(constraint["labelSelector"]["matchLabels"]) == {name}
    for service in rendered.of("Service"):
        if selector := service["spec"].get("selector"):
            assert len(found(selector)) == 1
            (target,) = found(selector)
            ports = next(
                pod_of(w)["containers"][0]["ports"] for w in rendered.workloads if w["metadata"]["name"] == target
            )
            known = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= known
    for budget in rendered.of("PodDisruptionBudget"):
        assert len(found(budget["spec"]["selector"]["matchLabels"])) == 1


def test_the_selector_of_a_deployment_holds_nothing_that_a_new_version_changes(render: Render) -> None:
    old = render(sets=("global.image.tag=v1",))
    new = render(sets=("global.image.tag=v2", "gateway.podLabels.team=lake"))
    for service in SERVICES:
        before, after = (release.one("Deployment", component=service)["spec"] for release in (old, new))
        assert before["selector"] == after["selector"]
        assert before["template"] != after["template"]
