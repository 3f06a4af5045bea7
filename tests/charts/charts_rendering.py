"""Charts as helm renders them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts"
UMBRELLA = CHARTS / "lakegate"
ENVIRONMENTS = ("dev", "staging", "prod")
SERVICES = ("gateway", "catalog", "ingest", "lineage")
# brokers, and that the policies let pods reach them
LOAD_JOBS = ("global.loadJobs.enabled=true",)
KAFKA = "global.kafka.bootstrap=kafka:9092,base.networkPolicies.kafka.to[0].ipBlock.cidr=10.0.0.0/8"
Document = dict[str, Any]


class Refused(Exception):
    """helm would not render; the message is what it says."""


class Rendered(list[Document]):
    """What one release would be, as documents."""

    def of(self, kind: str, **labels: str) -> list[Document]:
        """Those of a kind; `component="gateway"` looks at the label."""
        return [
            document
            for document in self
            if document["kind"] == kind
            and all(
                (document["metadata"].get("labels") or {}).get(f"app.kubernetes.io/{name}") == value
                for name, value in labels.items()
            )
        ]

    def one(self, kind: str, **labels: str) -> Document:
        found = self.of(kind, **labels)
        assert len(found) == 1, [document["metadata"]["name"] for document in found]
        return found[0]

    def named(self, kind: str, name: str) -> Document:
        return next(document for document in self.of(kind) if document["metadata"]["name"] == name)

    @property
    def load_jobs(self) -> list[Document]:
        """ConfigMaps with such a Job in them."""
        return [config for config in self.of("ConfigMap") if "job.json" in config.get("data", {})]

    @property
    def workloads(self) -> list[Document]:
        """Everything that makes pods."""
        return [
            document for document in self if document["kind"] in ("Deployment", "StatefulSet", "Job", "CronJob", "Pod")
        ]


def pod_of(workload: Document) -> Document:
    """The pod's spec."""
    spec: Document = _template(workload)["spec"]
    return spec


def pod_labels(workload: Document) -> dict[str, str]:
    labels: dict[str, str] = _template(workload)["metadata"]["labels"]
    return labels


def prefix_of(component: str) -> str:
    """Of the variables that a component reads; the stream worker is a process of ingest."""
    return "INGEST_" if component == "stream-worker" else f"{component.upper()}_"


def _template(workload: Document) -> Document:
    if workload["kind"] == "Pod":
        return workload
    spec = workload["spec"]["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else workload["spec"]
    template: Document = spec["template"]
    return template


Render = Callable[..., Rendered]
Live = Callable[..., Rendered]


def data(rendered: Rendered, name: str) -> dict[str, str]:
    """What a ConfigMap holds."""
    found: dict[str, str] = rendered.named("ConfigMap", name)["data"]
    return found


def deployment(name: str, replicas: int = 2, colour: str = "", **annotations: str) -> Document:
    """One of a release that is there, called lakegate unless it is said otherwise."""
    notes = {"meta.helm.sh/release-name": "lakegate", **annotations}
    labels = {"lakegate.io/colour": colour} if colour else {}
    metadata = {"name": name, "namespace": "lakegate", "annotations": notes, "labels": labels}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas}}
