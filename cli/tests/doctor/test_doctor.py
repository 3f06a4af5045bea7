"""`lakegate doctor` on a small API server; and as a process on a real one where KUBECONFIG names it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from kube.api_server import ApiServer, Refusal, kubeconfig, listening
from kubernetes.config import kube_config
from typer.testing import CliRunner

from lakegate.doctor.served import listed
from lakegate.main import app

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "lakegate"
DEV = ("-f", str(CHART / "environments" / "dev.yaml"))
PROD = ("-f", str(CHART / "environments" / "prod.yaml"))
SECRETS = {
    "lakegate-postgres-admin": ("admin-url", "migrate-url"),
    "lakegate-signing-keys": ("internal.pem", "internal.jwks.json"),
    "lakegate-admin-key": ("key",),
    "lakegate-files-key": ("key",),
    **{f"lakegate-{service}-postgres": ("url",) for service in ("gateway", "catalog", "ingest", "lineage")},
}
SERVED = {
    "v1": {"ConfigMap": "configmaps", "Service": "services", "ServiceAccount": "serviceaccounts", "Pod": "pods",
           "PersistentVolumeClaim": "persistentvolumeclaims", "ResourceQuota": "resourcequotas",
           "LimitRange": "limitranges"},
    "apps/v1": {"Deployment": "deployments"},
    "autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "batch/v1": {"Job": "jobs", "CronJob": "cronjobs"},
    "networking.k8s.io/v1": {"Ingress": "ingresses", "NetworkPolicy": "networkpolicies"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "rbac.authorization.k8s.io/v1": {"Role": "roles", "RoleBinding": "rolebindings"},
    "scheduling.k8s.io/v1": {"PriorityClass": "priorityclasses"},
}  # fmt: skip
Doctor = Callable[..., Result]


@pytest.fixture
def server() -> ApiServer:
    """A cluster in which a development installation lacks nothing."""
    server = ApiServer()
    server.served = {version: dict(kinds) for version, kinds in SERVED.items()}
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.34.4"}}
    server.put("nodes", {"metadata": {"name": "one"}, "status": ready})
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    server.put("namespaces", {"metadata": {"name": "lakegate", "labels": labels}, "status": {"phase": "Active"}})
    notes = {"storageclass.kubernetes.io/is-default-class": "true"}
    server.put("storageclasses", {"metadata": {"name": "local", "annotations": notes}})
    notes = {"ingressclass.kubernetes.io/is-default-class": "true"}
    server.put("ingressclasses", {"metadata": {"name": "contour", "annotations": notes}})
    server.put("daemonsets", {"metadata": {"name": "calico-node", "namespace": "kube-system"}})
    server.put("endpointslices", dns(53))
    for name, keys in SECRETS.items():
        server.put(
            "secrets", {"metadata": {"name": name, "namespace": "lakegate"}, "data": dict.fromkeys(keys, "eA==")}
        )
    return server


def dns(port: int, *, ready: bool = True) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "kube-dns-1",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "endpoints": [{"addresses": ["10.1.0.2"], "conditions": {"ready": ready}}],
        "ports": [{"name": "dns", "port": port}, {"name": "metrics", "port": 9153}],
    }


def refuse(server: ApiServer, *kinds: str) -> None:
    def look(kind: str, _: str) -> None:
        if kind in kinds:
            raise Refusal(403, f"{kind} is forbidden")

    server.before_read = look


@pytest.fixture
def helm() -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if shutil.which("helm", path=path) is None:
        pytest.skip("helm can't be had: `make test` fetches one for Linux on x86-64, elsewhere install it")
    return path


@pytest.fixture
def doctor(server: ApiServer, helm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doctor]:
    monkeypatch.setenv("PATH", helm)
    with listening(server) as url:
        path = kubeconfig(url, tmp_path)
        # the client read KUBECONFIG when it was imported
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        yield lambda *words: CliRunner().invoke(app, ["doctor", *words])


def findings(done: Result, *areas: str, state: str = "failed") -> list[str]:
    """What was found in that state, each as `found | remedy`."""
    assert done.stdout, done.stderr
    return [
        f"{item['found']} | {item['remedy']}"
        for item in json.loads(done.stdout)["findings"]
        if item["state"] == state and (not areas or item["area"] in areas)
    ]


def test_a_cluster_that_lacks_nothing_is_ready(doctor: Doctor) -> None:
    done = doctor(str(CHART), *DEV, "--json")
    assert done.exit_code == 0, done.stdout
    told = json.loads(done.stdout)
    assert told["ready"] is True
    assert {item["state"] for item in told["findings"]} == {"ok"}
    areas = {item["area"] for item in told["findings"]}
    assert areas >= {"kubernetes", "helm", "storage", "dns", "policies", "rights", "secrets", "kinds"}
    table = doctor(str(CHART), *DEV)
    assert table.exit_code == 0
    assert "Nothing stands in the way of an install." in table.stdout


def test_every_failure_says_what_to_do_and_ends_with_1(doctor: Doctor, server: ApiServer) -> None:
    server.kubernetes = "v1.29.9"
    server.remove("namespaces", "lakegate")
    server.remove("storageclasses", "local")
    server.remove("secrets", "lakegate-admin-key")
    server.put("secrets", {"metadata": {"name": "lakegate-signing-keys"}, "data": {"internal.pem": "eA=="}})
    server.put("endpointslices", dns(5300))
    server.denied = {("create", "deployments"), ("list", "secrets")}
    done = doctor(str(CHART), *DEV, "--json")
    assert done.exit_code == 1
    assert not json.loads(done.stdout)["ready"]
    assert findings(done, "kubernetes") == ["server v1.29.9 | The charts need 1.30 or newer: upgrade the cluster."]
    assert "kubectl create namespace lakegate" in findings(done, "namespace")[0]
    assert "no default one" in findings(done, "storage")[0]
    secrets = findings(done, "secrets")
    assert [text.partition(" | ")[0] for text in secrets] == [
        "lakegate-admin-key isn't there",
        "lakegate-signing-keys has no internal.jwks.json, or an empty one",
    ]
    assert findings(done, "dns")[0].endswith("Add 5300 to base.networkPolicies.dns.ports.")
    assert {text.partition(" | ")[0] for text in findings(done, "rights")} == {
        "install: you may not create deployments.apps",
        "install: you may not list secrets",
    }
    assert all(not text.endswith("| ") for text in findings(done))


def test_kinds_that_only_some_values_ask_for_are_asked_for_with_those_values(doctor: Doctor, server: ApiServer) -> None:
    wanted = ("--set", "base.httpRoute.enabled=true", "--set", "base.httpRoute.parentRefs[0].name=public")
    wanted += ("--set", "base.httpRoute.parentRefs[0].namespace=edge")
    done = doctor(str(CHART), *PROD, *wanted, "--json")
    missing = findings(done, "kinds")
    assert {text.partition(" ")[0] for text in missing} == {"HTTPRoute", "ServiceMonitor", "PrometheusRule"}
    assert any("set global.monitoring.enabled=false" in text for text in missing)
    assert any("set base.httpRoute.enabled=false" in text for text in missing)
    assert findings(done, "gateway")[0].startswith("the Gateway edge/public isn't there")
    server.served["monitoring.coreos.com/v1"] = {"ServiceMonitor": "servicemonitors", "PrometheusRule": "rules"}
    server.served["gateway.networking.k8s.io/v1"] = {"HTTPRoute": "httproutes"}
    programmed = {"conditions": [{"type": "Programmed", "status": "True"}]}
    server.put("gateways", {"metadata": {"name": "public", "namespace": "edge"}, "status": programmed})
    server.put("secrets", {"metadata": {"name": "lakegate-tls"}, "data": {"tls.crt": "eA==", "tls.key": "eA=="}})
    server.put("namespaces", {"metadata": {"name": "ingress"}})
    done = doctor(str(CHART), *PROD, *wanted, "--json")
    assert done.exit_code == 0, findings(done)


def test_a_release_of_a_colour_needs_the_claim_of_the_base_and_the_rights_of_a_rollout(
    doctor: Doctor, server: ApiServer
) -> None:
    blue = (*DEV, "-f", str(CHART / "releases" / "blue.yaml"), "--release", "lakegate-blue")
    server.denied = {("patch", "leases")}
    done = doctor(str(CHART), *blue, "--json")
    assert "the claim lakegate-warehouse isn't there" in findings(done, "storage")[0]
    assert findings(done, "rights")[0].startswith("rollout: you may not patch leases.coordination.k8s.io")
    server.put("persistentvolumeclaims", {"metadata": {"name": "lakegate-warehouse"}, "status": {"phase": "Bound"}})
    server.denied = set()
    assert doctor(str(CHART), *blue, "--json").exit_code == 0


def test_the_maker_of_a_role_must_hold_its_rights(doctor: Doctor, server: ApiServer) -> None:
    server.denied = {("patch", "horizontalpodautoscalers")}
    base = (*DEV, "-f", str(CHART / "releases" / "base.yaml"))
    told = findings(doctor(str(CHART), *base, "--json"), "rights")
    assert {text.partition(":")[0] for text in told} == {"install", "rollout"}


def test_what_may_not_be_seen_is_unknown_and_not_wrong(doctor: Doctor, server: ApiServer) -> None:
    refuse(server, "nodes", "storageclasses", "daemonsets", "endpointslices", "ingressclasses", "secrets", "namespaces")
    done = doctor(str(CHART), *DEV, "--json")
    assert done.exit_code == 0
    areas = {item["area"] for item in json.loads(done.stdout)["findings"] if item["state"] == "unknown"}
    assert areas == {"nodes", "storage", "policies", "dns", "ingress", "secrets", "namespace"}


def test_values_that_the_charts_refuse_are_told_in_their_words(doctor: Doctor) -> None:
    done = doctor(str(CHART), *PROD, "--set", "gateway.autoscaling.enabled=false", "--json")
    assert done.exit_code == 1
    assert "production with a single pod" in findings(done, "chart")[0]


def test_without_helm_the_cluster_is_looked_at_all_the_same(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = doctor(str(CHART), *DEV, "--json")
    assert done.exit_code == 1
    assert findings(done, "helm")[0].startswith("it is not on PATH")
    assert findings(done, "dns", state="ok")


def test_without_a_chart_the_rest_is_said_not_to_be_known(doctor: Doctor) -> None:
    done = doctor("--json")
    assert done.exit_code == 0
    assert "Secrets, volumes, kinds and rights were not looked at" in findings(done, "chart", state="unknown")[0]
    assert doctor("--set", "a=b").exit_code == 2


def test_policies_that_nobody_is_known_to_enforce_are_a_warning(doctor: Doctor, server: ApiServer) -> None:
    server.remove("daemonsets", "calico-node")
    done = doctor(str(CHART), *DEV, "--json")
    assert done.exit_code == 0
    assert findings(done, "policies", state="warning")
    server.kubernetes = "v1.34.1+k3s1"
    assert findings(doctor(str(CHART), *DEV, "--json"), "policies", state="ok")


def test_namespaces_that_policies_let_in_have_to_be_there(doctor: Doctor, server: ApiServer) -> None:
    done = doctor(str(CHART), *PROD, "--json")
    (clients,) = findings(done, "policies")
    assert clients.startswith("lakegate-gateway-clients lets the namespace ingress in, which isn't there")
    assert "base.networkPolicies.gatewayFrom" in clients
    (metrics,) = findings(done, "policies", state="warning")
    assert "base.networkPolicies.monitoringFrom" in metrics
    for name in ("ingress", "monitoring"):
        server.put("namespaces", {"metadata": {"name": name}})
    done = doctor(str(CHART), *PROD, "--json")
    assert not findings(done, "policies") + findings(done, "policies", state="warning")


def test_a_colour_is_not_kept_from_what_its_own_values_name(doctor: Doctor, server: ApiServer) -> None:
    """Its policies are the base's, which was installed with other values."""
    blue = (*DEV, "-f", str(CHART / "releases" / "blue.yaml"), "--release", "lakegate-blue")
    blue += ("--set", "global.kafka.bootstrap=kafka:9092")
    # without a base no policy keeps anything from anywhere
    assert not findings(doctor(str(CHART), *blue, "--json"), "policies")
    for name in ("default-deny", "to-postgres"):
        server.put("networkpolicies", {"metadata": {"name": f"lakegate-{name}"}})
    (told,) = findings(doctor(str(CHART), *blue, "--json"), "policies")
    assert "no lakegate-to-kafka lets pods through" in told
    assert "KAFKA__BOOTSTRAP=kafka:9092" in told
    assert "Set base.networkPolicies.kafka.to" in told
    server.put("networkpolicies", {"metadata": {"name": "lakegate-to-kafka"}})
    assert not findings(doctor(str(CHART), *blue, "--json"), "policies")


def test_the_way_to_the_api_server_is_open_and_no_wider_than_it_need_be(doctor: Doctor, server: ApiServer) -> None:
    addresses = {
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "endpoints": [{"addresses": ["10.9.0.1"]}],
        "ports": [{"name": "https", "port": 6443}],
    }
    server.put("endpointslices", addresses)
    base = (*DEV, "-f", str(CHART / "releases" / "base.yaml"))
    exactly = "base.rollout.apiServer={to: [{ipBlock: {cidr: 10.9.0.1/32}}], ports: [6443]}"
    (wide,) = findings(doctor(str(CHART), *base, "--json"), "policies", state="warning")
    assert exactly in wide
    elsewhere = ("--set", "base.rollout.apiServer.to[0].ipBlock.cidr=10.8.0.0/16")
    (kept,) = findings(doctor(str(CHART), *base, *elsewhere, "--json"), "policies")
    assert kept.endswith(f"Set {exactly}.")
    narrow = ("--set", "base.rollout.apiServer.to[0].ipBlock.cidr=10.9.0.1/32")
    done = doctor(str(CHART), *base, *narrow, "--json")
    assert not findings(done, "policies") + findings(done, "policies", state="warning")
    assert "the API server is reached, and not every address | " in findings(done, "policies", state="ok")


@pytest.mark.parametrize(
    ("cidr", "said"),
    [
        ("10.9.0.300/32", "10.9.0.300/32 is no range of addresses"),
        # the API server takes it, and so do we
        ("10.9.0.7/24", "the API server is reached"),
    ],
)
def test_addresses_that_are_none_are_told_by_what_they_are(
    doctor: Doctor, server: ApiServer, cidr: str, said: str
) -> None:
    labels = {"kubernetes.io/service-name": "kubernetes"}
    server.put(
        "endpointslices",
        {
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
            "endpoints": [{"addresses": ["10.9.0.1"]}],
            # the second is for all ports
            "ports": [{"name": "https", "port": 6443}, {"name": "any"}],
        },
    )
    server.put("endpointslices", dns(53) | {"ports": [{"name": "dns", "port": 53}, {"name": "any"}]})
    base = (*DEV, "-f", str(CHART / "releases" / "base.yaml"))
    done = doctor(str(CHART), *base, "--set", f"base.rollout.apiServer.to[0].ipBlock.cidr={cidr}", "--json")
    told = findings(done, "policies") + findings(done, "policies", state="ok")
    assert any(said in found for found in told), told


def test_one_question_without_an_answer_leaves_the_others(doctor: Doctor, server: ApiServer) -> None:
    answers = {"nodes": 400, "daemonsets": 404, "endpointslices": 410, "storageclasses": 429, "ingressclasses": 500}

    def look(kind: str, _: str) -> None:
        if kind in answers:
            raise Refusal(answers[kind], f"no {kind} now")

    server.before_read = look
    done = doctor(str(CHART), *DEV, "--json")
    untold = findings(done, state="unknown")
    assert {kind for kind in answers for found in untold if f"no {kind} now" in found} == set(answers)
    areas = {item["area"] for item in json.loads(done.stdout)["findings"]}
    assert areas >= {"kubernetes", "namespace", "secrets", "kinds", "rights"}


def test_a_list_of_null_is_an_empty_one() -> None:
    class Aggregated:
        def call(self, *_: Any, **__: Any) -> dict[str, Any]:
            return {"items": None}

    assert listed(Aggregated(), "/api/v1/nodes", {}) == []


def test_a_cluster_that_does_not_answer_is_exit_code_6(doctor: Doctor, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(re.sub(r"http://127.0.0.1:\d+", "http://127.0.0.1:9", config.read_text()))
    assert doctor("--json").exit_code == 6


@pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="KUBECONFIG names no cluster")
def test_a_real_cluster_answers_every_question(helm: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lakegate", "doctor", str(CHART), *DEV, "-n", "default", "--json"],
        capture_output=True, text=True, env={**os.environ, "PATH": helm}, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    told = {item["area"]: item["state"] for item in json.loads(done.stdout)["findings"]}
    assert told.keys() >= {"kubernetes", "nodes", "helm", "chart", "dns", "policies", "kinds", "storage", "rights"}
    assert {told[area] for area in ("kubernetes", "nodes", "helm", "chart", "kinds")} == {"ok"}
