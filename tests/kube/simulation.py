"""A small cluster: the controllers that turn replicas into pods, pods into endpoints, and health into readiness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from kube.api_server import ApiServer, DirectApi
from lakegate.rollout.cluster import Names
from lakegate.rollout.findings import Report, Sample, Traffic
from lakegate.rollout.kubernetes import KubernetesCluster
from lakegate.rollout.states import Answers, Rollout
from lakegate.rollout.world import Pod, Wanted, World

NAMES = Names("test")
COMPONENTS = {"gateway": 3, "ingest": 2}
_SUITE = {"app.kubernetes.io/part-of": "lakegate"}


@dataclass
class Clock:
    """Time passes when somebody sleeps; each second the controllers get their turn."""

    cluster: Simulation | None = None
    seconds: float = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.cluster is not None:
            self.cluster.settle()


@dataclass
class Simulation:
    """`healthy` by colour; `failing`: its gateway is ready, and answers 500; `ports`: where its gateway listens."""

    server: ApiServer = field(default_factory=ApiServer)
    healthy: dict[str, bool] = field(default_factory=lambda: {"blue": True, "green": True})
    failing: set[str] = field(default_factory=set)
    mute: set[str] = field(default_factory=set)
    members: dict[str, Report] = field(default_factory=dict)
    route: bool = False
    ports: dict[str, int] = field(default_factory=dict)
    release: str = "lakegate-{colour}"
    _settled: tuple[int, dict[str, bool]] | None = None

    def __post_init__(self) -> None:
        annotations = {
            "lakegate.io/rollout-image": "localhost/lakegate:1",
            "lakegate.io/rollout-key-secret": "lakegate-reader-key",
        }
        for name, selector in (
            (NAMES.service, {**_SUITE, "app.kubernetes.io/component": "gateway", "lakegate.io/colour": "blue"}),
            *(
                (self.named(c, "gateway"), {"app.kubernetes.io/component": "gateway", "lakegate.io/colour": c})
                for c in self.healthy
            ),
        ):
            port = self.ports.get(selector["lakegate.io/colour"], 8080)
            spec = {"selector": selector, "ports": [{"name": "http", "port": port}], "clusterIP": "127.0.0.1"}
            metadata = {"name": name, "labels": _SUITE, "annotations": annotations}
            self.server.put("services", {"metadata": metadata, "spec": spec})
        self.server.put("configmaps", {"metadata": {"name": NAMES.consumers}})
        for colour in self.healthy:
            for component, replicas in COMPONENTS.items():
                self._install(colour, component, replicas if colour == "blue" else 1)
        if self.route:
            rule = {"backendRefs": [{"name": NAMES.service, "port": 8080}]}
            self.server.put("httproutes", {"metadata": {"name": "lakegate"}, "spec": {"rules": [rule]}})
        self.settle()

    def _install(self, colour: str, component: str, replicas: int) -> None:
        name = self.named(colour, component)
        labels = self.labels(colour, component)
        self.server.put("deployments", {"metadata": {"name": name, "labels": labels}, "spec": {"replicas": replicas}})
        spec = {"scaleTargetRef": {"name": name}, "minReplicas": 1, "maxReplicas": 5}
        self.server.put("horizontalpodautoscalers", {"metadata": {"name": name, "labels": labels}, "spec": spec})

    def named(self, colour: str, component: str) -> str:
        return f"{self.release.format(colour=colour)}-{component}"

    def labels(self, colour: str, component: str) -> dict[str, str]:
        version = {"blue": "1.0", "green": "1.1"}[colour]
        return {
            **_SUITE,
            "app.kubernetes.io/component": component,
            "lakegate.io/colour": colour,
            "app.kubernetes.io/version": version,
        }

    def cluster(self) -> KubernetesCluster:
        return KubernetesCluster(DirectApi(self.server), NAMES)

    def settle(self) -> None:
        """One round of all controllers, if there is anything new to them."""
        state = (self.server.version, dict(self.healthy))
        if state == self._settled:
            return
        for scaler in self.server.all("horizontalpodautoscalers"):
            target = self.server.get("deployments", scaler["spec"]["scaleTargetRef"]["name"])
            # at zero an autoscaler rests
            if 0 < target["spec"]["replicas"] < scaler["spec"]["minReplicas"]:
                target["spec"]["replicas"] = scaler["spec"]["minReplicas"]
                self.server.put("deployments", target)
        for deployment in self.server.all("deployments"):
            self._pods(deployment)
        self._endpoints()
        self._settled = (self.server.version, dict(self.healthy))

    def _pods(self, deployment: dict[str, Any]) -> None:
        name, labels = deployment["metadata"]["name"], deployment["metadata"]["labels"]
        colour, replicas = labels["lakegate.io/colour"], deployment["spec"]["replicas"]
        ready = self.healthy[colour]
        for number in range(max(replicas, 8)):
            pod = f"{name}-{number}"
            if number >= replicas:
                self.server.remove("pods", pod)
                self.members.pop(pod, None)
                continue
            port = self.ports.get(colour, 9080)
            container = {"name": "main", "ports": [{"name": "management", "containerPort": port}]}
            status = {
                "podIP": "127.0.0.1",
                "conditions": [{"type": "Ready", "status": str(ready)}],
                "containerStatuses": [{"state": {"running": {}}}],
            }
            document = {"metadata": {"name": pod, "labels": labels}, "spec": {"containers": [container]}}
            self.server.put("pods", {**document, "status": status})
            if pod not in self.members:
                self.members[pod] = self._report(colour)
        count = replicas if ready else 0
        status = {"replicas": replicas, "readyReplicas": count, "updatedReplicas": replicas}
        generation = deployment["metadata"]["generation"]
        self.server.put("deployments", {**deployment, "status": {**status, "observedGeneration": generation}})

    def _report(self, colour: str) -> Report:
        """A pod that starts reads the ConfigMap."""
        from lakegate.rollout.objects import wanted

        read = wanted(self.server.get("configmaps", NAMES.consumers))
        return Report(read.generation, running=read.generation == 0 or read.colour == colour, settled=True)

    def _endpoints(self) -> None:
        for service in self.server.all("services"):
            selector, name = service["spec"].get("selector") or {}, service["metadata"]["name"]
            endpoints = [
                {"conditions": {"ready": self._is_ready(pod)}, "targetRef": {"name": pod["metadata"]["name"]}}
                for pod in self.server.all("pods")
                if selector and selector.items() <= pod["metadata"]["labels"].items()
            ]
            metadata = {"name": f"{name}-abc", "labels": {"kubernetes.io/service-name": name}}
            self.server.put("endpointslices", {"metadata": metadata, "endpoints": endpoints})

    @staticmethod
    def _is_ready(pod: dict[str, Any]) -> bool:
        return bool(pod["status"]["conditions"][0]["status"] == "True")

    def tell(self, pods: Sequence[Pod], wanted: Wanted) -> dict[str, Report]:
        """The consumers' port: pods of a broken colour don't answer."""
        answers = {}
        for pod in pods:
            known = self.members.get(pod.name)
            if known is None or pod.colour in self.mute:
                continue
            if wanted.generation > known.generation:
                self.members[pod.name] = Report(wanted.generation, pod.colour == wanted.colour, settled=True)
                known = self.members[pod.name]
            runs = pod.colour == wanted.colour
            outdated = wanted.generation < known.generation
            answers[pod.name] = replace(
                known, refused=outdated or (wanted.generation == known.generation and known.running != runs)
            )
        return answers

    def smoke(self, rollout: Rollout, world: World) -> str:
        bad = rollout.to_colour in self.failing or not self.healthy[rollout.to_colour]
        return "/readyz: 503" if bad else ""

    def load(self, rollout: Rollout, world: World) -> Sample:
        return Sample(100, 100 if self.smoke(rollout, world) else 0, 0, "500")

    def usual(self, rollout: Rollout, world: World) -> Answers | None:
        return Answers(ok=20)

    def traffic(self, rollout: Rollout, world: World) -> Traffic:
        bad = rollout.to_colour in self.failing
        return Traffic(Sample(20, 20 if bad else 0, 0, "500"), Answers(failed=1) if bad else Answers(ok=1))

    @property
    def selected(self) -> str | None:
        selector = self.server.get("services", NAMES.service)["spec"].get("selector") or {}
        return selector.get("lakegate.io/colour")

    def replicas(self, colour: str, component: str = "gateway") -> int:
        count: int = self.server.get("deployments", self.named(colour, component))["spec"]["replicas"]
        return count

    def is_whole(self, colour: str, floor: int = 1) -> bool:
        return self.healthy[colour] and all(self.replicas(colour, component) >= floor for component in COMPONENTS)

    def is_whole_in_replicas(self, colour: str) -> bool:
        """Whether it is meant to have pods of each kind, whatever their health."""
        return all(self.replicas(colour, component) >= 1 for component in COMPONENTS)

    def consuming(self) -> set[str]:
        """Colours with a running consumer."""
        return {name.split("-")[1] for name, report in self.members.items() if report.running}
