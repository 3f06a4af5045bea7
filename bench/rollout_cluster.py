"""The objects of a small blue/green installation: stand-ins for the suite, and the rights that a driver needs."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

Document = dict[str, Any]

SUITE = {"app.kubernetes.io/part-of": "lakegate"}
STANDIN = Path(__file__).with_name("rollout_standin.py")
# as in the chart: exactly what the driver calls
RULES: list[Document] = [
    {"apiGroups": [""], "resources": ["services"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["services"], "resourceNames": ["lakegate"], "verbs": ["patch"]},
    {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": ["lakegate-consumers"],
        "verbs": ["get", "patch"],
    },
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]},
    {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"]},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["get", "list", "patch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": ["lakegate-rollout"],
        "verbs": ["get", "patch"],
    },
    {
        "apiGroups": ["gateway.networking.k8s.io"],
        "resources": ["httproutes"],
        "resourceNames": ["lakegate"],
        "verbs": ["get", "patch"],
    },
]

# the same at each run, so that pods which are there need not wait for another
ROLLOUT_KEY = hashlib.sha256(b"bench").hexdigest()
# what the stand-ins want of who reads them
READER_KEY = "lgk_" + hashlib.sha256(b"bench reader").hexdigest()


def base(image: str) -> list[Document]:
    """What carries no version. The Service has no selector, the ConfigMap no data: both are the driver's."""
    account = {"kind": "ServiceAccount", "name": "lakegate-rollout"}
    role = {"kind": "Role", "name": "lakegate-rollout", "apiGroup": "rbac.authorization.k8s.io"}
    notes = {
        "lakegate.io/rollout-image": image,
        "lakegate.io/rollout-service-account": "lakegate-rollout",
        "lakegate.io/rollout-key-secret": "lakegate-reader-key",
    }
    return [
        _object("v1", "ServiceAccount", "lakegate-rollout"),
        _object("rbac.authorization.k8s.io/v1", "Role", "lakegate-rollout", rules=RULES),
        _object("rbac.authorization.k8s.io/v1", "RoleBinding", "lakegate-rollout", subjects=[account], roleRef=role),
        _object("v1", "ConfigMap", "lakegate-consumers"),
        _object("v1", "Secret", "lakegate-rollout-key", stringData={"key": ROLLOUT_KEY}),
        _object("v1", "Secret", "lakegate-reader-key", stringData={"key": READER_KEY}),
        _object("v1", "ConfigMap", "standin", data={"standin.py": STANDIN.read_text()}),
        _object(
            "v1",
            "Service",
            "lakegate",
            annotations=notes,
            spec={"ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        ),
    ]


def colour(name: str, image: str, *, replicas: int, version: str) -> list[Document]:
    """A release of one colour: gateway and ingest, each with an autoscaler, and the gateway's preview Service."""
    objects = []
    for component in ("gateway", "ingest"):
        labels = {
            **SUITE,
            "app.kubernetes.io/component": component,
            "lakegate.io/colour": name,
            "app.kubernetes.io/version": version,
        }
        selector = {"lakegate.io/colour": name, "app.kubernetes.io/component": component}
        full = f"lakegate-{name}-{component}"
        template = {"metadata": {"labels": labels}, "spec": _pod(name, image)}
        spec = {"replicas": replicas, "selector": {"matchLabels": selector}, "template": template}
        objects.append(_object("apps/v1", "Deployment", full, labels=labels, spec=spec))
        cpu = {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
        }
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": full}
        scaling = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 4, "metrics": [cpu]}
        objects.append(_object("autoscaling/v2", "HorizontalPodAutoscaler", full, labels=labels, spec=scaling))
    ports = [{"name": "http", "port": 8080, "targetPort": 8080}]
    selector = {"lakegate.io/colour": name, "app.kubernetes.io/component": "gateway"}
    objects.append(_object("v1", "Service", f"lakegate-{name}-gateway", spec={"ports": ports, "selector": selector}))
    return objects


def _pod(colour: str, image: str) -> Document:
    settings = {
        "STANDIN_HOST": "0.0.0.0",
        "STANDIN_MANAGEMENT_HOST": "0.0.0.0",
        "STANDIN_CONSUMERS__COLOUR": colour,
        "STANDIN_CONSUMERS__FILE": "/etc/lakegate/consumers/consumers",
        "STANDIN_CONSUMERS__KEY_FILE": "/etc/lakegate/rollout/key",
        "STANDIN_READER_KEY": READER_KEY,
    }
    container = {
        "name": "main",
        "image": image,
        "command": ["python", "/standin/standin.py"],
        "env": [{"name": key, "value": value} for key, value in settings.items()],
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "management", "containerPort": 9080}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "192Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "standin", "mountPath": "/standin"},
            {"name": "consumers", "mountPath": "/etc/lakegate/consumers"},
            {"name": "rollout-key", "mountPath": "/etc/lakegate/rollout"},
        ],
    }
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 45,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [
            {"name": "standin", "configMap": {"name": "standin"}},
            {"name": "consumers", "configMap": {"name": "lakegate-consumers", "optional": True}},
            {"name": "rollout-key", "secret": {"secretName": "lakegate-rollout-key", "optional": True}},
        ],
    }


def _object(version: str, kind: str, name: str, *, labels: Document | None = None, **fields: Any) -> Document:
    metadata: Document = {"name": name, "labels": labels or SUITE}
    if "annotations" in fields:
        metadata["annotations"] = fields.pop("annotations")
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def apply(namespace: str, objects: list[Document]) -> None:
    """Server-side: what the driver owns (selector, data, replicas of a live colour) is not in what we send."""
    document = {"apiVersion": "v1", "kind": "List", "items": objects}
    kubectl("apply", "-n", namespace, "-f", "-", text=json.dumps(document))


def kubectl(*words: str, text: str | None = None) -> str:
    done = subprocess.run(["kubectl", *words], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"kubectl {' '.join(words[:4])}: {done.stderr}")
    return done.stdout
